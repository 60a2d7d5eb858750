//! Overload, closed end to end over real TCP: a server sheds, its answer says so, and everything at
//! the client does its part. The same over HTTP (axum, reqwest) and gRPC (tonic).
#![cfg(feature = "full")]
#![allow(missing_docs)]
// Test helpers may fail like the tests that call them.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod over_grpc;
mod over_http;

use axum::{Router, routing::get};
use buttress::{
    AsRejected, CircuitBreaker, Classify, Criticality, Error, Kind, LoadShed, Outcome, Retry,
    Throttle, Time,
    circuit_breaker::State,
    context,
    grpc::{self, CodesAsFailures, Grpc},
    http::{
        ByCriticality, CriticalityHeaderClientLayer, CriticalityHeaderLayer,
        DeadlineHeaderClientLayer, DeadlineHeaderLayer, Http, RespondLayer, ServerErrorsAsFailures,
    },
    retry::Backoff,
    timeout::Deadline,
};
use futures::future::{BoxFuture, FutureExt};
use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{net::TcpListener, sync::Semaphore, time::sleep};
use tokio_stream::{Empty, wrappers::TcpListenerStream};
use tonic::{
    Code, Status,
    transport::{Channel, Server},
};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_client::HealthClient,
    health_server::{Health, HealthServer},
};
use tower::{ServiceBuilder, ServiceExt};

const MS: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(60);

/// A server that does one thing at a time.
struct Backend {
    shed: LoadShed<ByCriticality>,
    /// What "hold" waits for.
    gate: Semaphore,
    /// What arrived with the last call of each name: its criticality, and the time it had left.
    seen: Mutex<HashMap<&'static str, (Option<Criticality>, Duration)>>,
    /// Called by its handler, which hands on nothing.
    next: Option<Call>,
}

impl Backend {
    /// `wait` is how long a call may wait for its turn.
    fn new(wait: Duration, hint: Duration, next: Option<Call>) -> Arc<Self> {
        let shed = LoadShed::builder("backend")
            .fixed(1)
            .queue(1)
            .wait(wait)
            .overloaded_after(LONG)
            .retry_after(hint)
            .priority(ByCriticality::new());
        Arc::new(Self {
            shed: shed.build().unwrap(),
            gate: Semaphore::new(0),
            seen: Mutex::default(),
            next,
        })
    }

    async fn handle(&self, name: &'static str) {
        let left = Deadline::current().map_or(LONG, Deadline::remaining);
        let arrived = (context::current().criticality, left);
        self.seen.lock().unwrap().insert(name, arrived);
        if let Some(next) = &self.next {
            assert_eq!(next(name).await, Answer::Done);
        }
        if name == "hold" {
            self.gate.acquire().await.unwrap().forget();
        }
    }

    fn seen(&self, name: &str) -> (Option<Criticality>, Duration) {
        self.seen.lock().unwrap()[name]
    }

    fn refused(&self) -> u64 {
        let snapshot = self.shed.snapshot();
        snapshot.rejected_total + snapshot.expired_total
    }

    /// All that is done before a handler is called.
    fn edge(&self) -> (DeadlineHeaderLayer, CriticalityHeaderLayer) {
        let deadline = DeadlineHeaderLayer::at_most("backend", LONG);
        (deadline, CriticalityHeaderLayer::new())
    }
}

const NAMES: [&str; 4] = ["hold", "quick", "urgent", "batch"];

async fn http_server(backend: &Arc<Backend>) -> SocketAddr {
    let mut app = Router::new();
    for name in NAMES {
        let backend = backend.clone();
        let handler = async move || backend.handle(name).await;
        app = app.route(&format!("/{name}"), get(handler));
    }
    let stack = (backend.edge(), backend.shed.queued().layer().http());
    let app = app.layer(RespondLayer::new(Http, stack));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

struct Service(Arc<Backend>);

#[tonic::async_trait]
impl Health for Service {
    async fn check(
        &self,
        request: tonic::Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<HealthCheckResponse>, Status> {
        let asked = request.into_inner().service;
        let name = NAMES.into_iter().find(|name| *name == asked);
        self.0.handle(name.unwrap()).await;
        Ok(tonic::Response::new(HealthCheckResponse::default()))
    }

    type WatchStream = Empty<Result<HealthCheckResponse, Status>>;

    async fn watch(
        &self,
        _: tonic::Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("not here"))
    }
}

async fn grpc_server(backend: &Arc<Backend>) -> SocketAddr {
    let stack = (backend.edge(), backend.shed.queued().layer().grpc());
    let mut server = Server::builder().layer(RespondLayer::new(Grpc, stack));
    let server = server.add_service(HealthServer::new(Service(backend.clone())));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let incoming = TcpListenerStream::new(listener);
    tokio::spawn(async move { server.serve_with_incoming(incoming).await });
    address
}

/// What came of a call.
#[derive(Debug, PartialEq)]
enum Answer {
    Done,
    /// The server said that it is full.
    Full,
    /// A policy of the client's own said no.
    Rejected(Kind),
}

type Call = Arc<dyn Fn(&'static str) -> BoxFuture<'static, Answer> + Send + Sync>;

/// A client's policies, and calls through all of them.
struct Client {
    breaker: CircuitBreaker,
    retry: Retry,
    throttle: Throttle,
}

impl Client {
    fn new(attempts: u32) -> Self {
        let breaker = CircuitBreaker::builder("client").consecutive_failures(1);
        let retry = Retry::builder("client").attempts(attempts);
        let retry = retry.backoff(Backoff::exponential(MS));
        let throttle = Throttle::builder("client").seed(7);
        Self {
            breaker: breaker.build().unwrap(),
            retry: retry.build().unwrap(),
            throttle: throttle.build().unwrap(),
        }
    }

    fn http(&self, address: SocketAddr) -> Call {
        let client = reqwest::Client::new();
        let stack = ServiceBuilder::new()
            .layer(self.breaker.layer().http())
            .layer(self.retry.layer().http().map_body(reqwest::Body::wrap))
            .layer(self.throttle.layer().http())
            .layer(CriticalityHeaderClientLayer)
            .layer(DeadlineHeaderClientLayer::new("client"))
            .map_err(Error::Service)
            .map_response(http::Response::<reqwest::Body>::from)
            .service_fn(move |request: http::Request<reqwest::Body>| {
                let client = client.clone();
                async move { client.execute(request.try_into()?).await }
            });
        Arc::new(move |name| {
            let request = http::Request::get(format!("http://{address}/{name}"));
            let call = stack
                .clone()
                .oneshot(request.body(reqwest::Body::default()).unwrap());
            let answer = async {
                match call.await {
                    Ok(response) if response.status() == 200 => Answer::Done,
                    Ok(response) if response.status() == 503 => Answer::Full,
                    Err(Error::Rejected(rejected)) => Answer::Rejected(rejected.kind()),
                    other => panic!("{:?}", other.map(|response| response.status())),
                }
            };
            answer.boxed()
        })
    }

    fn grpc(&self, address: SocketAddr) -> Call {
        let stack = ServiceBuilder::new()
            .layer(self.breaker.layer().grpc())
            .layer(self.retry.layer().grpc())
            .layer(self.throttle.layer().grpc())
            .layer(CriticalityHeaderClientLayer)
            .layer(DeadlineHeaderClientLayer::new("client"))
            .map_err(grpc::status)
            .service(channel(address));
        let client = HealthClient::new(stack);
        Arc::new(move |name| {
            let mut client = client.clone();
            let answer = async move {
                match client.check(asking(name)).await {
                    Ok(_) => Answer::Done,
                    Err(status) => match status.as_rejected() {
                        Some(rejected) => Answer::Rejected(rejected.kind()),
                        None if status.code() == Code::ResourceExhausted => Answer::Full,
                        None => panic!("{status}"),
                    },
                }
            };
            answer.boxed()
        })
    }
}

fn channel(address: SocketAddr) -> Channel {
    let endpoint = Channel::from_shared(format!("http://{address}"));
    endpoint.unwrap().connect_lazy()
}

fn asking(service: &str) -> HealthCheckRequest {
    let service = service.to_owned();
    HealthCheckRequest { service }
}

async fn eventually(mut condition: impl FnMut() -> bool) {
    let began = Time::now();
    while !condition() {
        assert!(Time::now().since(began) < LONG, "in vain");
        sleep(MS).await;
    }
}

/// Makes the server busy, until its gate is opened.
async fn hold(backend: &Backend, call: &Call) -> tokio::task::JoinHandle<Answer> {
    let held = tokio::spawn(call("hold"));
    eventually(|| backend.shed.snapshot().in_flight == 1).await;
    held
}

/// No refusal counts as a failure, though a single one would have been enough.
fn unharmed(client: &Client) {
    let breaker = client.breaker.snapshot();
    assert_eq!((breaker.state, breaker.failures_total), (State::Closed, 0));
}

/// `hint` is the least that the retry is asked to wait.
async fn comes_back_when_asked_to(
    backend: Arc<Backend>,
    client: Client,
    call: Call,
    hint: Duration,
) {
    let held = hold(&backend, &call).await;
    let balance = client.retry.snapshot().budget_balance;
    let (began, freed) = (Time::now(), backend.clone());
    tokio::spawn(async move {
        eventually(|| freed.refused() == 1).await;
        freed.gate.add_permits(1);
    });
    assert_eq!(call("quick").await, Answer::Done);
    assert!(Time::now().since(began) >= hint);
    assert_eq!(held.await.unwrap(), Answer::Done);

    let retry = client.retry.snapshot();
    // Two calls were paid for their success with a tenth of a retry each.
    assert_eq!(retry.retries_total, 1);
    assert!(retry.budget_balance < balance - 0.75, "{retry:?}");
    let throttle = client.throttle.snapshot();
    assert_eq!((throttle.overloaded_total, throttle.rejected_total), (1, 0));
    assert_eq!(backend.refused(), 1);
    unharmed(&client);
}

async fn is_slowed_down(backend: Arc<Backend>, client: Client, call: Call) {
    let held = hold(&backend, &call).await;
    let mut held_back = 0;
    for _ in 0..60 {
        match call("quick").await {
            Answer::Full => {}
            Answer::Rejected(Kind::Throttled) => held_back += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(held_back >= 20, "{held_back}");
    assert_eq!(backend.refused(), 60 - held_back);
    let throttle = client.throttle.snapshot();
    assert_eq!(
        (throttle.overloaded_total, throttle.rejected_total),
        (60 - held_back, held_back)
    );
    unharmed(&client);

    // It comes back when the server does.
    backend.gate.add_permits(1);
    assert_eq!(held.await.unwrap(), Answer::Done);
    let began = Time::now();
    while client.throttle.snapshot().probability > 0.0 {
        let _ = call("quick").await;
        sleep(10 * MS).await;
    }
    assert!(Time::now().since(began) < Duration::from_secs(5));
    assert_eq!(call("quick").await, Answer::Done);
}

async fn arrive_here_and_behind(near: Arc<Backend>, far: Arc<Backend>, call: Call) {
    let user = context::current().with_criticality(Criticality::CriticalPlus);
    let job = context::current().with_criticality(Criticality::Sheddable);
    let within = Deadline::within(30_000 * MS);
    assert_eq!(call("quick").await, Answer::Done);
    assert_eq!(user.scope(within.scope(call("urgent"))).await, Answer::Done);
    assert_eq!(job.scope(within.scope(call("batch"))).await, Answer::Done);
    // The bound is the near one's: nobody may claim to be more than critical.
    for (name, class) in [
        ("quick", Criticality::Critical),
        ("urgent", Criticality::Critical),
        ("batch", Criticality::Sheddable),
    ] {
        let ((near, left), (far, left_behind)) = (near.seen(name), far.seen(name));
        assert_eq!((near, far), (Some(class), Some(class)));
        assert!(left_behind <= left, "{left_behind:?} of {left:?}");
        let most = if name == "quick" { LONG } else { 30_000 * MS };
        assert!(left <= most && left > most / 2, "{left:?}");
    }
}

async fn what_matters_more_takes_the_place(backend: Arc<Backend>, call: Call) {
    let held = hold(&backend, &call).await;
    let job = context::current().with_criticality(Criticality::Sheddable);
    let batch = tokio::spawn(job.scope(call("batch")));
    // The queue has room for one.
    eventually(|| backend.shed.snapshot().queued == 1).await;
    let urgent = tokio::spawn(call("urgent"));
    assert_eq!(batch.await.unwrap(), Answer::Full);
    backend.gate.add_permits(1);
    assert_eq!(held.await.unwrap(), Answer::Done);
    assert_eq!(urgent.await.unwrap(), Answer::Done);
    assert_eq!(backend.refused(), 1);
}

/// Too short to wait for anything.
const AT_ONCE: Duration = MS;
const HINT: Duration = Duration::from_millis(300);
/// HTTP says it in whole seconds.
const HTTP_HINT: Duration = Duration::from_secs(1);
