//! Waiting in order for a place in the window.

use buttress::{
    Error, Kind, Now, RateLimiter, Rejected, Time,
    guard::{Admission, End, Guard, GuardBase},
    rate_limit::{Algorithm, WaitingLimiter},
};
use futures::{FutureExt, future::join_all};
use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Wake, Waker},
    time::Duration,
};
use tokio_test::{assert_pending, assert_ready, task};

pub(crate) const MS: Duration = Duration::from_millis(1);
pub(crate) const WINDOW: Duration = Duration::from_millis(100);

pub(crate) type Answer = Result<Duration, Error<Infallible>>;

pub(crate) fn waiting(quota: u32, max: Duration) -> WaitingLimiter {
    let limiter = RateLimiter::new("api", quota, WINDOW).unwrap();
    limiter.wait_up_to(max)
}

/// How long the call waited.
pub(crate) async fn call(limiter: &WaitingLimiter) -> Answer {
    let start = Time::now();
    limiter.run(async || Answer::Ok(elapsed(start))).await
}

fn rejected<T: std::fmt::Debug>(answer: Result<T, Error<Infallible>>) -> Rejected {
    match answer {
        Err(Error::Rejected(rejected)) => rejected,
        answer => panic!("{answer:?}"),
    }
}

fn elapsed(start: Time) -> Duration {
    Time::now().since(start)
}

/// Timers have a resolution of a millisecond.
fn close(waited: Duration, expected: Duration) -> bool {
    waited >= expected && waited <= expected + 5 * MS
}

#[tokio::test(start_paused = true)]
async fn calls_are_let_in_in_order_when_their_place_is_there() {
    let limiter = waiting(2, 10 * WINDOW);
    let order = Mutex::new(Vec::new());
    join_all((0..7).map(async |i| {
        let waited = call(&limiter).await.unwrap();
        order.lock().unwrap().push(i);
        assert!(close(waited, WINDOW * (i / 2)), "{i}: {waited:?}");
    }))
    .await;
    assert_eq!(order.into_inner().unwrap(), (0..7).collect::<Vec<_>>());
    assert_eq!(limiter.snapshot().waiting, 0);
    assert_eq!(limiter.snapshot().admitted_total, 7);
}

#[tokio::test(start_paused = true)]
async fn a_hopeless_wait_is_refused_at_once_with_what_it_would_have_been() {
    let limiter = waiting(2, WINDOW * 3 / 2);
    let start = Time::now();
    let mut calls: Vec<_> = (0..5).map(|_| task::spawn(call(&limiter))).collect();
    for call in &mut calls[..2] {
        assert!(assert_ready!(call.poll()).is_ok());
    }
    for call in &mut calls[2..4] {
        assert_pending!(call.poll());
    }
    // The fifth is the first of the third window.
    let refused = rejected(assert_ready!(calls[4].poll()));
    assert_eq!(elapsed(start), Duration::ZERO);
    assert_eq!(refused.kind(), Kind::RateLimited);
    assert_eq!(refused.retry_after(), Some(2 * WINDOW));
}

#[tokio::test(start_paused = true)]
async fn a_wait_past_the_callers_deadline_is_refused_at_once() {
    let limiter = waiting(1, Duration::MAX);
    call(&limiter).await.unwrap();
    let mut context = buttress::context::current();
    context.deadline = Some(Time::now().after(WINDOW / 2));
    let late = context.enter(|| call(&limiter).now_or_never());
    let rejected = rejected(late.unwrap());
    assert!(close(rejected.retry_after().unwrap(), WINDOW));
}

#[tokio::test(start_paused = true)]
async fn waiting_for_ever_is_allowed() {
    let limiter = waiting(1, Duration::MAX);
    for i in 0..5 {
        let waited = call(&limiter).await.unwrap();
        assert!(i == 0 || close(waited, WINDOW));
    }
}

#[tokio::test(start_paused = true)]
async fn a_cost_above_the_quota_never_waits() {
    let limiter = RateLimiter::builder("api", 3, WINDOW)
        .cost(|_: &()| 4)
        .build();
    let limiter = limiter.unwrap().wait_up_to(Duration::MAX);
    let answer = limiter.run(async || Ok::<_, Error<Infallible>>(())).await;
    assert_eq!(rejected(answer).retry_after(), None);
}

#[tokio::test(start_paused = true)]
async fn nobody_overtakes_those_who_wait() {
    let limiter = waiting(1, Duration::MAX);
    let plain = limiter.limiter().clone();
    call(&limiter).await.unwrap();
    let mut first = task::spawn(call(&limiter));
    assert_pending!(first.poll());
    tokio::time::advance(WINDOW + MS).await;
    // There is a place now, but it is not theirs.
    let refused = rejected(plain.run(async || Answer::Ok(WINDOW)).await);
    assert!(close(refused.retry_after().unwrap(), WINDOW));
    assert_pending!(task::spawn(call(&limiter)).poll());
    assert!(assert_ready!(first.poll()).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_dropped_waiter_leaves_the_queue_and_wakes_the_next() {
    let limiter = waiting(1, Duration::MAX);
    call(&limiter).await.unwrap();
    let mut first = task::spawn(call(&limiter));
    let mut second = task::spawn(call(&limiter));
    assert_pending!(first.poll());
    assert_pending!(second.poll());
    tokio::time::advance(WINDOW + MS).await;
    assert!(!second.is_woken());
    drop(first);
    assert!(second.is_woken());
    assert!(assert_ready!(second.poll()).is_ok());
    assert_eq!(limiter.snapshot().waiting, 0);
}

#[tokio::test(start_paused = true)]
async fn those_behind_the_first_are_not_polled_while_they_wait() {
    let limiter = waiting(1, Duration::MAX);
    call(&limiter).await.unwrap();
    let polls = Arc::new(AtomicUsize::new(0));
    let waiters: Vec<_> = (0..20)
        .map(|_| {
            let (limiter, polls) = (limiter.clone(), polls.clone());
            tokio::spawn(async move {
                let mut call = std::pin::pin!(call(&limiter));
                let counted = futures::future::poll_fn(|cx| {
                    polls.fetch_add(1, SeqCst);
                    call.as_mut().poll(cx)
                });
                counted.await
            })
        })
        .collect();
    for waiter in waiters {
        waiter.await.unwrap().unwrap();
    }
    // Its first, when it became the first, when its time had come.
    assert!(polls.load(SeqCst) <= 20 * 3 + 5, "{polls:?}");
}

#[tokio::test(start_paused = true)]
async fn a_raised_quota_lets_in_those_who_wait_and_a_lowered_one_keeps_what_is_admitted() {
    for quota in [1, 2_000] {
        let limiter = waiting(quota, Duration::MAX);
        let plain = limiter.limiter().clone();
        join_all((0..quota).map(|_| call(&limiter))).await;
        let mut waiters: Vec<_> = (0..3).map(|_| task::spawn(call(&limiter))).collect();
        for waiter in &mut waiters {
            assert_pending!(waiter.poll());
        }
        plain.set_quota(quota + 2).unwrap();
        for waiter in &mut waiters[..2] {
            assert!(waiter.is_woken());
            assert!(assert_ready!(waiter.poll()).is_ok());
        }
        assert_pending!(waiters[2].poll());
        plain.set_quota(1).unwrap();
        drop(waiters);
        let status = plain.status(&());
        assert_eq!((status.quota, status.remaining), (1, 0));
        assert!(plain.run(async || Answer::Ok(WINDOW)).await.is_err());
        assert_eq!(plain.snapshot().admitted_total, u64::from(quota) + 2);
        assert!(plain.set_quota(0).is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_given_back_wakes_the_first_in_the_queue() {
    for quota in [1, 2_000] {
        let limiter = waiting(quota, Duration::MAX);
        let plain = limiter.limiter();
        let mut permits = Vec::new();
        while let Admission::Admitted(permit) = plain.admit(&(), &Now::lazy()) {
            permits.push(permit);
        }
        assert_eq!(permits.len(), quota as usize);
        let mut first = task::spawn(call(&limiter));
        assert_pending!(first.poll());
        plain.settle(permits.pop().unwrap(), End::NeverStarted, &Now::lazy());
        assert!(first.is_woken());
        assert!(assert_ready!(first.poll()).is_ok());
    }
}

/// Calls through the limiter itself that are refused, and when to come back.
pub(crate) async fn refused(limiter: &WaitingLimiter) -> Option<Duration> {
    let answer = limiter.limiter().run(async || Answer::Ok(MS)).await;
    answer.err().map(|error| {
        let rejected = rejected(Answer::Err(error));
        rejected.retry_after().unwrap_or(Duration::MAX)
    })
}

#[tokio::test(start_paused = true)]
async fn a_first_that_is_never_polled_is_passed_a_tenth_of_a_second_after_its_turn() {
    let limiter = waiting(1, 50 * WINDOW);
    call(&limiter).await.unwrap();
    let mut stuck = task::spawn(call(&limiter));
    assert_pending!(stuck.poll());
    // The second expects to be let in after two windows, and then looks who is in front of it.
    let (second, third) = futures::join!(call(&limiter), call(&limiter));
    assert!(close(second.unwrap(), 3 * WINDOW));
    assert!(close(third.unwrap(), 4 * WINDOW));
    // The one that was passed holds up nobody, and still is the first when it is polled.
    assert_eq!(limiter.snapshot().waiting, 1);
    assert!(refused(&limiter).await.is_some());
    let mut fourth = task::spawn(call(&limiter));
    assert_pending!(fourth.poll());
    assert_pending!(stuck.poll());
    tokio::time::advance(WINDOW).await;
    assert_pending!(fourth.poll());
    assert!(assert_ready!(stuck.poll()).is_ok());
    tokio::time::advance(WINDOW).await;
    assert!(assert_ready!(fourth.poll()).is_ok());
    assert_eq!(limiter.snapshot().waiting, 0);
}

#[tokio::test(start_paused = true)]
async fn a_first_whose_wait_is_over_refuses_nobody() {
    let limiter = waiting(10, 3 * WINDOW);
    for _ in 0..10 {
        call(&limiter).await.unwrap();
    }
    let mut stuck: Vec<_> = (0..5).map(|_| task::spawn(call(&limiter))).collect();
    stuck
        .iter_mut()
        .for_each(|stuck| assert_pending!(stuck.poll()));
    tokio::time::advance(10 * WINDOW).await;
    for _ in 0..5 {
        assert_eq!(refused(&limiter).await, None);
        assert_eq!(call(&limiter).await.unwrap(), Duration::ZERO);
    }
    assert_eq!(limiter.snapshot().waiting, 0);
    // They are told when they are polled, and leave nothing when they are dropped.
    let over = assert_ready!(stuck.remove(0).poll());
    assert_eq!(rejected(over).kind(), Kind::RateLimited);
    drop(stuck);
    assert_eq!(limiter.snapshot().waiting, 0);
}

#[tokio::test(start_paused = true)]
async fn calls_that_do_not_wait_are_told_when_a_first_that_does_not_take_its_turn_is_passed() {
    let limiter = waiting(1, 50 * WINDOW);
    call(&limiter).await.unwrap();
    let mut stuck = task::spawn(call(&limiter));
    assert_pending!(stuck.poll());
    tokio::time::advance(WINDOW + 30 * MS).await;
    let again = refused(&limiter).await.unwrap();
    assert!(again >= 70 * MS, "{again:?}");
    tokio::time::advance(70 * MS).await;
    assert_eq!(refused(&limiter).await, None);
    // As long as it waits, nobody passes one that finds no room.
    assert_pending!(stuck.poll());
    let mut next = task::spawn(call(&limiter));
    assert_pending!(next.poll());
    tokio::time::advance(99 * MS).await;
    assert_pending!(next.poll());
    assert!(
        assert_ready!({
            tokio::time::advance(MS).await;
            stuck.poll()
        })
        .is_ok()
    );
}

#[tokio::test(start_paused = true)]
async fn every_key_has_a_queue_of_its_own() {
    let limiter = RateLimiter::builder("api", 1, WINDOW).keyed(|key: &u8| *key);
    let limiter = limiter.build().unwrap().wait_up_to(Duration::MAX);
    let go = async |key: u8| {
        let start = Time::now();
        let op = async || Ok::<_, Error<Infallible>>(());
        buttress::guard::run(&limiter, &key, op).await.unwrap();
        elapsed(start)
    };
    let waits = join_all([0, 0, 1, 0, 1].map(go)).await;
    for (waited, windows) in waits.into_iter().zip([0, 1, 0, 2, 1]) {
        assert!(close(waited, windows * WINDOW), "{waited:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn weighted_calls_wait_for_all_they_cost_and_are_told_the_right_time() {
    let limiter = RateLimiter::builder("api", 4, WINDOW).cost(|cost: &u32| *cost);
    let limiter = limiter.build().unwrap().wait_up_to(5 * WINDOW / 2);
    let go = async |cost: u32| {
        let start = Time::now();
        let op = async || Ok::<_, Error<Infallible>>(());
        let answer = buttress::guard::run(&limiter, &cost, op).await;
        answer.map(|()| elapsed(start))
    };
    // 3 | 3 | 3 1, and a 2 in the window after: too late.
    let waits = join_all([3, 3, 3, 1, 2].map(go)).await;
    for (answer, windows) in waits[..4].iter().zip([0, 1, 2, 2]) {
        let waited = *answer.as_ref().unwrap();
        assert!(close(waited, windows * WINDOW), "{waited:?}");
    }
    let retry_after = rejected(waits[4]).retry_after().unwrap();
    assert!(close(retry_after, 3 * WINDOW), "{retry_after:?}");
}

#[tokio::test(start_paused = true)]
async fn under_gcra_calls_wait_for_their_interval() {
    let limiter = RateLimiter::builder("api", 10, WINDOW).algorithm(Algorithm::Gcra { burst: 1 });
    let limiter = limiter.build().unwrap().wait_up_to(WINDOW / 2);
    let waits = join_all((0..7).map(|_| call(&limiter))).await;
    for (i, waited) in waits[..6].iter().enumerate() {
        let waited = *waited.as_ref().unwrap();
        assert!(close(waited, WINDOW * i as u32 / 10), "{i}: {waited:?}");
    }
    assert!(waits[6].is_err());
}

#[tokio::test]
async fn a_hundred_thousand_waiters_can_be_dropped_at_once() {
    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }
    let limiter = RateLimiter::new("api", 1, Duration::from_secs(1)).unwrap();
    let limiter = limiter.wait_up_to(Duration::MAX);
    call(&limiter).await.unwrap();
    let woken = Arc::new(Count(AtomicUsize::new(0)));
    let waker = Waker::from(woken.clone());
    let mut waiters: Vec<_> = (0..100_000).map(|_| Box::pin(call(&limiter))).collect();
    let start = Time::now();
    for waiter in &mut waiters {
        assert!(
            waiter
                .as_mut()
                .poll(&mut Context::from_waker(&waker))
                .is_pending()
        );
    }
    assert_eq!(limiter.snapshot().waiting, 100_000);
    drop(waiters);
    assert_eq!(limiter.snapshot().waiting, 0);
    assert!(elapsed(start) < Duration::from_secs(20));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn waiters_on_many_threads_all_get_in_and_none_too_early() {
    for quota in [3, 1_100] {
        let window = Duration::from_millis(30);
        let limiter = RateLimiter::new("api", quota, window).unwrap();
        let limiter = limiter.wait_up_to(Duration::MAX);
        let calls = (0..quota * 4 + 1).map(|i| {
            let limiter = limiter.clone();
            tokio::spawn(async move {
                if i % 7 == 3 {
                    // Gives up in the middle.
                    let _ = tokio::time::timeout(2 * MS, call(&limiter)).await;
                    return None;
                }
                call(&limiter).await.unwrap();
                Some(Time::now().as_nanos())
            })
        });
        let calls: Vec<_> = calls.collect();
        let mut times = Vec::new();
        for call in calls {
            times.extend(call.await.unwrap());
        }
        times.sort_unstable();
        // The times are read after the admission: allow for what a busy machine adds.
        let span = times[times.len() - 1] - times[0];
        assert!(span + 10_000_000 >= window.as_nanos() as u64 * 2, "{span}");
        assert_eq!(limiter.snapshot().waiting, 0);
    }
}
