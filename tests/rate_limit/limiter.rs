use buttress::{
    Error, ErrorsAsFailures, Kind, Now, Outcome, RateLimiter, Rejected, Time,
    guard::{Admission, End, Guard, GuardBase, GuardLayer, Never},
    rate_limit::{Algorithm, Permit},
};
use std::{
    convert::Infallible,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    task::{Context, Waker},
    thread,
    time::Duration,
};
use tokio_test::{assert_pending, assert_ready_err, assert_ready_ok};
use tower::{Layer, Service, ServiceExt, service_fn};

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const NS: u64 = 1_000_000_000;

type Answer = Result<(), Error<Infallible>>;

pub(crate) fn at<Req>(
    limiter: &impl Guard<Req, Permit = Permit, Wait = Never>,
    req: &Req,
    now: u64,
) -> Result<Permit, Rejected> {
    match limiter.admit(req, &Now::at(Time::from_nanos(now))) {
        Admission::Admitted(taken) => Ok(taken),
        Admission::Refused(rejected) => Err(rejected),
        Admission::Wait(never) => match never {},
    }
}

/// A call of this cost at this time.
pub(crate) type Take = Box<dyn Fn(u32, u64) -> Result<Permit, Rejected>>;

/// A global and a keyed limiter of each algorithm.
fn limiters(quota: u32) -> [Take; 4] {
    limiters_over(quota, SECOND)
}

pub(crate) fn limiters_over(quota: u32, window: Duration) -> [Take; 4] {
    let build = |algorithm| {
        let builder = RateLimiter::builder("any", quota, window).algorithm(algorithm);
        let builder = builder.cost(|cost: &u32| *cost);
        let keyed = builder.clone().keyed(|_: &u32| 0);
        (builder.build().unwrap(), keyed.build().unwrap())
    };
    let (a, b) = build(Algorithm::SlidingWindow);
    let (c, d) = build(Algorithm::Gcra { burst: quota });
    [
        Box::new(move |cost, now| at(&a, &cost, now)),
        Box::new(move |cost, now| at(&b, &cost, now)),
        Box::new(move |cost, now| at(&c, &cost, now)),
        Box::new(move |cost, now| at(&d, &cost, now)),
    ]
}

#[tokio::test(start_paused = true)]
async fn the_call_above_the_quota_is_refused_with_the_time_to_come_back() {
    tokio::time::advance(SECOND).await;
    let limiter = RateLimiter::new("api", 2, SECOND).unwrap();
    assert!(limiter.run(async || Answer::Ok(())).await.is_ok());
    tokio::time::advance(Duration::from_millis(300)).await;
    assert!(limiter.run(async || Answer::Ok(())).await.is_ok());
    let refused = limiter.run(async || Answer::Ok(())).await;
    let Err(Error::Rejected(rejected)) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(rejected.kind(), Kind::RateLimited);
    assert_eq!(rejected.policy(), "api");
    let wait = rejected.retry_after().unwrap();
    assert_eq!(wait, Duration::from_millis(700));
    tokio::time::advance(wait).await;
    assert!(limiter.run(async || Answer::Ok(())).await.is_ok());
    let snapshot = limiter.snapshot();
    assert_eq!((snapshot.admitted_total, snapshot.rejected_total), (3, 1));
}

// A peer gave each of 60 connections a limit of its own.
#[tokio::test(start_paused = true)]
async fn all_layers_services_and_clones_share_one_limit() {
    let limiter = RateLimiter::new("api", 5, SECOND).unwrap();
    let served = AtomicUsize::new(0);
    for _ in 0..60 {
        let inner = service_fn(async |_: ()| {
            served.fetch_add(1, SeqCst);
            Answer::Ok(())
        });
        let service = limiter.clone().layer().layer(inner);
        for _ in 0..3 {
            let _ = service.clone().oneshot(()).await;
        }
    }
    assert_eq!(served.load(SeqCst), 5);
    assert_eq!(limiter.snapshot().rejected_total, 175);
}

// A peer spent a token in `poll_ready`, and lost it when no call came.
#[tokio::test(start_paused = true)]
async fn only_calls_take_from_the_quota() {
    let limiter = RateLimiter::new("api", 1, SECOND).unwrap();
    let mut service = limiter
        .layer()
        .classify(ErrorsAsFailures)
        .layer(service_fn(async |_: ()| Answer::Ok(())));
    for _ in 0..10 {
        service.ready().await.unwrap();
    }
    assert_eq!(limiter.status(&()).remaining, 1);
    assert!(service.call(()).await.is_ok());
    assert_eq!(limiter.status(&()).remaining, 0);
}

#[tokio::test(start_paused = true)]
async fn an_empty_limiter_does_not_wait_for_a_service_that_is_not_ready() {
    for quota in [1, 2_000] {
        let limiter = RateLimiter::new("api", quota, SECOND).unwrap();
        let layer = limiter.layer();
        let (mut service, mut handle) =
            tower_test::mock::spawn_with(|mock: tower_test::mock::Mock<(), ()>| layer.layer(mock));
        handle.allow(0);
        assert_pending!(service.poll_ready());
        while at(&limiter, &(), Time::now().as_nanos()).is_ok() {}
        assert_ready_ok!(service.poll_ready());
        let mut call = tokio_test::task::spawn(service.call(()));
        let error = assert_ready_err!(call.poll());
        assert!(error.is::<Rejected>());
        // Keyed limits do not know whose call it will be.
        let keyed = RateLimiter::builder("keyed", 1, SECOND).keyed(|_: &()| 1);
        let keyed = keyed.build().unwrap();
        while at(&keyed, &(), Time::now().as_nanos()).is_ok() {}
        let mut cx = Context::from_waker(Waker::noop());
        assert!(!keyed.poll_closed(&mut cx, &Now::lazy()));
    }
}

#[test]
fn only_calls_that_never_started_give_back_what_they_took() {
    for quota in [7, 2_000] {
        let limiter = RateLimiter::new("api", quota, SECOND).unwrap();
        let keyed = RateLimiter::builder("api", quota, SECOND).keyed(|_: &()| 1);
        let keyed = keyed.build().unwrap();
        let guards: [&dyn Guard<(), Permit = Permit, Wait = Never>; 2] = [&limiter, &keyed];
        for guard in guards {
            let now = Now::at(Time::from_nanos(NS));
            let take = || match guard.admit(&(), &now) {
                Admission::Admitted(taken) => Some(taken),
                _ => None,
            };
            let mut taken: Vec<_> = std::iter::from_fn(take).collect();
            assert_eq!(taken.len(), quota as usize);
            for end in [End::Done(Outcome::Failure), End::Cancelled, End::Panicked] {
                guard.settle(taken.pop().unwrap(), end, &now);
                assert!(take().is_none(), "{end:?}");
            }
            guard.settle(taken.pop().unwrap(), End::NeverStarted, &now);
            assert!(take().is_some());
            assert!(take().is_none());
        }
        assert_eq!(limiter.snapshot().admitted_total, u64::from(quota));
        assert_eq!(keyed.snapshot().admitted_total, u64::from(quota));
    }
}

#[tokio::test(start_paused = true)]
async fn a_guard_that_refuses_after_it_costs_the_limiter_nothing() {
    let limiter = RateLimiter::new("outer", 5, SECOND).unwrap();
    let inner = RateLimiter::new("inner", 1, SECOND).unwrap();
    let layer = GuardLayer::new((limiter.clone(), inner)).classify(ErrorsAsFailures);
    let service = layer.layer(service_fn(async |_: ()| Answer::Ok(())));
    for _ in 0..20 {
        let _ = service.clone().oneshot(()).await;
    }
    assert_eq!(limiter.status(&()).remaining, 4);
    assert_eq!(limiter.snapshot().admitted_total, 1);
}

#[test]
fn a_cost_of_nothing_is_free_and_one_above_the_quota_is_never_granted() {
    for quota in [4, 100, 2_000, 100_000, 1 << 25] {
        for take in limiters(quota) {
            let refused = take(quota + 1, NS).unwrap_err();
            assert_eq!(refused.retry_after(), None);
            assert_eq!(take(u32::MAX, NS).unwrap_err().retry_after(), None);
            assert!(take(quota, NS).is_ok());
            assert!(take(0, NS).is_ok());
            let wait = take(1, NS).unwrap_err().retry_after().unwrap();
            assert!(
                wait <= SECOND * 15 / 14 + Duration::from_millis(1),
                "{wait:?}"
            );
        }
    }
}

#[test]
fn clocks_may_jump_by_hours_back_and_to_the_end_of_time() {
    const HOURS: u64 = 3_600 * NS * 5;
    for quota in [4, 100, 2_000, 100_000, 1 << 25] {
        for (i, take) in limiters(quota).iter().enumerate() {
            let now = 10 * HOURS;
            assert!(take(quota, now).is_ok());
            for back in [1, NS, HOURS, now] {
                assert!(take(1, now - back).is_err(), "{quota} {i}");
            }
            assert!(take(quota, now + HOURS).is_ok());
            assert!(take(1, now + HOURS).is_err());
            assert!(take(1, now).is_err());
            for end in [u64::MAX - NS, u64::MAX - 1, u64::MAX] {
                let _ = take(1, end);
                let _ = take(quota, end);
            }
            assert!(take(quota, u64::MAX).is_err(), "{quota} {i}");
        }
    }
}

#[test]
fn bad_settings_are_named_with_what_they_accept() {
    let build = |quota, window| RateLimiter::new("bad", quota, window).map(|_| ());
    let field = |result: Result<(), buttress::InvalidConfig>| result.unwrap_err().field();
    assert_eq!(field(build(0, SECOND)), "quota");
    for window in [Duration::ZERO, Duration::from_nanos(999_999), Duration::MAX] {
        assert_eq!(field(build(1, window)), "window");
    }
    assert!(build(u32::MAX, Duration::from_millis(1)).is_ok());
    assert!(build(u32::MAX, Duration::from_secs(366 * 86_400)).is_ok());
    let gcra = |quota, burst| {
        let builder = RateLimiter::builder("bad", quota, 3_600 * SECOND);
        let builder = builder.algorithm(Algorithm::Gcra { burst });
        builder.build().map(|_| ())
    };
    assert_eq!(field(gcra(1, 0)), "burst");
    assert_eq!(field(gcra(1, u32::MAX)), "burst");
    assert!(gcra(u32::MAX, u32::MAX).is_ok());
    let keys = |keys| {
        let builder = RateLimiter::builder("bad", 1, SECOND).keyed(|_: &()| 0);
        builder.max_keys(keys).build().map(|_| ())
    };
    assert_eq!(field(keys(0)), "max_keys");
    assert_eq!(field(keys(usize::MAX)), "max_keys");
    assert!(keys(1).is_ok());
    let message = build(0, SECOND).unwrap_err().to_string();
    assert_eq!(
        message,
        "invalid rate limiter \"bad\": quota is 0, but must be at least 1"
    );
}

#[tokio::test(start_paused = true)]
async fn the_status_tells_what_is_left_and_when_there_is_more() {
    tokio::time::advance(10 * SECOND).await;
    for quota in [10, 2_000] {
        let limiter = RateLimiter::builder("api", quota, SECOND).cost(|cost: &u32| *cost);
        let limiter = limiter.build().unwrap();
        let status = limiter.status(&1);
        assert_eq!(
            (status.quota, status.window, status.remaining),
            (quota, SECOND, quota)
        );
        assert_eq!(status.reset, Duration::ZERO);
        let now = Time::now().as_nanos();
        at(&limiter, &3, now).unwrap();
        tokio::time::advance(SECOND / 4).await;
        at(&limiter, &4, Time::now().as_nanos()).unwrap();
        let status = limiter.status(&1);
        assert_eq!(status.remaining, quota - 7);
        let late = if quota > 1_024 {
            SECOND / 64
        } else {
            Duration::ZERO
        };
        assert!((SECOND * 3 / 4..=SECOND * 3 / 4 + late).contains(&status.reset));
        tokio::time::advance(status.reset).await;
        assert_eq!(limiter.status(&1).remaining, quota - 4);
        assert_eq!(limiter.snapshot().remaining, Some(quota - 4));
    }
    let paced = RateLimiter::builder("api", 10, SECOND).keyed(|_: &()| 0);
    let paced = paced
        .algorithm(Algorithm::Gcra { burst: 2 })
        .build()
        .unwrap();
    at(&paced, &(), Time::now().as_nanos()).unwrap();
    let status = paced.status(&());
    assert_eq!((status.remaining, status.reset), (1, SECOND / 10));
}

#[test]
fn the_status_of_a_key_knows_what_was_taken_in_each_part_of_the_window() {
    for quota in [300, 70_000, 1 << 25] {
        let limiter = RateLimiter::builder("api", quota, 3600 * SECOND);
        let limiter = limiter.keyed(|_: &u32| 0).cost(|cost: &u32| *cost);
        let limiter = limiter.build().unwrap();
        let remaining = || limiter.status(&0).remaining;
        let now = Time::now().as_nanos();
        let first = at(&limiter, &3, now - 1_000 * NS).unwrap();
        assert_eq!(remaining(), quota - 3);
        let cost = quota / 2;
        for taken in [cost, cost + 10, cost + 20] {
            let cost = if taken == cost { cost } else { 10 };
            at(&limiter, &cost, now).unwrap();
            assert_eq!(remaining(), quota - 3 - taken);
        }
        limiter.settle(first, End::NeverStarted, &Now::lazy());
        assert_eq!(remaining(), quota - cost - 20);
        at(&limiter, &(quota - cost - 20), Time::now().as_nanos()).unwrap();
        assert_eq!(remaining(), 0);
    }
}

#[test]
fn threads_get_the_whole_quota_between_them_and_no_more() {
    for (quota, keyed) in [
        (7, false),
        (50_000, false),
        (13, true),
        (5_000, true),
        (70_000, true),
    ] {
        let global = RateLimiter::new("global", quota, SECOND).unwrap();
        let key = RateLimiter::builder("keyed", quota, SECOND).keyed(|_: &()| 0);
        let key = key.build().unwrap();
        let admit = |now: u64| match keyed {
            true => at(&key, &(), now),
            false => at(&global, &(), now),
        };
        for window in 1..6 {
            // The first call moves the sub-windows on: from then on all agree on the time.
            let now = 3 * window * NS;
            let admitted = AtomicUsize::new(0);
            thread::scope(|s| {
                for _ in 0..8 {
                    s.spawn(|| {
                        let mut calls = 0;
                        while let Ok(taken) = admit(now) {
                            calls += 1;
                            // Some calls never start.
                            if calls % 5 != 4 {
                                admitted.fetch_add(1, SeqCst);
                            } else if keyed {
                                key.settle(taken, End::NeverStarted, &Now::lazy());
                            } else {
                                global.settle(taken, End::NeverStarted, &Now::lazy());
                            }
                        }
                    });
                }
            });
            // A refusal may have been given while a token was on its way back.
            while admit(now).is_ok() {
                admitted.fetch_add(1, SeqCst);
            }
            assert_eq!(admitted.load(SeqCst), quota as usize, "{keyed}");
        }
        let admitted = [&global.snapshot(), &key.snapshot()][usize::from(keyed)].admitted_total;
        assert_eq!(admitted, 5 * u64::from(quota));
    }
}

#[test]
fn the_promise_holds_between_threads_on_the_real_clock() {
    let window = Duration::from_millis(20);
    for quota in [50, 3_000] {
        let limiter = RateLimiter::new("api", quota, window).unwrap();
        // However long that takes on a machine that does other things as well.
        let enough = || limiter.snapshot().admitted_total >= 6 * u64::from(quota);
        // A thread can be held up between reading the clock and being admitted, so all that is known
        // of an admission is that it came between two readings.
        let mut times: Vec<(u64, u64)> = thread::scope(|s| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    s.spawn(|| {
                        let mut times = Vec::new();
                        while !enough() {
                            for _ in 0..100 {
                                let now = Time::now().as_nanos();
                                times.extend(
                                    at(&limiter, &(), now).map(|_| (now, Time::now().as_nanos())),
                                );
                            }
                        }
                        times
                    })
                })
                .collect();
            let times = threads.into_iter().flat_map(|t| t.join().unwrap());
            times.collect()
        });
        times.sort_unstable();
        for (i, (start, _)) in times.iter().enumerate().step_by(7) {
            let end = start + window.as_nanos() as u64;
            let rest = times[i..].iter().take_while(|(before, _)| *before < end);
            let admitted = rest.filter(|(_, after)| *after < end).count();
            assert!(admitted <= quota as usize, "{admitted} of {quota}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_taken_under_another_quota_is_paid_for_at_the_new_pace() {
    let limiter = RateLimiter::builder("api", 10, 3_600 * SECOND)
        .algorithm(Algorithm::Gcra { burst: 10 })
        .build()
        .unwrap();
    let call = || match limiter.admit(&(), &Now::lazy()) {
        Admission::Admitted(_) => Ok(()),
        Admission::Refused(rejected) => Err(rejected.retry_after()),
        Admission::Wait(never) => match never {},
    };
    (0..10).for_each(|_| call().unwrap());
    assert_eq!(call(), Err(Some(360 * SECOND)));
    // A call per second instead of one in six minutes.
    limiter.set_quota(3_600).unwrap();
    assert_eq!(call(), Err(Some(SECOND)));
    tokio::time::advance(SECOND).await;
    assert_eq!(call(), Ok(()));
    assert_eq!(call(), Err(Some(SECOND)));
    // And back: five calls are still to be paid for.
    tokio::time::advance(5 * SECOND).await;
    limiter.set_quota(10).unwrap();
    (0..5).for_each(|_| call().unwrap());
    assert_eq!(call(), Err(Some(360 * SECOND)));
}

#[test]
fn a_quota_so_low_that_the_burst_would_outlast_everybody_is_refused() {
    let year = 366 * 86_400 * SECOND;
    let limiter = RateLimiter::builder("api", u32::MAX, year)
        .algorithm(Algorithm::Gcra { burst: u32::MAX })
        .build()
        .unwrap();
    let error = limiter.set_quota(1).unwrap_err();
    assert_eq!(error.field(), "quota");
    assert!(at(&limiter, &(), 1 << 60).is_ok());
}
