//! The deadline of a whole call, and all that it causes.

use super::alarm::Alarm;
use crate::{
    clock::Time,
    context,
    error::{FromRejected, Kind, Name, Rejected, refuse},
};
use pin_project_lite::pin_project;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tower_layer::Layer;
use tower_service::Service;

/// The moment at which the caller stops waiting.
///
/// It is kept in the task's [context](crate::context) and not in the request, so that it reaches
/// every policy and every client that a handler uses, whatever their requests look like, without
/// being handed on. It only ever gets nearer: a deadline set inside another one that comes sooner
/// changes nothing.
///
/// A task that the handler spawns has a context of its own. Give it the deadline with
/// [`scope`](Self::scope):
///
/// ```
/// use buttress::timeout::Deadline;
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let deadline = Deadline::current().unwrap_or(Deadline::within(Duration::from_secs(3)));
/// let task = tokio::spawn(deadline.scope(async { Deadline::current() }));
/// assert_eq!(task.await.unwrap(), Some(deadline));
/// # }
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Deadline(Time);

impl Deadline {
    /// The moment this far from now.
    pub fn within(time: Duration) -> Self {
        Self(Time::now().after(time))
    }

    /// This moment.
    pub const fn at(time: Time) -> Self {
        Self(time)
    }

    /// The deadline of the call that is running.
    pub fn current() -> Option<Self> {
        context::current().deadline.map(Self)
    }

    /// The moment itself.
    pub const fn time(self) -> Time {
        self.0
    }

    /// How long it is until then: zero if it has passed.
    pub fn remaining(self) -> Duration {
        self.0.since(Time::now())
    }

    /// Runs a future under this deadline, or under the context's if that comes sooner.
    ///
    /// It does not cut the future off; everything in it that waits keeps to the deadline.
    pub fn scope<F: Future>(self, future: F) -> DeadlineScope<F> {
        DeadlineScope {
            future,
            deadline: self.0,
        }
    }

    /// The sooner of this deadline and the context's.
    pub(crate) fn or_sooner(self) -> Self {
        Self::current().map_or(self, |current| current.min(self))
    }
}

/// Runs `f` under this deadline, or the context's if that comes sooner.
#[inline]
fn under<T>(deadline: Time, f: impl FnOnce() -> T) -> T {
    let mut context = context::current();
    if deadline < context.deadline.unwrap_or(Time(u64::MAX)) {
        context.deadline = Some(deadline);
    }
    context.enter(f)
}

pin_project! {
    /// A future under a deadline: see [`Deadline::scope`].
    #[derive(Debug)]
    pub struct DeadlineScope<F> {
        #[pin]
        future: F,
        deadline: Time,
    }
}

impl<F: Future> Future for DeadlineScope<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        under(*this.deadline, || this.future.poll(cx))
    }
}

/// Gives every call a deadline, for itself and for all that it causes.
///
/// A call that is not over by then is cancelled (its future is dropped) and answered with
/// [`DeadlineExceeded`](Kind::DeadlineExceeded); one whose caller's deadline has passed already is
/// not started. Put it outside a retry: then the attempts and the pauses between them share it, and
/// an attempt that could not start in time is never waited for.
///
/// ```
/// use buttress::{Error, Kind, timeout::{Deadline, DeadlineLayer}};
/// use std::{io, time::Duration};
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let layer = DeadlineLayer::within("checkout", Duration::from_secs(2));
/// let checkout = layer.layer(service_fn(async |item: u32| {
///     assert!(Deadline::current().is_some(), "what is called from here keeps to it, too");
///     Ok::<_, Error<io::Error>>(item)
/// }));
/// match checkout.oneshot(7).await {
///     Ok(item) => println!("sold {item}"),
///     Err(Error::Rejected(r)) if r.kind() == Kind::DeadlineExceeded => println!("{r}"),
///     Err(other) => println!("{other}"),
/// }
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct DeadlineLayer {
    name: &'static str,
    within: Duration,
}

impl DeadlineLayer {
    /// A deadline this long after the call was made. [`Duration::MAX`] sets none, but enforces the
    /// context's.
    pub fn within(name: impl Into<Name>, within: Duration) -> Self {
        let name = name.into().as_str();
        Self { name, within }
    }

    /// The name that its rejections carry.
    pub fn name(&self) -> &'static str {
        self.name
    }
}

impl<S> Layer<S> for DeadlineLayer {
    type Service = DeadlineService<S>;

    #[inline]
    fn layer(&self, inner: S) -> DeadlineService<S> {
        DeadlineService {
            inner,
            layer: *self,
        }
    }
}

/// A service whose calls have a deadline.
#[derive(Clone, Debug)]
pub struct DeadlineService<S /* `buttress::check` says why */> {
    inner: S,
    layer: DeadlineLayer,
}

impl<S> DeadlineService<S> {
    inner_accessors!();
}

impl<S, Req> Service<Req> for DeadlineService<S>
where
    S: Service<Req>,
    S::Error: FromRejected,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = DeadlineFuture<S::Future>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, req: Req) -> Self::Future {
        let DeadlineLayer { name, within } = self.layer;
        let now = Time::now();
        DeadlineFuture::start(name, Deadline(now.after(within)), now, || {
            self.inner.call(req)
        })
    }
}

pin_project! {
    /// The response of a service with a deadline.
    pub struct DeadlineFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F> {
        Running { #[pin] call: F, #[pin] alarm: Alarm, deadline: Time, name: &'static str },
        Over { rejected: Rejected },
    }
}

impl<F> DeadlineFuture<F> {
    /// Makes the call under the deadline, unless that has passed.
    #[inline]
    pub(crate) fn start(
        name: &'static str,
        deadline: Deadline,
        now: Time,
        call: impl FnOnce() -> F,
    ) -> Self {
        let deadline = deadline.or_sooner().0;
        let state = if deadline <= now {
            State::Over {
                rejected: Rejected::new(Kind::DeadlineExceeded, name),
            }
        } else {
            State::Running {
                call: under(deadline, call),
                alarm: Alarm::default(),
                deadline,
                name,
            }
        };
        Self { state }
    }
}

impl<F, T, E> Future for DeadlineFuture<F>
where
    F: Future<Output = Result<T, E>>,
    E: FromRejected,
{
    type Output = Result<T, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        let rejected = match state.as_mut().project() {
            StateProj::Running {
                call,
                alarm,
                deadline,
                name,
            } => {
                if let Poll::Ready(result) = under(*deadline, || call.poll(cx)) {
                    return Poll::Ready(result);
                }
                ready!(alarm.poll(cx, |_| *deadline));
                Rejected::new(Kind::DeadlineExceeded, name).having_reached_service()
            }
            StateProj::Over { rejected } => *rejected,
        };
        // Running => Over: the call has let go of everything when its caller hears of it.
        state.set(State::Over { rejected });
        Poll::Ready(Err(refuse(rejected)))
    }
}

impl<F> fmt::Debug for DeadlineFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadlineFuture").finish_non_exhaustive()
    }
}
