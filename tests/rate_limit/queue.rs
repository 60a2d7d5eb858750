//! What calls that do not wait find while others do.

use super::wait::{Answer, MS, WINDOW, call, refused, waiting};
use buttress::{
    Now, RateLimiter,
    guard::{Admission, End, Guard, GuardBase},
    rate_limit::WaitingLimiter,
};
use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Wake, Waker},
    time::Duration,
};
use tokio_test::{assert_pending, assert_ready, task};

/// Calls through the limiter itself that come while somebody waits are told the same as those
/// before them, until something changes.
#[tokio::test(start_paused = true)]
async fn what_a_refused_call_is_told_changes_with_the_queue() {
    let limiter = RateLimiter::builder("api", 2, WINDOW).cost(|cost: &u32| *cost);
    let limiter = limiter.build().unwrap();
    let told = |cost: u32| match limiter.admit(&cost, &Now::lazy()) {
        Admission::Refused(rejected) => rejected.retry_after(),
        _ => None,
    };
    let waits = limiter.wait_up_to(Duration::MAX);
    let op = || buttress::guard::run(&waits, &1, async || Answer::Ok(MS));
    op().await.unwrap();
    let Admission::Admitted(permit) = limiter.admit(&1, &Now::lazy()) else {
        panic!("there is room for two");
    };
    let mut waiters: Vec<_> = (0..3).map(|_| task::spawn(op())).collect();
    assert_pending!(waiters[0].poll());
    for _ in 0..2 {
        assert_eq!(told(1), Some(WINDOW));
        assert_eq!(told(2), Some(2 * WINDOW));
        assert_eq!(told(3), None);
    }
    assert_pending!(waiters[1].poll());
    assert_eq!(told(1), Some(2 * WINDOW));
    assert_pending!(waiters[2].poll());
    assert_eq!(told(1), Some(2 * WINDOW));
    drop(waiters.pop());
    drop(waiters.pop());
    assert_eq!(told(1), Some(WINDOW));
    limiter.set_quota(1).unwrap();
    assert_eq!(told(1), Some(2 * WINDOW));
    limiter.set_quota(2).unwrap();
    assert_eq!(told(1), Some(WINDOW));
    limiter.settle(permit, End::NeverStarted, &Now::lazy());
    assert!(waiters[0].is_woken());
    // There is room, but it is not theirs: for a tenth of a second.
    assert_eq!(told(1), Some(WINDOW));
    assert!(assert_ready!(waiters[0].poll()).is_ok());
    tokio::time::advance(WINDOW).await;
    assert_eq!(told(1), None);
}

/// A waker is the application's code: dropped under the queue's lock, one that looks at the limiter
/// would wait for itself.
#[tokio::test(start_paused = true)]
async fn a_waker_that_makes_a_call_when_it_is_dropped_does_not_block() {
    struct Calls(WaitingLimiter, Arc<AtomicUsize>);
    impl Wake for Calls {
        fn wake(self: Arc<Self>) {}
    }
    impl Drop for Calls {
        fn drop(&mut self) {
            self.1.fetch_add(1, SeqCst);
            assert_pending!(task::spawn(call(&self.0)).poll());
        }
    }
    let limiter = waiting(1, 20 * WINDOW);
    call(&limiter).await.unwrap();
    let dropped = Arc::new(AtomicUsize::new(0));
    let waker = || Waker::from(Arc::new(Calls(limiter.clone(), dropped.clone())));
    let mut keeps_the_queue = task::spawn(call(&limiter));
    assert_pending!(keeps_the_queue.poll());
    let mut waits: Vec<Pin<Box<dyn Future<Output = Answer>>>> = Vec::new();
    for _ in 0..4 {
        waits.push(Box::pin(call(&limiter)));
    }
    let poll = |wait: &mut Pin<Box<dyn Future<Output = Answer>>>, waker: Waker| {
        let mut cx = Context::from_waker(&waker);
        wait.as_mut().poll(&mut cx).is_pending()
    };
    for wait in &mut waits {
        assert!(poll(wait, waker()));
    }
    // Replaced, abandoned, and not needed because the same one is noted.
    assert!(poll(&mut waits[0], waker()));
    assert_eq!(dropped.load(SeqCst), 1);
    drop(waits.pop());
    assert_eq!(dropped.load(SeqCst), 2);
    let same = waker();
    assert!(poll(&mut waits[0], same.clone()));
    assert!(poll(&mut waits[0], same));
    assert_eq!(dropped.load(SeqCst), 3);
    // Put out by whoever comes by, once their time is over.
    tokio::time::advance(20 * WINDOW + Duration::from_millis(1)).await;
    assert_eq!(refused(&limiter).await, None);
    assert_eq!(dropped.load(SeqCst), 6);
}
