//! Requests, answers, and the wires that they travel on.

use crate::{
    clock,
    record::{self, Count},
};
use buttress::{Kind, Outcome, Rejected, Time, context, timeout::Deadline};
use std::{
    cell::Cell,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::task::JoinHandle;
use tower::{Service, ServiceExt, util::BoxCloneSyncService};

/// Seconds from one machine to the next.
const HOP: f64 = 0.000_5;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub(crate) critical: bool,
    /// Where it travels with the request.
    pub(crate) deadline: Option<Time>,
}

/// A request was not served.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// One of our own layers in this process refused it, or gave up.
    Rejected(Rejected),
    /// The other side answered that it was full: 503, with a `Retry-After` and the marker.
    Full(Option<Duration>),
    /// The other side answered with an error: 500, 504.
    Failed,
}

impl From<Rejected> for Fault {
    fn from(rejected: Rejected) -> Self {
        Self::Rejected(rejected)
    }
}

impl Fault {
    /// What the caller sees of it.
    pub(crate) fn outside(self) -> Self {
        match self {
            Self::Rejected(rejected) => match rejected.kind() {
                Kind::TimedOut | Kind::DeadlineExceeded => Self::Failed,
                _ => Self::Full(rejected.retry_after()),
            },
            other => other,
        }
    }
}

/// Tells overload from failure, as `http::ServerErrorsAsFailures` does.
pub(crate) fn classify(result: Result<&(), &Fault>) -> Outcome {
    match result {
        Ok(()) => Outcome::Success,
        Err(&Fault::Full(retry_after)) => Outcome::Overloaded { retry_after },
        Err(_) => Outcome::Failure,
    }
}

/// Some service in another process.
pub(crate) type Remote = BoxCloneSyncService<Request, (), Fault>;

/// What the backend's machine does to all that comes in.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Weather {
    #[default]
    Fair,
    /// Answers everything with an error, at once.
    Errors,
    /// Answers nothing.
    Hole,
}

thread_local!(static WEATHER: Cell<Weather> = const { Cell::new(Weather::Fair) });

pub(crate) fn set_weather(weather: Weather) {
    WEATHER.set(weather);
}

/// How requests get to another process.
#[derive(Clone)]
pub(crate) struct Wire {
    pub(crate) to: Remote,
    /// What arrives there counts as this.
    pub(crate) counts: Count,
    /// Whether it leads to the backend, where there is weather.
    pub(crate) exposed: bool,
    /// Whether the deadline travels along.
    pub(crate) deadlines: bool,
    /// Whether the other side drops a request whose caller has gone.
    pub(crate) notices: bool,
}

impl Service<Request> for Wire {
    type Response = ();
    type Error = Fault;
    type Future = Sent;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut req: Request) -> Sent {
        req.deadline = context::current().deadline.filter(|_| self.deadlines);
        let wire = self.clone();
        Sent {
            task: Some(tokio::spawn(wire.carry(req))),
            notices: self.notices,
        }
    }
}

impl Wire {
    /// The way there, the other side's work, and the way back. `None` if nothing comes back.
    async fn carry(self, req: Request) -> Option<Result<(), Fault>> {
        clock::delay(clock::steps(HOP)).await;
        record::count(self.counts);
        let weather = match self.exposed {
            true => WEATHER.get(),
            false => Weather::Fair,
        };
        let result = match weather {
            Weather::Fair => {
                let at = clock::now();
                let call = self.to.oneshot(req);
                let result = match req.deadline {
                    Some(deadline) => Deadline::at(deadline).scope(call).await,
                    None => call.await,
                };
                if result.is_ok() && self.exposed {
                    record::admitted(at);
                }
                result.map_err(Fault::outside)
            }
            Weather::Errors => Err(Fault::Failed),
            Weather::Hole => return None,
        };
        clock::delay(clock::steps(HOP)).await;
        Some(result)
    }
}

/// A request on its way.
pub(crate) struct Sent {
    /// `None` if the answer is lost.
    task: Option<JoinHandle<Option<Result<(), Fault>>>>,
    notices: bool,
}

impl Future for Sent {
    type Output = Result<(), Fault>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(task) = &mut self.task else {
            return Poll::Pending;
        };
        match ready!(Pin::new(task).poll(cx)) {
            Ok(Some(result)) => Poll::Ready(result),
            Ok(None) => {
                self.task = None;
                Poll::Pending
            }
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        if let Some(task) = &self.task
            && self.notices
        {
            task.abort();
        }
    }
}
