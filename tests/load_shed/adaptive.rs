//! What a limit that changes is told, and what its changes do.

use crate::support::*;
use buttress::{
    ErrorsAsFailures, Guard, GuardBase, Kind, LoadShed, Now, Outcome, Rejected, Time,
    guard::{Admission, End},
    load_shed::limit::{Limit, NextWindow, SampleWindow},
};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::time::advance;
use tokio_test::{assert_pending, assert_ready, assert_ready_eq, task::spawn};
use tower::{Layer, Service, ServiceExt, service_fn};

const MS: Duration = Duration::from_millis(1);

/// Writes down its windows, and does as it is told.
#[derive(Clone, Debug)]
struct Told {
    limit: Arc<AtomicUsize>,
    windows: Arc<Mutex<Vec<SampleWindow>>>,
    close: NextWindow,
}

impl Told {
    fn new(limit: usize, ends: u64, min: Duration) -> Self {
        let mut close = NextWindow::after(ends);
        (close.min, close.max, close.latencies) = (min, 10 * min, 0.0);
        (close.short, close.long) = (50 * MS, 200 * MS);
        Self {
            limit: Arc::new(AtomicUsize::new(limit)),
            windows: Arc::default(),
            close,
        }
    }

    fn shed(&self) -> LoadShed {
        LoadShed::builder("api")
            .limit(self.clone())
            .build()
            .unwrap()
    }

    fn last(&self) -> SampleWindow {
        *self
            .windows
            .lock()
            .unwrap()
            .last()
            .expect("a window has closed")
    }
}

impl Limit for Told {
    fn initial(&self) -> usize {
        self.limit.load(SeqCst)
    }
    fn close(&self) -> NextWindow {
        self.close
    }
    fn on_window(&mut self, window: &SampleWindow, _: Time) -> usize {
        self.windows.lock().unwrap().push(*window);
        self.limit.load(SeqCst)
    }
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-6
}

#[tokio::test(start_paused = true)]
async fn a_window_tells_how_many_calls_ran_for_how_long_and_how_they_ended() {
    let mut told = Told::new(4, 1_000, MS);
    told.close.max = 330 * MS;
    let inner = Manual::default();
    let mut service = told
        .shed()
        .layer()
        .classify(ErrorsAsFailures)
        .layer(inner.clone());
    // The first end begins the first window.
    let mut first = spawn(service.call(0));
    assert_pending!(first.poll());
    inner.end();
    assert_ready_eq!(first.poll(), Ok(0));

    let mut calls: Vec<_> = (0..4).map(|n| spawn(service.call(n))).collect();
    for call in &mut calls {
        assert_pending!(call.poll());
    }
    assert_eq!(kind(service.call(9).await), Some(Kind::Overloaded));
    advance(20 * MS).await;
    drop(calls.pop()); // short: as if it had not been
    inner.end();
    assert_ready_eq!(calls[0].poll(), Ok(0));
    inner.end_with(Err(E::Boom));
    assert_ready_eq!(calls[1].poll(), Err(E::Boom));
    advance(230 * MS).await;
    inner.end_with(Err(E::Boom)); // a timeout in disguise
    assert_ready!(calls[2].poll()).unwrap_err();
    let mut lost = spawn(service.call(5));
    assert_pending!(lost.poll());
    advance(60 * MS).await;
    drop(lost); // late enough to mean something
    for _ in 0..2 {
        let mut quick = spawn(service.call(6));
        assert_pending!(quick.poll());
        while inner.running().first() != Some(&6) {
            inner.end();
        }
        advance(10 * MS).await;
        inner.end();
        assert_ready_eq!(quick.poll(), Ok(0));
    }

    let window = told.last();
    assert_eq!((window.completions, window.failures), (3, 1), "{window:?}");
    assert_eq!((window.lost, window.overloaded), (2, 0));
    assert_eq!((window.limit, window.peak_in_flight), (4, 4));
    assert!(window.used && close(window.seconds(), 0.33), "{window:?}");
    // 2 x 20 ms, 250 ms, 60 ms, 2 x 10 ms
    assert!(close(window.in_flight_integral, 0.37), "{window:?}");
    assert!(
        close(window.latency_sum, 0.04) && close(window.latency_min, 0.01),
        "{window:?}"
    );
    assert!(close(window.latency_squares, 0.0006), "{window:?}");
    // One of eight arrivals.
    assert!(close(window.saturated_share, 1.0 / 8.0), "{window:?}");
}

#[tokio::test(start_paused = true)]
async fn a_call_in_a_wait_of_another_policy_is_not_in_flight_from_the_beginning_of_that() {
    // Every end after 10 ms closes a window.
    let told = Told::new(4, 1, MS);
    let shed = told.shed();
    let admit = || match Guard::<()>::admit(&shed, &(), &Now::lazy()) {
        Admission::Admitted(mut permit) => {
            shed.on_pending(&mut permit, &Now::lazy());
            permit
        }
        other => panic!("{other:?}"),
    };
    let end = |permit| shed.settle(permit, End::Done(Outcome::Success), &Now::lazy());
    // The first end begins the first window.
    end(admit());
    let mut waits = admit();
    advance(20 * MS).await;
    shed.on_wait_begin(&mut waits, &Now::lazy());
    for (in_window, integral) in [(100, 0.02), (50, 0.0)] {
        advance(in_window * MS).await;
        end(admit());
        let window = told.last();
        assert_eq!(window.completions, 1);
        assert!(close(window.in_flight_integral, integral), "{window:?}");
    }
    shed.on_wait_end(&mut waits, 150 * MS, &Now::lazy());
    advance(10 * MS).await;
    end(waits);
    let window = told.last();
    assert!(close(window.in_flight_integral, 0.01), "{window:?}");
    assert!(close(window.latency_sum, 0.03), "{window:?}");
    // One that is settled in a wait leaves nothing behind either.
    let mut left = admit();
    shed.on_wait_begin(&mut left, &Now::lazy());
    shed.settle(left, End::Cancelled, &Now::lazy());
    for _ in 0..2 {
        advance(100 * MS).await;
        end(admit());
    }
    let window = told.last();
    assert!(close(window.in_flight_integral, 0.0), "{window:?}");
    assert_at_rest(&shed);
}

#[tokio::test(start_paused = true)]
async fn calls_that_a_service_below_refused_are_told_apart() {
    let told = Told::new(10, 4, MS);
    let full = Rejected::new(Kind::Overloaded, "below");
    let layer = told
        .shed()
        .layer()
        .classify(|result: Result<&u32, &E>| match result {
            Ok(_) => Outcome::Success,
            Err(_) => Outcome::Overloaded { retry_after: None },
        });
    let mut service = layer.layer(service_fn(async |_: u32| Err::<u32, E>(E::Rejected(full))));
    for _ in 0..64 {
        advance(MS).await;
        service.call(1).await.unwrap_err();
    }
    let seen: u64 = told
        .windows
        .lock()
        .unwrap()
        .iter()
        .map(|w| w.overloaded)
        .sum();
    assert!(seen >= 40, "{seen}");
    assert_eq!(told.last().completions, 0);
}

#[tokio::test(start_paused = true)]
async fn calls_that_end_at_once_are_counted_by_samples() {
    let told = Told::new(10, 100, 10 * MS);
    let mut service = told
        .shed()
        .layer()
        .classify(ErrorsAsFailures)
        .layer(service_fn(async |n: u32| Ok::<_, E>(n)));
    for n in 0..3_200 {
        if n % 10 == 0 {
            advance(MS).await;
        }
        service.call(n).await.unwrap();
    }
    let windows = told.windows.lock().unwrap();
    let seen: u64 = windows.iter().map(|window| window.completions).sum();
    assert!(
        (3_000..=3_200).contains(&seen),
        "{seen} in {}",
        windows.len()
    );
    assert!(windows.iter().all(|window| !window.used));
}

#[tokio::test(start_paused = true)]
async fn calls_that_were_held_back_and_end_at_once_are_counted_once_each() {
    let told = Told::new(1, 100, 10 * MS);
    let layer = told
        .shed()
        .backpressure()
        .layer()
        .classify(ErrorsAsFailures);
    let service = || layer.layer(service_fn(async |n: u32| Ok::<_, E>(n)));
    let (mut one, mut other) = (service(), service());
    one.ready().await.unwrap();
    for n in 0..3_200 {
        if n % 10 == 0 {
            advance(MS).await;
        }
        // The one that calls makes room for the other, who has been waiting for it.
        let mut waiting = spawn(other.ready());
        assert_pending!(waiting.poll());
        one.call(n).await.unwrap();
        assert_ready!(waiting.poll()).unwrap();
        drop(waiting);
        std::mem::swap(&mut one, &mut other);
    }
    let windows = told.windows.lock().unwrap();
    let seen: u64 = windows.iter().map(|window| window.completions).sum();
    assert!((3_000..=3_200).contains(&seen), "{seen}");
}

#[tokio::test(start_paused = true)]
async fn a_higher_limit_wakes_those_who_wait_and_a_lower_one_lets_running_calls_end() {
    let told = Told::new(1, 1, MS);
    let (shed, inner) = (told.shed(), Manual::default());
    let mut service = shed
        .queued()
        .layer()
        .classify(ErrorsAsFailures)
        .layer(inner.clone());
    let mut first = spawn(service.call(0));
    assert_pending!(first.poll());
    inner.end();
    assert_ready!(first.poll()).unwrap();

    let mut first = spawn(service.call(1));
    assert_pending!(first.poll());
    let mut waiting: Vec<_> = (2..6).map(|n| spawn(service.call(n))).collect();
    for call in &mut waiting {
        assert_pending!(call.poll());
    }
    told.limit.store(4, SeqCst);
    advance(20 * MS).await;
    inner.end();
    assert_ready!(first.poll()).unwrap();
    assert!(waiting.iter().all(|call| call.is_woken()));
    for call in &mut waiting {
        assert_pending!(call.poll());
    }
    assert_eq!(inner.running(), [2, 3, 4, 5]);

    told.limit.store(2, SeqCst);
    advance(20 * MS).await;
    inner.end();
    assert_ready!(waiting[0].poll()).unwrap();
    let snapshot = shed.snapshot();
    assert_eq!((snapshot.limit, snapshot.in_flight), (2, 3));
    let mut late = spawn(service.call(7));
    assert_pending!(late.poll());
    inner.end();
    assert_ready!(waiting[1].poll()).unwrap();
    assert_pending!(late.poll());
    inner.end();
    assert_ready!(waiting[2].poll()).unwrap();
    assert_pending!(late.poll());
    assert_eq!(inner.running(), [5, 7]);
    drop((waiting, late));
    assert_at_rest(&shed);
}

#[tokio::test(start_paused = true)]
async fn cancelled_calls_close_windows_though_nothing_else_ends() {
    let told = Told::new(1, 1, 10 * MS);
    let mut service = told
        .shed()
        .layer()
        .classify(ErrorsAsFailures)
        .layer(Manual::default());
    for _ in 0..3 {
        let mut hung = spawn(service.call(0));
        assert_pending!(hung.poll());
        advance(300 * MS).await;
        drop(hung);
    }
    let window = told.last();
    assert_eq!((window.lost, window.completions), (1, 0));
    assert!(close(window.in_flight_integral, 0.3), "{window:?}");
}

#[tokio::test(start_paused = true)]
async fn rejections_close_a_window_in_which_nothing_ends() {
    let told = Told::new(1, 1, MS);
    let mut service = told
        .shed()
        .layer()
        .classify(ErrorsAsFailures)
        .layer(Manual::default());
    let mut hung = spawn(service.call(0));
    assert_pending!(hung.poll());
    for _ in 0..20 {
        assert_eq!(kind(service.call(1).await), Some(Kind::Overloaded));
        advance(2 * MS).await;
    }
    let window = told.last();
    assert!(
        window.used && window.ends() == 0 && window.saturated_share == 1.0,
        "{window:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_that_has_become_long_lived_is_beside_the_limit_and_gives_its_place_back() {
    let mut told = Told::new(2, 1, 10 * MS);
    told.close.long_lived = 100 * MS;
    let (shed, inner) = (told.shed(), Manual::default());
    let mut service = shed.layer().classify(ErrorsAsFailures).layer(inner.clone());
    let mut streams: Vec<_> = (0..2).map(|n| spawn(service.call(n))).collect();
    for stream in &mut streams {
        assert_pending!(stream.poll());
    }
    let mut refused = 0;
    let first = loop {
        let mut call = spawn(service.call(2));
        if call.poll().is_pending() {
            break call;
        }
        refused += 1;
        advance(10 * MS).await;
    };
    // At that age, or a quarter later.
    assert!((10..=13).contains(&refused), "{refused}");
    // Neither refused, nor ended: it comes beside them, and so does another one.
    let mut quick = vec![first, spawn(service.call(3))];
    for call in &mut quick {
        assert_pending!(call.poll());
    }
    let snapshot = shed.snapshot();
    assert_eq!(
        (snapshot.limit, snapshot.long_lived, snapshot.in_flight),
        (2, 2, 4)
    );
    assert_eq!(kind(service.call(9).await), Some(Kind::Overloaded));
    // A stream that ends takes its place with it.
    drop(streams.pop());
    let snapshot = shed.snapshot();
    assert_eq!((snapshot.long_lived, snapshot.in_flight), (1, 3));
    assert_eq!(kind(service.call(9).await), Some(Kind::Overloaded));
    drop((streams, quick));
    advance(10 * MS).await;
    assert_eq!(shed.snapshot().long_lived, 0);
    assert_at_rest(&shed);
}
