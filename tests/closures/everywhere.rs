//! What holds for every guard alike: it can be observed, it can be absent, and its rejections are
//! told of, in closures and in layers.

use buttress::{
    CircuitBreaker, DeadlineLayer, Error, ErrorsAsFailures, Guard, GuardLayer, Kind, LoadShed,
    RateLimiter, ReserveLayer, Throttle, Timeout, WaitLayer,
    events::{self, Event},
    grpc::Grpc,
    guard::{self, Immediate, Shadow},
    http::{Http, RespondLayer},
    timeout::Deadline,
};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use std::{
    convert::Infallible,
    future::pending,
    io,
    sync::{Arc, Mutex},
    time::Duration,
};
use tower::{Layer, ServiceExt, service_fn};

const HOUR: Duration = Duration::from_secs(3_600);
type E = Error<io::Error>;

async fn ok() -> Result<u32, E> {
    Ok(7)
}

fn open(name: &'static str) -> CircuitBreaker {
    let breaker = CircuitBreaker::new(name);
    breaker.force_open();
    breaker
}

/// A throttle that holds almost everything back.
async fn throttling(name: &'static str) -> Throttle {
    let throttle = Throttle::builder(name).max_rejection(0.999).seed(1);
    let throttle = throttle.build().unwrap();
    let full = throttle
        .classify(|_: Result<&u32, &E>| buttress::Outcome::Overloaded { retry_after: None });
    for _ in 0..10_000 {
        let _ = full.run(ok).await;
    }
    throttle
}

/// Observes a guard that refuses: nobody is, and all are counted.
async fn refuses_nobody<G: Guard<u8> + Clone + Send + Sync + 'static>(guard: G) {
    let trial = Shadow::new("trial", guard);
    for _ in 0..20 {
        let answer = trial.run_for(&0, ok).await;
        assert_eq!(answer.unwrap(), 7);
    }
    let layer = trial.layer().classify(ErrorsAsFailures);
    let service = layer.layer(service_fn(async |n: u8| Ok::<_, E>(n)));
    for _ in 0..20 {
        let answer = service.clone().oneshot(0).await;
        assert_eq!(answer.unwrap(), 0);
    }
    let seen = trial.snapshot();
    let all = seen.admitted_total + seen.would_reject_total + seen.would_wait_total;
    assert_eq!(all, 40, "{seen:?}");
    assert!(seen.admitted_total <= 2, "{seen:?}");
    assert!(seen.would_reject_total + seen.would_wait_total >= 38);
}

#[tokio::test(start_paused = true)]
async fn every_guard_can_be_observed() {
    let one = || RateLimiter::builder("quota", 1, HOUR);
    let keyed = |_: &u8| 0;
    let shed = || LoadShed::builder("room").fixed(1).build().unwrap();
    refuses_nobody(open("breaker")).await;
    let breakers = CircuitBreaker::builder("keyed")
        .keyed(keyed)
        .build()
        .unwrap();
    breakers.force_open(&0);
    refuses_nobody(breakers).await;
    refuses_nobody(one().build().unwrap()).await;
    refuses_nobody(one().keyed(keyed).build().unwrap()).await;
    refuses_nobody(one().build().unwrap().wait_up_to(Duration::ZERO)).await;
    refuses_nobody(one().build().unwrap().wait_up_to(2 * HOUR)).await;
    refuses_nobody(one().keyed(keyed).build().unwrap().wait_up_to(2 * HOUR)).await;
    refuses_nobody(throttling("throttle").await).await;
    for shed in [shed(), shed()] {
        let _held = guard::hold(shed.clone(), &()).unwrap();
        refuses_nobody(shed.clone()).await;
        refuses_nobody(shed.queued()).await;
        assert_eq!((shed.snapshot().queued, shed.snapshot().in_flight), (0, 1));
    }
    refuses_nobody(Some(open("some"))).await;
    refuses_nobody((Some(open("some")), shed())).await;
    refuses_nobody((
        shed(),
        throttling("second").await,
        one().build().unwrap(),
        open("last"),
    ))
    .await;
    // And what is observed can be observed.
    let inner = Shadow::new("inner", open("breaker"));
    let trial = Shadow::new("outer", inner.clone());
    assert!(trial.run(ok).await.is_ok());
    assert_eq!(trial.snapshot().admitted_total, 1);
    assert_eq!(inner.snapshot().would_reject_total, 1);
}

/// Every rejection of these policies by its kind, in the order in which it was told of.
struct Heard(Arc<Mutex<Vec<Kind>>>, Option<events::Listener>);

impl Heard {
    fn of(name: &'static str) -> Self {
        let heard = Arc::<Mutex<Vec<Kind>>>::default();
        let list = Arc::clone(&heard);
        let listener = events::on_event(move |event| {
            if let Event::Rejected { rejected, .. } = event
                && rejected.policy() == name
            {
                list.lock().unwrap().push(rejected.kind());
            }
        });
        Self(heard, Some(listener))
    }

    fn take(&self) -> Vec<Kind> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Drop for Heard {
    fn drop(&mut self) {
        self.1.take().unwrap().remove();
    }
}

type HttpResponse = Response<Full<Bytes>>;

/// Asks a guard that refuses, in all the ways in which it can stand: each refusal is told of once.
async fn is_told_of<G>(guard: G, kind: Kind, heard: &Heard)
where
    G: Guard<u8> + Guard<Request<()>> + Clone + Send + Sync + 'static,
    G::Wait: Immediate,
{
    heard.take();
    let answer = guard::run(&guard, &0_u8, ok).await;
    assert!(answer.is_err());
    assert_eq!(heard.take(), [kind], "a closure");
    let outer = CircuitBreaker::new("outside");
    let nested = outer
        .run(async || guard::run(&guard, &0_u8, ok).await)
        .await;
    assert!(nested.is_err());
    assert_eq!(heard.take(), [kind], "a closure in another");
    assert!(guard::hold(guard.clone(), &0_u8).is_err());
    assert_eq!(heard.take(), [kind], "a permit to hold");

    let plain = (
        outer.layer().classify(ErrorsAsFailures),
        GuardLayer::new(guard.clone()).classify(ErrorsAsFailures),
    );
    let service = plain.layer(service_fn(async |n: u8| Ok::<_, E>(n)));
    assert!(service.oneshot(0).await.is_err());
    assert_eq!(heard.take(), [kind], "a layer in another");

    let inner = || service_fn(async |_: Request<()>| Ok::<_, Infallible>(HttpResponse::default()));
    let http = (outer.layer().http(), GuardLayer::new(guard.clone()).http());
    let edge = RespondLayer::new(Http, http).layer(inner());
    assert!(
        !edge
            .oneshot(Request::new(()))
            .await
            .unwrap()
            .status()
            .is_success()
    );
    assert_eq!(heard.take(), [kind], "HTTP");
    let grpc = (outer.layer().grpc(), GuardLayer::new(guard).grpc());
    let edge = RespondLayer::new(Grpc, grpc).layer(inner());
    assert!(edge.oneshot(Request::new(())).await.is_ok());
    assert_eq!(heard.take(), [kind], "gRPC");
}

#[tokio::test(start_paused = true)]
async fn every_rejection_is_told_of_once_wherever_its_policy_stands() {
    let heard = Heard::of("told");
    let limiter = || RateLimiter::builder("told", 1, HOUR).build().unwrap();
    let shed = LoadShed::builder("told").fixed(1).build().unwrap();
    is_told_of(open("told"), Kind::CircuitOpen, &heard).await;
    let empty = limiter();
    assert!(empty.run(ok).await.is_ok());
    is_told_of(empty, Kind::RateLimited, &heard).await;
    let held = guard::hold(shed.clone(), &()).unwrap();
    is_told_of(shed.clone(), Kind::Overloaded, &heard).await;
    drop(held);
    assert!(shed.run(ok).await.is_ok());
    assert!(heard.take().is_empty(), "a success tells of nothing");

    // Guards that wait.
    let waiting = limiter().wait_up_to(HOUR / 2);
    assert!(waiting.run(ok).await.is_ok());
    assert!(waiting.run(ok).await.is_err());
    assert_eq!(heard.take(), [Kind::RateLimited]);
    let service = service_fn(async |n: u8| Ok::<_, E>(n));
    let layer = WaitLayer::new(waiting).classify(ErrorsAsFailures);
    assert!(layer.layer(service).oneshot(0).await.is_err());
    assert_eq!(heard.take(), [Kind::RateLimited]);
    let held = guard::hold(shed.clone(), &()).unwrap();
    assert!(shed.queued().run(ok).await.is_err());
    assert_eq!(heard.take(), [Kind::Overloaded], "it waited, and left");
    drop(held);
    let reserve = ReserveLayer::new(shed.backpressure()).classify(ErrorsAsFailures);
    assert!(reserve.layer(service).oneshot(0).await.is_ok());
    assert!(heard.take().is_empty());
}

#[tokio::test(start_paused = true)]
async fn every_time_that_is_up_is_told_of_once() {
    let heard = Heard::of("late");
    let second = Duration::from_secs(1);
    let timeout = Timeout::new("late", second);
    let never = || service_fn(async |_: Request<()>| pending::<Result<HttpResponse, E>>().await);
    let request = || Request::new(());
    assert!(timeout.run(pending::<Result<(), E>>).await.is_err());
    assert_eq!(heard.take(), [Kind::TimedOut]);
    let within = Deadline::within(second / 2);
    let run = within.scope(timeout.run(pending::<Result<(), E>>)).await;
    assert!(run.is_err());
    assert_eq!(heard.take(), [Kind::DeadlineExceeded]);
    // Before it has begun.
    let run = within.scope(timeout.run(ok)).await;
    assert!(run.is_err());
    assert_eq!(heard.take(), [Kind::DeadlineExceeded]);

    assert!(
        timeout
            .layer()
            .layer(never())
            .oneshot(request())
            .await
            .is_err()
    );
    assert_eq!(heard.take(), [Kind::TimedOut]);
    let http = timeout.layer().http().layer(never());
    assert!(http.oneshot(request()).await.is_err());
    assert_eq!(heard.take(), [Kind::TimedOut]);
    let grpc = timeout.layer().grpc().layer(never());
    assert!(grpc.oneshot(request()).await.is_err());
    assert_eq!(heard.take(), [Kind::TimedOut]);
    let deadline = DeadlineLayer::within("late", second);
    assert!(deadline.layer(never()).oneshot(request()).await.is_err());
    assert_eq!(heard.take(), [Kind::DeadlineExceeded]);
    let http = deadline.clone().http().layer(never());
    assert!(http.oneshot(request()).await.is_err());
    assert_eq!(heard.take(), [Kind::DeadlineExceeded]);
    let header = buttress::http::DeadlineHeaderLayer::at_most("late", second);
    assert!(header.layer(never()).oneshot(request()).await.is_err());
    assert_eq!(heard.take(), [Kind::DeadlineExceeded]);
}
