//! Where an error came from is known whatever happens between a refusal and its return.

use buttress::{
    CircuitBreaker, Error, Rejected, Retry,
    circuit_breaker::State,
    recognize,
    retry::{Backoff, Budget},
};
use std::{
    future::Future,
    io,
    pin::Pin,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};
use tokio::task::yield_now;

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Work<E> = Pin<Box<dyn Future<Output = Result<(), E>> + Send>>;

/// An application's error, as most write it.
#[derive(Debug, thiserror::Error)]
enum App {
    #[error(transparent)]
    Rejected(#[from] Rejected),
    #[error("disk full")]
    Disk,
}

/// An error of this type by the service itself.
trait Own: buttress::FromRejected + Send {
    fn own() -> Self;
}

impl Own for Error<io::Error> {
    fn own() -> Self {
        Self::Service(io::Error::other("disk full"))
    }
}

impl Own for BoxError {
    fn own() -> Self {
        "disk full".into()
    }
}

impl Own for anyhow::Error {
    fn own() -> Self {
        Self::msg("disk full")
    }
}

impl Own for tonic::Status {
    fn own() -> Self {
        Self::internal("disk full")
    }
}

impl Own for App {
    fn own() -> Self {
        recognize(|error: &Self| match error {
            Self::Rejected(rejected) => Some(*rejected),
            Self::Disk => None,
        });
        Self::Disk
    }
}

fn open() -> CircuitBreaker {
    let breaker = CircuitBreaker::new("inner");
    breaker.force_open();
    breaker
}

async fn refused<E: Own>(breaker: CircuitBreaker) -> Result<(), E> {
    breaker.run(async || Ok(())).await
}

/// Ways in which a refusal goes up, each of which leaves the poll in which it was made.
fn detours<E: Own>() -> [fn(CircuitBreaker) -> Work<E>; 3] {
    [
        |inner| {
            Box::pin(async move {
                let result = refused(inner).await;
                if result.is_err() {
                    yield_now().await; // as a log that is written would
                }
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
        |inner| Box::pin(async move { tokio::spawn(refused(inner)).await.unwrap() }),
    ]
}

/// Calls a service that refuses, whichever way that goes up, behind a breaker and a retry; and one
/// that swallows a refusal and then fails for real.
async fn is_told_apart<E: Own>() {
    E::own();
    for (n, detour) in detours::<E>().into_iter().enumerate() {
        let (inner, outer) = (open(), CircuitBreaker::new("outer"));
        let retry = Retry::builder("retry")
            .attempts(3)
            .budget(Budget::unlimited());
        let retry = retry
            .backoff(Backoff::constant(Duration::ZERO))
            .build()
            .unwrap();
        let asked = AtomicU32::new(0);
        for _ in 0..10 {
            let attempt = || {
                asked.fetch_add(1, Relaxed);
                detour(inner.clone())
            };
            assert!(outer.run(async || retry.run(attempt).await).await.is_err());
        }
        let kind = std::any::type_name::<E>();
        assert_eq!(outer.state(), State::Closed, "{kind} {n}");
        assert_eq!(outer.snapshot().failures_total, 0, "{kind} {n}");
        assert_eq!(asked.load(Relaxed), 10, "{kind} {n}: asked once each");
    }
}

/// A refusal that is swallowed does not hide a real failure in the same poll.
async fn a_failure_after_a_refusal_counts<E: Own>() {
    E::own();
    let (inner, outer) = (open(), CircuitBreaker::new("outer"));
    for _ in 0..5 {
        let fallback = async || {
            let _ = refused::<E>(inner.clone()).await;
            Err::<(), E>(E::own())
        };
        assert!(outer.run(fallback).await.is_err());
    }
    let kind = std::any::type_name::<E>();
    assert_eq!(outer.snapshot().failures_total, 5, "{kind}");
}

#[tokio::test]
async fn a_refusal_is_known_however_it_goes_up() {
    is_told_apart::<Error<io::Error>>().await;
    is_told_apart::<BoxError>().await;
    is_told_apart::<anyhow::Error>().await;
    is_told_apart::<tonic::Status>().await;
    is_told_apart::<App>().await;
}

#[tokio::test]
async fn a_real_failure_is_counted_though_a_refusal_was_swallowed_before() {
    // Of a boxed error that holds no rejection nobody can tell: the note on the thread decides.
    a_failure_after_a_refusal_counts::<Error<io::Error>>().await;
    a_failure_after_a_refusal_counts::<tonic::Status>().await;
    a_failure_after_a_refusal_counts::<App>().await;
}

/// A timeout inside the breaker tells it how long its limit was: a service that had less than half
/// of it, because a line of ours took the rest, has not failed.
#[tokio::test(start_paused = true)]
async fn a_timeout_inside_that_a_line_of_ours_has_used_up_is_no_failure() {
    use buttress::{RateLimiter, Timeout};
    use tokio::time::sleep;
    let breaker = CircuitBreaker::new("outer");
    for (waits, fails) in [(900, false), (100, true)] {
        let before = breaker.snapshot().failures_total;
        let line = RateLimiter::new("line", 1, Duration::from_millis(waits)).unwrap();
        line.run(async || Ok::<_, Error<io::Error>>(()))
            .await
            .unwrap();
        let line = line.wait_up_to(Duration::from_secs(2));
        let timeout = Timeout::new("inner", Duration::from_secs(1));
        let service = async || {
            sleep(Duration::from_secs(5)).await;
            Ok::<_, Error<io::Error>>(())
        };
        let attempt = async || line.run(service).await;
        let call = breaker.run(async || timeout.run(attempt).await);
        assert!(call.await.is_err());
        let failed = breaker.snapshot().failures_total > before;
        assert_eq!(failed, fails, "{waits} ms in the line");
    }
}

#[test]
fn a_policy_that_is_held_tells_of_its_refusal() {
    use buttress::{LoadShed, guard};
    use futures::FutureExt;
    let shed = LoadShed::builder("full").fixed(1).build().unwrap();
    let _held = guard::hold(shed.clone(), &()).unwrap();
    let outer = CircuitBreaker::new("outer");
    #[derive(Debug)]
    struct Opaque;
    impl From<Rejected> for Opaque {
        fn from(_: Rejected) -> Self {
            Self
        }
    }
    for _ in 0..9 {
        let work = async || -> Result<(), Opaque> {
            let _permit = guard::hold(shed.clone(), &())?;
            Ok(())
        };
        assert!(outer.run(work).now_or_never().unwrap().is_err());
    }
    assert_eq!(outer.snapshot().failures_total, 0);
}
