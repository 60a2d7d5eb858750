//! The forms in which a policy is used: around a closure, a service, HTTP and gRPC.

use axum::body::Body;
use buttress::{
    Error, Guard, GuardLayer, Outcome, Rejected, Retry,
    grpc::Grpc,
    guard::{self, Immediate},
    http::{Http, Respond},
};
use bytes::Bytes;
use futures::stream;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use std::{convert::Infallible, future::Future, io, pin::Pin, rc::Rc, time::Duration};
use tower::{Layer, ServiceExt, service_fn};

pub(crate) type Fails = Error<io::Error>;
type Pinned<T> = Pin<Box<dyn Future<Output = Result<T, Fails>>>>;
/// What the service does, and a call of it through a policy.
pub(crate) type Work = Pinned<Said>;
pub(crate) type Call = Pinned<()>;
pub(crate) type Inside = Rc<dyn Fn() -> Work>;

/// What the service says in its answer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Said {
    Success,
    Failure,
    Overloaded(Option<Duration>),
    Ignored,
}

/// How a policy is used.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Form {
    Closure,
    Service,
    Http(Carried),
    Grpc(Carried),
}

/// How a rejection by a policy further in goes up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Carried {
    AsError,
    /// A layer of this process has answered for it.
    AsAnswer,
    /// It has answered another process.
    BetweenProcesses,
}

/// The forms in which every end can be made.
pub(crate) const ALL: [Form; 6] = [
    Form::Closure,
    Form::Service,
    Form::Http(Carried::AsError),
    Form::Http(Carried::AsAnswer),
    Form::Grpc(Carried::AsError),
    Form::Grpc(Carried::AsAnswer),
];
/// Those in which a rejection by another process can be told from a failure.
pub(crate) const PROCESSES: [Form; 2] = [
    Form::Http(Carried::BetweenProcesses),
    Form::Grpc(Carried::BetweenProcesses),
];

/// The classifier of closures and of plain services.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn judge(result: Result<&Said, &Fails>) -> Outcome {
    match result {
        Ok(Said::Success) => Outcome::Success,
        Ok(Said::Ignored) => Outcome::Ignored,
        Ok(Said::Overloaded(after)) => Outcome::Overloaded {
            retry_after: *after,
        },
        Ok(Said::Failure) | Err(_) => Outcome::Failure,
    }
}

impl Form {
    /// Calls the service through a guard.
    pub(crate) async fn call<G>(self, guard: G, inside: Inside) -> Result<(), Fails>
    where
        G: Guard<()> + Guard<Request<()>> + Clone + Send + Sync + 'static,
        G::Wait: Immediate,
    {
        let plain = inside.clone();
        let answers = service_fn(move |_: Request<()>| self.answer(inside()));
        match self {
            Self::Closure => guard::classify(guard, judge)
                .run(|| plain())
                .await
                .map(drop),
            Self::Service => {
                let layer = GuardLayer::new(guard).classify(judge);
                let call = layer.layer(service_fn(move |()| plain())).oneshot(());
                call.await.map(drop)
            }
            Self::Http(_) => {
                let service = GuardLayer::new(guard).http().layer(answers);
                read(service.oneshot(Request::new(())).await?).await
            }
            Self::Grpc(_) => {
                let service = GuardLayer::new(guard).grpc().layer(answers);
                read(service.oneshot(Request::new(())).await?).await
            }
        }
    }

    /// Calls the service through a retry.
    pub(crate) async fn retry(self, retry: &Retry, inside: Inside) -> Result<(), Fails> {
        match self {
            Self::Closure => retry.classify(judge).run(|| inside()).await.map(drop),
            Self::Service => {
                let layer = retry.layer().classify(judge);
                let call = layer.layer(service_fn(move |()| inside())).oneshot(());
                call.await.map(drop)
            }
            Self::Http(_) => {
                let service = service_fn(move |_| self.answer(inside()));
                let request = Request::new(Empty::<Bytes>::new());
                let layer = retry.layer().http();
                read(layer.layer(service).oneshot(request).await?).await
            }
            Self::Grpc(_) => {
                let service =
                    service_fn(move |_: Request<tonic::body::Body>| self.answer(inside()));
                let request = Request::new(tonic::body::Body::empty());
                let layer = retry.layer().grpc();
                read(layer.layer(service).oneshot(request).await?).await
            }
        }
    }

    /// Puts what the service says into this form's answer, and into what carries a rejection.
    async fn answer(self, work: Work) -> Result<Response<Body>, Fails> {
        let (is_grpc, carried) = match self {
            Self::Grpc(carried) => (true, carried),
            Self::Http(carried) => (false, carried),
            Self::Closure | Self::Service => (false, Carried::AsError),
        };
        let said = match work.await {
            Err(Error::Rejected(rejected)) if carried != Carried::AsError => {
                let mut answer = refusal(is_grpc, rejected);
                if carried == Carried::BetweenProcesses {
                    answer.extensions_mut().clear();
                }
                return Ok(answer);
            }
            said => said?,
        };
        Ok(match is_grpc {
            true => grpc(said),
            false => http(said),
        })
    }
}

fn refusal(is_grpc: bool, rejected: Rejected) -> Response<Body> {
    match is_grpc {
        true => Respond::respond(&Grpc, rejected).map(Body::new),
        false => Respond::respond(&Http, rejected).map(Body::new),
    }
}

fn http(said: Said) -> Response<Body> {
    let (status, retry_after) = match said {
        Said::Success => (200, None),
        Said::Failure => (500, None),
        Said::Overloaded(after) => (429, after),
        Said::Ignored => (404, None),
    };
    let mut answer = Response::builder().status(status);
    if let Some(after) = retry_after {
        answer = answer.header("retry-after", after.as_secs());
    }
    answer.body(Body::new(Full::from("body"))).unwrap()
}

fn grpc(said: Said) -> Response<Body> {
    let (status, retry_after) = match said {
        Said::Success => ("0", None),
        Said::Failure => ("13", None),
        Said::Overloaded(after) => ("8", after),
        Said::Ignored => ("5", None),
    };
    let answer = Response::builder().header("content-type", "application/grpc");
    if status == "0" {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", status.parse().unwrap());
        let frames = [Frame::data(Bytes::from("one")), Frame::trailers(trailers)];
        let frames = stream::iter(frames.map(Ok::<_, Infallible>));
        return answer.body(Body::new(StreamBody::new(frames))).unwrap();
    }
    // As tonic's servers do.
    let mut answer = answer.header("grpc-status", status);
    if let Some(after) = retry_after {
        answer = answer.header("grpc-retry-pushback-ms", after.as_millis().to_string());
    }
    answer.body(Body::empty()).unwrap()
}

/// Reads an answer to its end, with which its call ends.
async fn read<B: http_body::Body<Error: std::fmt::Debug>>(
    answer: Response<B>,
) -> Result<(), Fails> {
    answer.into_body().collect().await.unwrap();
    Ok(())
}
