//! The ways in which calls come to the ends of the table, as it happens in life.

use crate::forms::{ALL, Call, Fails, Form, Inside, PROCESSES, Said, Work};
use axum::body::Body;
use buttress::{
    CircuitBreaker, Error, Kind, LoadShed, RateLimiter, Throttle, Timeout,
    guard::{Immediate, hold},
    http::{Http, RespondLayer},
    timeout::{Deadline, DeadlineLayer},
};
use bytes::Bytes;
use futures::{FutureExt, StreamExt, stream};
use http::{Request, Response};
use std::{
    cell::RefCell,
    convert::Infallible,
    future::{Future, pending},
    io, mem,
    panic::AssertUnwindSafe,
    rc::Rc,
    time::Duration,
};
use tokio::time::sleep;
use tower::{Layer, ServiceExt, layer::util::Identity, service_fn};

pub(super) const MS: Duration = Duration::from_millis(1);
pub(super) const SECOND: Duration = Duration::from_secs(1);
/// Longer than a load shed's windows take for short, and a breaker for too early to tell.
const LATE: Duration = Duration::from_millis(1_100);
/// How long whoever is full asks to be left alone.
pub(super) const ASKED: Duration = Duration::from_secs(30);

/// One call, as it comes to its end.
pub(super) struct Scene {
    /// What the service does, and the policies around it.
    pub(super) inside: Inside,
    /// What is outside of the policy that learns.
    pub(super) outside: Rc<dyn Fn(Call) -> Call>,
    /// A guard that decides after it, in the same tuple.
    pub(super) then: Option<CircuitBreaker>,
}

/// A way to an end.
pub(super) struct Way {
    /// The first column of its row, up to a colon.
    pub(super) end: &'static str,
    pub(super) name: &'static str,
    /// Whether what a cell makes a condition of is so: that it was late, that a wait was asked
    /// for, that it was a timeout.
    pub(super) holds: bool,
    pub(super) forms: Vec<Form>,
    pub(super) make: Box<dyn Fn() -> Scene>,
}

fn inside<F: Future<Output = Result<Said, Fails>> + 'static>(
    work: impl Fn() -> F + 'static,
) -> Inside {
    Rc::new(move || -> Work { Box::pin(work()) })
}

fn scene(inside: Inside) -> Scene {
    Scene {
        inside,
        outside: Rc::new(|call| call),
        then: None,
    }
}

fn outside<F: Future<Output = ()> + 'static>(
    inside: Inside,
    outside: impl Fn(Call) -> F + 'static,
) -> Scene {
    let outside = Rc::new(move |call| -> Call { Box::pin(outside(call).map(Ok)) });
    Scene {
        outside,
        ..scene(inside)
    }
}

fn way(end: &'static str, name: &'static str, make: impl Fn() -> Scene + 'static) -> Way {
    Way {
        end,
        name,
        holds: false,
        forms: ALL.to_vec(),
        make: Box::new(make),
    }
}

impl Way {
    /// Says that the conditions of its cells are met.
    fn holding(self) -> Self {
        Self {
            holds: true,
            ..self
        }
    }

    /// Says that it is one over two processes, too.
    fn and_between_processes(mut self) -> Self {
        self.forms.extend(PROCESSES);
        self
    }
}

/// A service that says so, after a while.
fn says(said: Said, after: Duration) -> Scene {
    scene(inside(move || async move {
        sleep(after).await;
        Ok(said)
    }))
}

fn hangs() -> Inside {
    inside(pending)
}

/// A policy further in that refuses.
fn refused_by<G>(guard: G) -> Scene
where
    G: buttress::Guard<()> + Clone + 'static,
    G::Wait: Immediate,
{
    scene(inside(move || {
        let guard = guard.clone();
        async move { buttress::guard::run(&guard, &(), async || Ok(Said::Success)).await }
    }))
}

fn open() -> CircuitBreaker {
    let breaker = CircuitBreaker::new("elsewhere");
    breaker.force_open();
    breaker
}

fn used_up() -> RateLimiter {
    let limiter = RateLimiter::new("a quota", 1, 3_600 * SECOND).unwrap();
    hold(limiter.clone(), &())
        .unwrap()
        .end(buttress::Outcome::Success);
    limiter
}

/// A throttle that refuses nearly all.
fn throttled() -> Throttle {
    let throttle = Throttle::builder("pushed back").seed(1).build().unwrap();
    let full = |_: Result<&Said, &Fails>| buttress::Outcome::Overloaded { retry_after: None };
    for _ in 0..100 {
        let refused = async || Ok::<_, Fails>(Said::Failure);
        let _ = throttle.classify(full).run(refused).now_or_never();
    }
    throttle
}

/// A load shed whose only permit is taken.
fn full() -> LoadShed {
    let shed = LoadShed::builder("full").fixed(1);
    let shed = shed.retry_after(ASKED).build().unwrap();
    mem::forget(hold(shed.clone(), &()).unwrap());
    shed
}

/// A caller's deadline that has passed.
fn passed() -> Deadline {
    Deadline::within(Duration::ZERO).of_caller()
}

/// Calls in a handler of a server, for a request with this body.
fn serving<F: Future<Output = ()> + 'static>(
    body: impl Fn() -> Body + 'static,
    end: fn(Body) -> Work,
    limit: impl Fn(Call) -> F + 'static,
) -> Scene {
    let request = Rc::new(RefCell::new(None));
    let of_inside = request.clone();
    let (body, limit) = (Rc::new(body), Rc::new(limit));
    let inside = inside(move || {
        let body: Option<Body> = of_inside.borrow_mut().take();
        async move {
            match body {
                Some(body) => end(body).await,
                None => Err(Error::Service(io::Error::other("asked twice"))),
            }
        }
    });
    outside(inside, move |call| {
        let (request, limit) = (request.clone(), limit.clone());
        let call = RefCell::new(Some(call));
        let handler = service_fn(move |asked: Request<Body>| {
            request.replace(Some(asked.into_body()));
            let call = limit(call.take().unwrap());
            async move {
                call.await;
                Ok::<_, Infallible>(Response::new(Body::empty()))
            }
        });
        let server = RespondLayer::new(Http, Identity::new()).layer(handler);
        server.oneshot(Request::new(body())).map(drop)
    })
}

/// Reads the whole request, and fails if it breaks off.
fn drain(body: Body) -> Work {
    Box::pin(async move {
        match axum::body::to_bytes(body, usize::MAX).await {
            Ok(_) => Ok(Said::Success),
            Err(_) => Ok(Said::Failure),
        }
    })
}

fn half_sent() -> Body {
    let part = stream::iter([Ok(Bytes::from("half"))]);
    let broken = stream::once(async {
        sleep(10 * MS).await;
        Err(io::Error::from(io::ErrorKind::ConnectionReset))
    });
    Body::from_stream(part.chain(broken))
}

fn slowly_sent() -> Body {
    let part = stream::iter([Ok::<_, io::Error>(Bytes::from("half"))]);
    Body::from_stream(part.chain(stream::pending()))
}

async fn cut_off_by_timeout(call: Call) {
    let timeout = Timeout::new("ours", SECOND);
    assert!(timeout.run(async || call.await).await.is_err());
}

async fn cut_off_by_deadline(call: Call) {
    let call = RefCell::new(Some(call));
    let layer = DeadlineLayer::within("ours", SECOND);
    let call = layer.layer(service_fn(move |()| call.take().unwrap()));
    assert!(call.oneshot(()).await.is_err());
}

/// Whether the policy that is to learn has learnt already, and lets no more calls in.
fn is_open<E>(result: &Result<Result<(), Fails>, E>) -> bool {
    matches!(result, Ok(Err(Error::Rejected(rejected))) if rejected.kind() == Kind::CircuitOpen)
}

async fn left(after: Duration, call: Call) {
    let result = tokio::time::timeout(after, call).await;
    assert!(result.is_err() || is_open(&result));
}

/// Under a timeout of ours that is never reached.
async fn under_timeout(call: impl Future<Output = Result<Said, Fails>>) -> Result<Said, Fails> {
    let timeout = Timeout::new("client", 60 * SECOND);
    timeout.run(async || call.await).await
}

pub(super) fn ways() -> Vec<Way> {
    let mut all = answered();
    all.extend(refused());
    all.extend(cut_off());
    all.extend(others());
    all
}

fn answered() -> Vec<Way> {
    let asks = Said::Overloaded(Some(ASKED));
    vec![
        way("`Success`", "soon", || says(Said::Success, 10 * MS)),
        way("`Success`", "late", || says(Said::Success, LATE)).holding(),
        way("`Failure`", "soon", || says(Said::Failure, 10 * MS)),
        way("`Failure`", "late", || says(Said::Failure, LATE)).holding(),
        way("`Failure`", "an error", || {
            scene(inside(async || {
                sleep(10 * MS).await;
                Err(Error::Service(io::Error::other("gone")))
            }))
        }),
        way("`Overloaded`", "asking for a wait", move || {
            says(asks, 10 * MS)
        })
        .holding(),
        way("`Overloaded`", "asking for none", || {
            says(Said::Overloaded(None), 10 * MS)
        }),
        way("`Ignored`", "soon", || says(Said::Ignored, 10 * MS)),
    ]
}

fn refused() -> Vec<Way> {
    const REFUSED: &str = "`Refused`";
    const FULL: &str = "`Overloaded`, by a load shed of this process further in";
    let elsewhere = way("`Overloaded`", "a load shed of another process", || {
        refused_by(full())
    });
    vec![
        way(FULL, "at once", || refused_by(full())),
        Way {
            forms: PROCESSES.to_vec(),
            ..elsewhere.holding()
        },
        way(REFUSED, "an open circuit", || refused_by(open())).and_between_processes(),
        way(REFUSED, "a quota", || refused_by(used_up())),
        way(REFUSED, "throttled", || refused_by(throttled())).and_between_processes(),
        way(REFUSED, "a deadline that had passed", || {
            scene(inside(|| passed().scope(under_timeout(pending()))))
        }),
        way(REFUSED, "a deadline that passed in a queue", || {
            let shed = LoadShed::builder("queue").fixed(1).wait(60 * SECOND);
            let shed = shed.build().unwrap();
            mem::forget(hold(shed.clone(), &()).unwrap());
            let queue = shed.queued();
            scene(inside(move || {
                let queue = queue.clone();
                let deadline = Deadline::within(50 * MS).of_caller();
                deadline.scope(async move { queue.run(async || Ok(Said::Success)).await })
            }))
        }),
    ]
}

fn cut_off() -> Vec<Way> {
    const OURS: &str = "[`TimedOut`](crate::guard::End::TimedOut)";
    const LEFT: &str = "[`Cancelled`](crate::guard::End::Cancelled)";
    vec![
        way(OURS, "a timeout inside", || {
            scene(inside(async || {
                let timeout = Timeout::new("ours", SECOND);
                timeout.run(async || pending().await).await
            }))
        })
        .holding(),
        way(OURS, "a deadline inside", || {
            scene(inside(async || {
                let layer = DeadlineLayer::within("ours", SECOND);
                layer.layer(service_fn(|()| pending())).oneshot(()).await
            }))
        }),
        way(OURS, "a timeout outside", || {
            outside(hangs(), cut_off_by_timeout)
        }),
        way(OURS, "a deadline outside", || {
            outside(hangs(), cut_off_by_deadline)
        }),
        way(LEFT, "soon", || {
            outside(hangs(), |call| left(100 * MS, call))
        }),
        way(LEFT, "late", || outside(hangs(), |call| left(LATE, call))).holding(),
        way(LEFT, "soon, by a deadline outside of ours", || {
            outside(hangs(), |call| {
                let deadline = Deadline::within(90 * MS).of_caller();
                deadline.scope(cut_off_by_deadline(call))
            })
        }),
        way(
            LEFT,
            "late, by a deadline around a timeout of ours outside",
            || {
                outside(hangs(), |call| {
                    let deadline = Deadline::within(LATE).of_caller();
                    deadline.scope(async {
                        let timeout = Timeout::new("edge", 60 * SECOND);
                        assert!(timeout.run(async || call.await).await.is_err());
                    })
                })
            },
        )
        .holding(),
        way(
            LEFT,
            "soon, by a deadline that a timeout inside keeps to",
            || {
                scene(inside(|| {
                    let deadline = Deadline::within(90 * MS).of_caller();
                    deadline.scope(under_timeout(pending()))
                }))
            },
        ),
        way(
            LEFT,
            "late, by a deadline that a timeout inside keeps to",
            || {
                scene(inside(|| {
                    let deadline = Deadline::within(LATE).of_caller();
                    deadline.scope(under_timeout(pending()))
                }))
            },
        )
        .holding(),
    ]
}

fn others() -> Vec<Way> {
    const REQUEST: &str = "[`RequestFailed`](crate::guard::End::RequestFailed)";
    const PANIC: &str = "[`Panicked`](crate::guard::End::Panicked)";
    const NEVER: &str = "[`NeverStarted`](crate::guard::End::NeverStarted)";
    let panics = |after| {
        let inside = inside(move || async move {
            sleep(after).await;
            panic!("in the service")
        });
        outside(inside, async |call| {
            let result = AssertUnwindSafe(call).catch_unwind().await;
            assert!(result.is_err() || is_open(&result));
        })
    };
    vec![
        way(REQUEST, "half sent", || {
            serving(half_sent, drain, async |call| drop(call.await))
        }),
        way(
            REQUEST,
            "half sent, to a service that hangs and is left",
            || {
                let hang = |body| -> Work {
                    Box::pin(async move {
                        let _ = drain(body).await;
                        pending().await
                    })
                };
                serving(half_sent, hang, |call| left(LATE, call))
            },
        ),
        way(REQUEST, "slower than our timeout", || {
            serving(slowly_sent, drain, cut_off_by_timeout)
        }),
        way(REQUEST, "slower than our deadline", || {
            serving(slowly_sent, drain, cut_off_by_deadline)
        }),
        way(PANIC, "soon", move || panics(10 * MS)),
        way(PANIC, "late", move || panics(LATE)).holding(),
        way(NEVER, "refused by a later guard of its tuple", || Scene {
            then: Some(open()),
            ..scene(inside(async || panic!("not asked")))
        }),
        way(NEVER, "a deadline that had passed outside", || {
            outside(inside(async || panic!("not asked")), |call| {
                passed().scope(cut_off_by_deadline(call))
            })
        }),
    ]
}
