//! Whose failure it is, in real stacks: around a closure, a plain service, and one of HTTP.

use crate::{MILLI, SECOND, plain};
use buttress::{
    CircuitBreaker, Error, ErrorsAsFailures, LoadShed, RateLimiter, Retry, Timeout,
    circuit_breaker::State,
    guard::{self, WaitLayer},
    retry::{Backoff, Budget},
    timeout::{Deadline, DeadlineLayer},
};
use bytes::Bytes;
use futures::FutureExt;
use http::{Request, Response};
use http_body_util::Empty;
use std::{
    future::{Future, pending, ready},
    pin::Pin,
    time::Duration,
};
use tokio::time::sleep;
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};

#[derive(Debug)]
struct Failed;
type Fails = Error<Failed>;
type Work = Pin<Box<dyn Future<Output = Result<(), Fails>> + Send>>;
/// A call through the breaker, by one of its forms.
type Through = fn(CircuitBreaker, Work) -> Work;

/// Every form in which a breaker is used.
const FORMS: [(&str, Through); 3] = [
    ("closure", |breaker, work| {
        Box::pin(async move { breaker.run(async || work.await).await })
    }),
    ("service", |breaker, work| {
        let layer = breaker.layer().classify(ErrorsAsFailures);
        Box::pin(layer.layer(service_fn(|work: Work| work)).oneshot(work))
    }),
    ("http", |breaker, work| {
        let call = breaker.layer().http().layer(service_fn(answer));
        Box::pin(
            call.oneshot(Request::new(work))
                .map(|answer| answer.map(drop)),
        )
    }),
];

async fn answer(request: Request<Work>) -> Result<Response<Empty<Bytes>>, Fails> {
    request.into_body().await?;
    Ok(Response::new(Empty::new()))
}

fn work(work: impl Future<Output = Result<(), Fails>> + Send + 'static) -> Work {
    Box::pin(work)
}

/// A service that takes so long.
fn service(time: Duration) -> Work {
    work(async move {
        sleep(time).await;
        Ok(())
    })
}

fn hangs() -> Work {
    work(pending())
}

/// A caller who leaves after so long.
fn left_after(time: Duration, call: Work) -> Work {
    work(async move {
        let left = tokio::time::timeout(time, call).await;
        left.unwrap_or(Err(Error::Service(Failed)))
    })
}

/// Makes calls through each form, so many and 50 ms apart; and returns which of the forms opened
/// with the defaults.
async fn drive(
    warm: bool,
    calls: usize,
    call: impl Fn(Through, CircuitBreaker, usize) -> Work,
) -> Vec<(&'static str, bool)> {
    let mut opened = Vec::new();
    for (form, through) in FORMS {
        let breaker = plain().build().unwrap();
        if warm {
            for _ in 0..20 {
                through(breaker.clone(), service(100 * MILLI))
                    .await
                    .unwrap();
            }
        }
        let trips = breaker.snapshot().trips_total;
        assert_eq!(trips, 0);
        let mut running = tokio::task::JoinSet::new();
        for n in 0..calls {
            running.spawn(call(through, breaker.clone(), n));
            sleep(50 * MILLI).await;
        }
        sleep(5 * SECOND).await;
        opened.push((form, breaker.snapshot().trips_total > 0));
    }
    opened
}

async fn stays_closed(
    what: &str,
    warm: bool,
    call: impl Fn(Through, CircuitBreaker, usize) -> Work,
) {
    for (form, opened) in drive(warm, 300, call).await {
        assert!(!opened, "{what}, {form}, warm: {warm}");
    }
}

async fn opens(what: &str, warm: bool, call: impl Fn(Through, CircuitBreaker, usize) -> Work) {
    for (form, opened) in drive(warm, 300, call).await {
        assert!(opened, "{what}, {form}, warm: {warm}");
    }
}

#[tokio::test(start_paused = true)]
async fn callers_who_leave_a_service_that_would_have_answered_open_nothing() {
    stays_closed(
        "400 ms to 2 s, left at 300 ms",
        false,
        |through, breaker, n| {
            let time = MILLI * (400 + (n as u32 * 97) % 1_600);
            left_after(300 * MILLI, through(breaker, service(time)))
        },
    )
    .await;
    for warm in [false, true] {
        stays_closed(
            "half long polls, left at 1 s",
            warm,
            |through, breaker, n| match n % 2 {
                0 => left_after(SECOND, through(breaker, hangs())),
                _ => through(breaker, service(100 * MILLI)),
            },
        )
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_the_caller_chose_opens_nothing_inside_or_outside() {
    let deadline = || Deadline::within(300 * MILLI).of_caller();
    stays_closed("outside", false, |through, breaker, _| {
        let layer = DeadlineLayer::within("edge", SECOND);
        let call = layer.layer(service_fn(move |()| {
            through(breaker.clone(), service(400 * MILLI))
        }));
        work(deadline().scope(call.oneshot(())))
    })
    .await;
    stays_closed("inside", false, |through, breaker, _| {
        let inside = async || {
            sleep(400 * MILLI).await;
            Ok(())
        };
        let timeout = Timeout::new("client", 10 * SECOND);
        let call = through(breaker, work(async move { timeout.run(inside).await }));
        work(deadline().scope(call))
    })
    .await;
}

/// A retry that waits for 10 s after its first attempt, which failed after 20 ms.
fn retried() -> Work {
    let retry = Retry::builder("retry").backoff(Backoff::constant(10 * SECOND));
    let retry = retry.budget(Budget::unlimited()).max_wait(10 * SECOND);
    let retry = retry.build().unwrap();
    let attempt = service_fn(|(): ()| async {
        sleep(20 * MILLI).await;
        Err(Error::Service(Failed))
    });
    let layer = retry.layer().classify(ErrorsAsFailures);
    work(layer.layer(attempt).oneshot(()))
}

#[tokio::test(start_paused = true)]
async fn callers_who_leave_while_a_policy_of_ours_waits_open_nothing() {
    let shed = LoadShed::builder("full")
        .fixed(1)
        .queue(1_000)
        .wait(60 * SECOND);
    let queue = shed.build().unwrap().queued();
    let holds = queue.clone();
    tokio::spawn(async move { holds.run(async || hangs().await).await });
    let line = RateLimiter::new("line", 1, 3_600 * SECOND).unwrap();
    line.run(async || Ok::<_, Fails>(())).await.unwrap();
    let line = line.wait_up_to(7_200 * SECOND);
    sleep(MILLI).await;
    for warm in [false, true] {
        stays_closed("a retry's backoff", warm, |through, breaker, _| {
            left_after(2 * SECOND, through(breaker, retried()))
        })
        .await;
        stays_closed("a queue inside", warm, |through, breaker, _| {
            let queue = queue.clone();
            let inside = work(async move { queue.run(async || Ok(())).await });
            left_after(2 * SECOND, through(breaker, inside))
        })
        .await;
        stays_closed("a queue outside", warm, |through, breaker, _| {
            let (queue, call) = (queue.clone(), through(breaker, hangs()));
            left_after(
                2 * SECOND,
                work(async move { queue.run(async || call.await).await }),
            )
        })
        .await;
        stays_closed("a limiter's line inside", warm, |through, breaker, _| {
            let line = line.clone();
            let inside = work(async move { line.run(async || Ok(())).await });
            left_after(2 * SECOND, through(breaker, inside))
        })
        .await;
        stays_closed(
            "a limiter's line in the same tuple",
            warm,
            |_, breaker, _| {
                let both = (breaker, line.clone());
                let call = work(async move { guard::run(&both, &(), async || Ok(())).await });
                left_after(2 * SECOND, call)
            },
        )
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_hangs_opens_it_whoever_ends_the_calls() {
    for warm in [false, true] {
        opens("our timeout inside", warm, |through, breaker, _| {
            let timeout = Timeout::new("client", SECOND);
            let inside = async move { timeout.run(async || hangs().await).await };
            through(breaker, work(inside))
        })
        .await;
        opens("our timeout outside", warm, |through, breaker, _| {
            let (timeout, call) = (Timeout::new("client", SECOND), through(breaker, hangs()));
            work(async move { timeout.run(async || call.await).await })
        })
        .await;
        opens(
            "an operator's deadline outside",
            warm,
            |through, breaker, _| {
                let layer = DeadlineLayer::within("edge", SECOND);
                let call = service_fn(move |()| through(breaker.clone(), hangs()));
                work(layer.layer(call).oneshot(()))
            },
        )
        .await;
        opens(
            "callers who leave after a second",
            warm,
            |through, breaker, _| left_after(SECOND, through(breaker, hangs())),
        )
        .await;
        opens("a load shed inside, full of them", warm, {
            let shed = LoadShed::builder("few").fixed(5).build().unwrap();
            move |through, breaker, _| {
                let shed = shed.clone();
                let inside = async move { shed.run(async || hangs().await).await };
                left_after(SECOND, through(breaker, work(inside)))
            }
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_operators_limit_that_others_had_used_up_opens_nothing() {
    for warm in [false, true] {
        stays_closed(
            "850 of 1 000 ms were somebody else's",
            warm,
            |through, breaker, _| {
                let layer = DeadlineLayer::within("edge", SECOND);
                let call = service_fn(move |()| {
                    let call = through(breaker.clone(), service(400 * MILLI));
                    async move {
                        sleep(850 * MILLI).await;
                        call.await
                    }
                });
                work(layer.layer(call).oneshot(()))
            },
        )
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_waited_for_a_token_and_was_answered_at_once_closes_it() {
    for tuple in [true, false] {
        let builder = plain().slow_call_rate(0.5).consecutive_failures(1);
        let breaker = builder.build().unwrap();
        let failed: Result<(), Fails> = breaker.run(async || Err(Error::Service(Failed))).await;
        assert!(failed.is_err());
        sleep(5 * SECOND).await;
        let limiter = RateLimiter::new("line", 1, SECOND).unwrap();
        limiter.run(async || Ok::<_, Fails>(())).await.unwrap();
        sleep(100 * MILLI).await;
        let line = limiter.wait_up_to(10 * SECOND);
        assert_eq!(breaker.state(), State::HalfOpen);
        let answered = service_fn(|(): ()| ready(Ok::<_, Fails>(())));
        if tuple {
            let layer = WaitLayer::new((breaker.clone(), line)).classify(ErrorsAsFailures);
            layer.layer(answered).oneshot(()).await.unwrap();
        } else {
            let stack = ServiceBuilder::new()
                .layer(breaker.layer().classify(ErrorsAsFailures))
                .layer(line.layer())
                .service(answered);
            stack.oneshot(()).await.unwrap();
        }
        assert_eq!(breaker.state(), State::Closed, "tuple: {tuple}");
    }
}
