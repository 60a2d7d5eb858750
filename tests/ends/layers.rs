//! Where an error came from is known to layers, over HTTP and over gRPC, as it is to closures.

use buttress::{
    AsRejected, CircuitBreaker, Error, ErrorsAsFailures, FromRejected, GuardLayer, LoadShed,
    Rejected, Retry, Throttle,
    circuit_breaker::State,
    grpc::Grpc,
    http::{Http, RespondLayer},
    recognize,
    retry::{Backoff, Budget},
};
use futures::future::BoxFuture;
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::task::{JoinSet, yield_now};
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

fn open() -> CircuitBreaker {
    let breaker = CircuitBreaker::new("inner");
    breaker.force_open();
    breaker
}

fn retry() -> Retry {
    let retry = Retry::builder("retry").attempts(3);
    let retry = retry.budget(Budget::unlimited());
    let retry = retry.backoff(Backoff::constant(Duration::ZERO));
    retry.build().unwrap()
}

/// An error of an application, which says where it comes from once it is recognized.
#[derive(Debug, thiserror::Error)]
enum Known {
    #[error(transparent)]
    Rejected(#[from] Rejected),
    #[error("disk full")]
    Disk,
}

/// The same, which nobody has told the policies of.
#[derive(Debug, thiserror::Error)]
enum Unknown {
    #[error(transparent)]
    Rejected(#[from] Rejected),
    #[error("disk full")]
    Disk,
}

type Detour<E> = fn(CircuitBreaker) -> BoxFuture<'static, Result<(), E>>;

async fn refused<E: FromRejected>(breaker: CircuitBreaker) -> Result<(), E> {
    breaker.run(async || Ok(())).await
}

/// Ways in which a refusal leaves the poll in which it was made.
fn detours<E: FromRejected + Send>() -> [Detour<E>; 5] {
    [
        |inner| {
            Box::pin(async move {
                let result = refused(inner).await;
                yield_now().await; // as a log that is written would
                result
            })
        },
        |inner| {
            Box::pin(async move {
                let other = async {
                    yield_now().await;
                    yield_now().await;
                };
                futures::join!(refused(inner), other).0
            })
        },
        |inner| {
            Box::pin(async move {
                let (tells, told) = tokio::sync::oneshot::channel();
                tokio::spawn(async move { tells.send(refused(inner).await).is_ok() });
                told.await.unwrap()
            })
        },
        |inner| Box::pin(async move { tokio::spawn(refused(inner)).await.unwrap() }),
        |inner| {
            Box::pin(async move {
                let mut tasks = JoinSet::new();
                tasks.spawn(refused(inner));
                tasks.join_next().await.unwrap().unwrap()
            })
        },
    ]
}

/// Calls a service that refuses, whichever way that goes up, below a breaker's and a retry's layer.
async fn is_told_apart<E: FromRejected + Send>() {
    for (n, detour) in detours::<E>().into_iter().enumerate() {
        let (inner, outer) = (open(), CircuitBreaker::new("outer"));
        let asked = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&asked);
        let service = ServiceBuilder::new()
            .layer(outer.layer().classify(ErrorsAsFailures))
            .layer(retry().layer().classify(ErrorsAsFailures))
            .service(service_fn(move |()| {
                count.fetch_add(1, Relaxed);
                detour(inner.clone())
            }));
        for _ in 0..10 {
            assert!(service.clone().oneshot(()).await.is_err());
        }
        let kind = std::any::type_name::<E>();
        let seen = outer.snapshot();
        assert_eq!(
            (seen.state, seen.failures_total),
            (State::Closed, 0),
            "{kind} {n}"
        );
        assert_eq!(asked.load(Relaxed), 10, "{kind} {n}: asked once each");
    }
}

#[tokio::test]
async fn a_refusal_is_known_to_layers_however_it_goes_up() {
    recognize(|error: &Known| match error {
        Known::Rejected(rejected) => Some(*rejected),
        Known::Disk => None,
    });
    is_told_apart::<Rejected>().await;
    is_told_apart::<Error<io::Error>>().await;
    is_told_apart::<Error<BoxError>>().await;
    is_told_apart::<Error<Error<io::Error>>>().await;
    is_told_apart::<BoxError>().await;
    is_told_apart::<anyhow::Error>().await;
    is_told_apart::<tonic::Status>().await;
    is_told_apart::<Known>().await;
}

#[tokio::test]
async fn a_real_failure_counts_in_layers_though_a_refusal_was_swallowed_before() {
    recognize(|error: &Known| match error {
        Known::Rejected(rejected) => Some(*rejected),
        Known::Disk => None,
    });
    async fn counts<E: FromRejected + Send>(own: fn() -> E) {
        let outer = CircuitBreaker::new("outer");
        let layer = outer.layer().classify(ErrorsAsFailures);
        let service = layer.layer(service_fn(|()| async {
            let _ = refused::<E>(open()).await;
            Err::<(), E>(own())
        }));
        for _ in 0..5 {
            assert!(service.clone().oneshot(()).await.is_err());
        }
        assert_eq!(outer.snapshot().failures_total, 5);
        assert_eq!(outer.state(), State::Open);
    }
    counts::<Error<io::Error>>(|| Error::Service(io::Error::other("disk full"))).await;
    counts::<tonic::Status>(|| tonic::Status::internal("disk full")).await;
    counts::<Known>(|| Known::Disk).await;
}

/// Whose refusal a call ended with is for its error to say, and not for what was refused last.
#[tokio::test]
async fn of_two_refusals_in_one_poll_the_one_that_is_returned_counts() {
    recognize(|error: &Known| match error {
        Known::Rejected(rejected) => Some(*rejected),
        Known::Disk => None,
    });
    async fn check<E: FromRejected + AsKind + Send>() {
        let full = LoadShed::builder("full").fixed(1).build().unwrap();
        let _held = buttress::guard::hold(full.clone(), &()).unwrap();
        for (full_is_returned, overloaded) in [(true, 1), (false, 0)] {
            let throttle = Throttle::new("outer");
            let both = async || {
                let by_full: Result<(), E> = full.run(async || Ok(())).await;
                let by_open: Result<(), E> = refused(open()).await;
                match full_is_returned {
                    true => by_full,
                    false => {
                        let again: Result<(), E> = full.run(async || Ok(())).await;
                        drop(again);
                        by_open
                    }
                }
            };
            let answer = throttle.run(both).await;
            let kind = answer.unwrap_err().kind();
            assert_eq!(kind == buttress::Kind::Overloaded, full_is_returned);
            let seen = throttle.snapshot().overloaded_total;
            assert_eq!(seen, overloaded, "{}", std::any::type_name::<E>());
        }
    }
    check::<Rejected>().await;
    check::<Error<io::Error>>().await;
    check::<BoxError>().await;
    check::<tonic::Status>().await;
    check::<Known>().await;
}

trait AsKind {
    fn kind(&self) -> buttress::Kind;
}

impl<E: AsRejected> AsKind for E {
    fn kind(&self) -> buttress::Kind {
        self.as_rejected().unwrap().kind()
    }
}

impl AsRejected for Known {
    fn as_rejected(&self) -> Option<&Rejected> {
        match self {
            Self::Rejected(rejected) => Some(rejected),
            Self::Disk => None,
        }
    }
}

/// The two cases that the documentation of `recognize` names.
#[tokio::test]
async fn an_enum_that_nobody_has_recognized_is_known_within_the_poll_of_its_refusal_only() {
    let (inner, outer) = (open(), CircuitBreaker::new("outer"));
    let failures = || outer.snapshot().failures_total;
    let at_once = async || refused::<Unknown>(inner.clone()).await;
    assert!(outer.run(at_once).await.is_err());
    assert_eq!(failures(), 0);
    let after_an_await = async || {
        let result = refused::<Unknown>(inner.clone()).await;
        yield_now().await;
        result
    };
    assert!(outer.run(after_an_await).await.is_err());
    assert_eq!(failures(), 1, "a refusal that looks like a failure");
    let swallowed = async || {
        let _ = refused::<Unknown>(inner.clone()).await;
        Err::<(), _>(Unknown::Disk)
    };
    assert!(outer.run(swallowed).await.is_err());
    assert_eq!(failures(), 1, "a failure that looks like a refusal");
    let an_await_later = async || {
        let _ = refused::<Unknown>(inner.clone()).await;
        yield_now().await;
        Err::<(), _>(Unknown::Disk)
    };
    assert!(outer.run(an_await_later).await.is_err());
    assert_eq!(failures(), 2);
}

#[tokio::test]
async fn the_last_that_was_said_of_a_type_holds() {
    #[derive(Debug)]
    enum Own {
        Refused(Rejected),
    }
    impl From<Rejected> for Own {
        fn from(rejected: Rejected) -> Self {
            Self::Refused(rejected)
        }
    }
    let (inner, outer) = (open(), CircuitBreaker::new("outer"));
    let call = async || {
        let later = async || {
            let result = refused::<Own>(inner.clone()).await;
            yield_now().await;
            result
        };
        assert!(outer.run(later).await.is_err());
        outer.snapshot().failures_total
    };
    recognize(|_: &Own| None);
    assert_eq!(call().await, 1);
    recognize(|Own::Refused(rejected): &Own| Some(*rejected));
    assert_eq!(call().await, 1);
    recognize(|_: &Own| None);
    assert_eq!(call().await, 2);
}

/// What a handler's client was refused is told by the answer, whatever the handler does meanwhile;
/// and an answer of its own is one.
#[tokio::test]
async fn a_handlers_answer_says_whether_a_policy_of_its_own_refused() {
    use axum::{Router, body::Body, http::Request, http::StatusCode, routing::get};
    let handler = |swallows: bool| {
        move || async move {
            let stock = open();
            let result: Result<(), Error<StatusCode>> = stock.run(async || Ok(())).await;
            yield_now().await;
            match swallows {
                true => Err(Error::Service(StatusCode::INTERNAL_SERVER_ERROR)),
                false => result,
            }
        }
    };
    for (swallows, failures, state) in [(false, 0, State::Closed), (true, 5, State::Open)] {
        let outer = CircuitBreaker::new("outer");
        let app: Router = Router::new()
            .route("/", get(handler(swallows)))
            .layer(RespondLayer::new(Http, outer.layer().http()));
        for _ in 0..5 {
            let answer = app.clone().oneshot(Request::new(Body::empty())).await;
            assert!(answer.unwrap().status().is_server_error());
        }
        assert_eq!(
            (outer.snapshot().failures_total, outer.state()),
            (failures, state)
        );
    }
}

/// The same of a method of a tonic server, whose statuses keep no source on their way.
#[tokio::test]
async fn a_methods_status_says_whether_a_policy_of_its_own_refused() {
    for (swallows, failures) in [(false, 0), (true, 5)] {
        let outer = CircuitBreaker::new("outer");
        let method = service_fn(move |_: http::Request<()>| async move {
            let result: Result<(), tonic::Status> = open().run(async || Ok(())).await;
            yield_now().await;
            let status = match swallows {
                true => tonic::Status::unavailable("disk full"),
                false => result.unwrap_err(),
            };
            // As tonic's generated server does.
            Ok::<_, std::convert::Infallible>(status.into_http::<tonic::body::Body>())
        });
        let service = RespondLayer::new(Grpc, outer.layer().grpc()).layer(method);
        for _ in 0..5 {
            let answer = service
                .clone()
                .oneshot(http::Request::new(()))
                .await
                .unwrap();
            assert_eq!(answer.headers()["grpc-status"], "14");
        }
        assert_eq!(outer.snapshot().failures_total, failures);
    }
    let _ = GuardLayer::new(open()).grpc();
}
