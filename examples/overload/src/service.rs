//! The service and its callers.

use axum::{Router, extract::State, http::StatusCode, routing::get};
use buttress::{
    Error, LoadShed, Retry, Throttle, Timeout,
    http::{
        DeadlineHeaderClientLayer, DeadlineHeaderLayer, Http, RespondLayer, ServerErrorsAsFailures,
    },
    retry::Budget,
    timeout::DeadlineLayer,
};
use std::{
    fmt, io,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::Duration,
};
use tokio::{net::TcpListener, sync::oneshot};
use tower::{ServiceBuilder, util::BoxCloneSyncService};

const WORKERS: usize = 4;
const WORK: Duration = Duration::from_millis(20);
/// Requests per second.
pub(crate) const CAPACITY: f64 = WORKERS as f64 / 0.02;
/// How long an attempt may take, and how long a user waits.
const ATTEMPT: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug)]
pub(crate) enum Layers {
    /// Timeouts, and three attempts with backoff and jitter.
    Usual,
    /// The service sheds load, its callers have a retry budget, a throttle and a deadline.
    Buttress,
}

impl fmt::Display for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Usual => "timeout and retry",
            Self::Buttress => "buttress",
        })
    }
}

/// Serves on some local port.
pub(crate) async fn serve(layers: Layers) -> io::Result<String> {
    let app = Router::new()
        .route("/work", get(work))
        .with_state(Workers::start()?);
    let app = match layers {
        Layers::Usual => app,
        Layers::Buttress => {
            // As many as there are workers: what has to wait, waits here, and not for long.
            let shed = LoadShed::builder("work").fixed(WORKERS).build();
            let shed = shed.map_err(io::Error::other)?;
            let deadline = DeadlineHeaderLayer::at_most("work", PATIENCE);
            app.layer(RespondLayer::new(
                Http,
                (deadline, shed.queued().layer().http()),
            ))
        }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/work", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(url)
}

async fn work(State(workers): State<Workers>) -> Result<&'static str, StatusCode> {
    match workers.work().await {
        Some(()) => Ok("done"),
        None => Err(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

/// So many threads, with a queue before them that has no end: like most pools.
#[derive(Clone)]
struct Workers(mpsc::Sender<oneshot::Sender<()>>);

impl Workers {
    fn start() -> io::Result<Self> {
        let (sender, jobs) = mpsc::channel::<oneshot::Sender<()>>();
        let jobs = Arc::new(Mutex::new(jobs));
        for _ in 0..WORKERS {
            let jobs = Arc::clone(&jobs);
            thread::Builder::new().spawn(move || {
                loop {
                    let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(done) = job else { return };
                    // Work that does not notice whether anybody still waits for it.
                    thread::sleep(WORK);
                    let _ = done.send(());
                }
            })?;
        }
        Ok(Self(sender))
    }

    async fn work(&self) -> Option<()> {
        let (done, wait) = oneshot::channel();
        self.0.send(done).ok()?;
        wait.await.ok()
    }
}

/// What a user calls: answers with a status, or not in time.
pub(crate) type Client = BoxCloneSyncService<Request, StatusCode, Failure>;
pub(crate) type Request = http::Request<reqwest::Body>;
pub(crate) type Failure = Error<reqwest::Error>;

pub(crate) fn client(layers: Layers) -> Result<Client, Box<dyn std::error::Error>> {
    // With HTTP/2, so that an attempt that is given up does not cost its connection.
    let client = reqwest::Client::builder()
        .no_proxy()
        .http2_prior_knowledge()
        .build()?;
    let transport = ServiceBuilder::new()
        .map_err(Error::Service)
        .map_response(http::Response::<reqwest::Body>::from)
        .service_fn(move |request: Request| {
            let client = client.clone();
            async move { client.execute(request.try_into()?).await }
        });
    let user = ServiceBuilder::new()
        .layer(DeadlineLayer::within("user", PATIENCE))
        .map_response(|response: http::Response<_>| response.status());
    let timeout = Timeout::new("attempt", ATTEMPT).layer();
    Ok(match layers {
        Layers::Usual => {
            let retry = Retry::builder("work").budget(Budget::unlimited()).build()?;
            BoxCloneSyncService::new(
                user.layer(retry.layer().http().map_body(reqwest::Body::wrap))
                    .layer(timeout)
                    .service(transport),
            )
        }
        Layers::Buttress => BoxCloneSyncService::new(
            user.layer(
                Retry::new("work")
                    .layer()
                    .http()
                    .map_body(reqwest::Body::wrap),
            )
            .layer(
                Throttle::new("work")
                    .layer()
                    .classify(ServerErrorsAsFailures),
            )
            .layer(timeout)
            .layer(DeadlineHeaderClientLayer::new("work"))
            .service(transport),
        ),
    })
}
