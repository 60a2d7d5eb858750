//! However calls end, permits in use and permits free are the limit.

use crate::support::*;
use buttress::{
    ErrorsAsFailures, LoadShed, Time,
    load_shed::limit::{Limit, NextWindow, SampleWindow},
};
use proptest::prelude::*;
use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio_test::task::{Spawn, spawn};
use tower::{Layer, Service, ServiceExt, service_fn};

#[derive(Clone, Copy, Debug)]
enum Op {
    Immediate,
    Queue,
    Reserve,
    Poll(usize),
    Drop(usize),
    End,
    Pass(u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        1 => Just(Op::Immediate),
        3 => Just(Op::Queue),
        1 => Just(Op::Reserve),
        4 => any::<usize>().prop_map(Op::Poll),
        2 => any::<usize>().prop_map(Op::Drop),
        3 => Just(Op::End),
        1 => (1_u64..60).prop_map(Op::Pass),
    ]
}

type Call = Spawn<Pin<Box<dyn Future<Output = Result<u32, E>>>>>;

async fn apply(limit: usize, ops: Vec<Op>) {
    let (shed, inner) = (fixed(limit), Manual::default());
    let mut at_once = shed.layer().classify(ErrorsAsFailures).layer(inner.clone());
    let mut queued = shed
        .queued()
        .layer()
        .classify(ErrorsAsFailures)
        .layer(inner.clone());
    let reserving = shed
        .backpressure()
        .layer()
        .classify(ErrorsAsFailures)
        .layer(inner.clone());
    let mut calls: Vec<Call> = Vec::new();
    for op in ops {
        match op {
            Op::Immediate => calls.push(spawn(Box::pin(at_once.call(1)))),
            Op::Queue => calls.push(spawn(Box::pin(queued.call(2)))),
            Op::Reserve => calls.push(spawn(Box::pin(reserving.clone().oneshot(3)))),
            Op::Poll(n) if !calls.is_empty() => {
                let n = n % calls.len();
                if calls[n].poll().is_ready() {
                    drop(calls.swap_remove(n));
                }
            }
            Op::Drop(n) if !calls.is_empty() => drop(calls.swap_remove(n % calls.len())),
            Op::End if !inner.running().is_empty() => inner.end(),
            Op::Pass(ms) => tokio::time::advance(Duration::from_millis(ms)).await,
            _ => {}
        }
        let snapshot = shed.snapshot();
        assert!(snapshot.in_flight <= limit, "{snapshot:?}");
        // A permit lies idle only if nobody waits for it.
        assert!(
            snapshot.queued == 0 || snapshot.in_flight == limit,
            "{snapshot:?}"
        );
    }
    drop(calls);
    assert_at_rest(&shed);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]
    #[test]
    fn whatever_happens_the_limit_holds_and_comes_back_whole(
        limit in 1_usize..5,
        ops in proptest::collection::vec(op(), 0..80),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(apply(limit, ops));
    }
}

/// Many tasks on real threads, of which some give up: the most that were in at once.
async fn crowd(shed: &LoadShed, calls: usize) -> usize {
    let inside = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let service = service_fn({
        let most = most.clone();
        move |n: u32| {
            struct Inside(Arc<AtomicUsize>);
            impl Drop for Inside {
                fn drop(&mut self) {
                    self.0.fetch_sub(1, SeqCst);
                }
            }
            most.fetch_max(inside.fetch_add(1, SeqCst) + 1, SeqCst);
            let inside = Inside(inside.clone());
            async move {
                for _ in 0..n % 4 {
                    tokio::task::yield_now().await;
                }
                drop(inside);
                Ok::<_, E>(n)
            }
        }
    });
    let queued = shed
        .queued()
        .layer()
        .classify(ErrorsAsFailures)
        .layer(service.clone());
    let reserving = shed
        .backpressure()
        .layer()
        .classify(ErrorsAsFailures)
        .layer(service.clone());
    let at_once = shed.layer().classify(ErrorsAsFailures).layer(service);
    let tasks: Vec<_> = (0..calls)
        .map(|n| {
            let n = n as u32;
            let (queued, reserving, at_once) = (queued.clone(), reserving.clone(), at_once.clone());
            tokio::spawn(async move {
                let patience = Duration::from_micros(u64::from(n % 7) * 40);
                match n % 3 {
                    0 => drop(queued.oneshot(n).await),
                    1 if n.is_multiple_of(2) => drop(at_once.oneshot(n).await),
                    1 => drop(reserving.oneshot(n).await),
                    _ => drop(tokio::time::timeout(patience, queued.oneshot(n)).await),
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    most.load(SeqCst)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn on_many_threads_the_limit_is_never_passed_and_no_permit_is_lost() {
    for limit in [1, 3, 8] {
        let shed = fixed(limit);
        let most = crowd(&shed, 10_000).await;
        assert!(most <= limit, "{most} of {limit}");
        assert_at_rest(&shed);
    }
}

/// A limit that jumps about.
#[derive(Debug)]
struct Restless(usize);
impl Limit for Restless {
    fn initial(&self) -> usize {
        8
    }
    fn close(&self) -> NextWindow {
        let mut close = NextWindow::after(5);
        close.min = Duration::ZERO;
        close
    }
    fn on_window(&mut self, _: &SampleWindow, _: Time) -> usize {
        self.0 = (self.0 * 5 + 3) % 8;
        self.0 + 1
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_limit_that_changes_all_the_time_loses_nothing_either() {
    let shed = LoadShed::builder("api").limit(Restless(0)).build().unwrap();
    let most = crowd(&shed, 20_000).await;
    assert!(most <= 8, "{most}");
    assert_at_rest(&shed);
}
