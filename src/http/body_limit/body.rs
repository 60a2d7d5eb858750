//! The body of a response whose limits go on after its head.

use super::{
    BodyCut, BodyLimit,
    cell::{BodyCell, BodyEnds},
    cut::{LimitOwner, has_grpc_trailers},
    pace::Pace,
    wake::{ArrivalWaker, poll_body},
};
use crate::{
    clock::Time,
    context::{self, Context},
    error::note_refusal_by,
    http::respond::BoxError,
};
use bytes::Buf;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use std::{
    fmt,
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    task::{self, Poll, Waker, ready},
};
use tokio::{
    task::unconstrained,
    time::{Sleep, sleep_until},
};

pin_project! {
    /// The body of a response that is held to the limits of its call.
    ///
    /// A body that misses one ends with a [`BodyCut`] as its error; a gRPC response ends with
    /// trailers of `DEADLINE_EXCEEDED`. What the body holds, a connection or a permit, is given
    /// back when it is cut off. The deadline, and a timeout that holds for the whole body, cut off
    /// one that nobody polls any more too. Silence and a low rate are the sender's only while
    /// somebody waits: these limits wake the reader, and hold when it polls the body.
    ///
    /// The [context](crate::context) of the call, with its deadline and its criticality, is entered
    /// while the body is polled or dropped.
    pub struct LimitedBody<B> {
        #[pin]
        state: State<B>,
        context: Context,
    }

    impl<B> PinnedDrop for LimitedBody<B> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            match this.state.project() {
                StateProj::Free { mut body } => this.context.enter(|| body.set(None)),
                // The timer still points to it.
                StateProj::Limited { reading } => reading.cell.clear(),
            }
        }
    }
}

pin_project! {
    #[project = StateProj]
    enum State<B> {
        // A body that has ended already, or that no limit holds for.
        // `None` once it is being dropped.
        Free { #[pin] body: Option<B> },
        Limited { reading: Pin<Box<Reading<B>>> },
    }
}

pin_project! {
    /// A body that is being read under limits.
    ///
    /// # Invariants
    /// 1. The timer of the body's end is set once, and wakes the cell. That of its pace wakes the
    ///    reader, and is set only while the reader waits.
    /// 2. If there is a minimum rate, the body wakes the arrival, and that wakes the reader. Timers
    ///    and the cell never wake the arrival.
    /// 3. Once the body is over, it has been dropped, and nothing wakes anybody.
    struct Reading<B> {
        cell: Arc<BodyCell<B>>,
        #[pin]
        end: Option<Sleep>,
        pace: Pace,
        #[pin]
        pause: Option<Sleep>,
        arrival: Option<ArrivalWaker>,
        hint: SizeHint,
        grpc: bool,
        over: bool,
    }
}

/// Polls a call, and holds the body of its response to the limits that are read off the call then.
#[inline]
pub(super) fn poll_call<'a, C, B, E, O>(
    mut call: Pin<&'a mut C>,
    cx: &mut task::Context<'_>,
    limits: impl FnOnce(&'a C) -> Option<(BodyEnds, Pace, O)>,
) -> Poll<Result<Response<LimitedBody<B>>, E>>
where
    C: Future<Output = Result<Response<B>, E>>,
    B: Body + Send + 'static,
    O: FnOnce() -> LimitOwner,
{
    let response = match ready!(call.as_mut().poll(cx)) {
        Ok(response) => response,
        Err(error) => return Poll::Ready(Err(error)),
    };
    let Some((ends, pace, owner)) = limits(call.into_ref().get_ref()) else {
        debug_assert!(false, "a call that was refused has no answer");
        return Poll::Ready(Ok(response.map(LimitedBody::free)));
    };
    let context = ends.deadline.enter(context::current);
    Poll::Ready(Ok(limited(response, ends, pace, owner, context)))
}

/// Holds the body of a response to these limits from now on, in this context.
fn limited<B>(
    response: Response<B>,
    ends: BodyEnds,
    pace: Pace,
    owner: impl FnOnce() -> LimitOwner,
    context: Context,
) -> Response<LimitedBody<B>>
where
    B: Body + Send + 'static,
{
    let grpc = has_grpc_trailers(response.headers());
    response.map(|body| {
        let free = body.is_end_stream() || (ends.until() == Time(u64::MAX) && !pace.is_some());
        let state = match free {
            true => State::Free { body: Some(body) },
            false => {
                let hint = body.size_hint();
                let cell = BodyCell::new(body, ends, owner(), context);
                State::Limited {
                    reading: Box::pin(Reading::start(cell, pace, hint, grpc)),
                }
            }
        };
        let mut body = LimitedBody { state, context };
        if let State::Limited { reading } = &mut body.state {
            reading.as_mut().set_end();
        }
        body
    })
}

impl<B> LimitedBody<B> {
    /// Makes a body without limits.
    fn free(body: B) -> Self {
        Self {
            state: State::Free { body: Some(body) },
            context: context::current(),
        }
    }
}

impl<B: Body> Reading<B> {
    fn start(cell: BodyCell<B>, pace: Pace, hint: SizeHint, grpc: bool) -> Self {
        Self {
            cell: Arc::new(cell),
            end: None,
            arrival: pace.has_rate().then(ArrivalWaker::new),
            pace,
            pause: None,
            hint,
            grpc,
            over: false,
        }
    }

    /// Starts the timer of the body's end.
    fn set_end(self: Pin<&mut Self>)
    where
        B: Send + 'static,
    {
        let mut this = self.project();
        let until = this.cell.ends.until();
        if until == Time(u64::MAX) {
            return;
        }
        this.end.set(Some(sleep_until(until.to_instant())));
        let waker = Waker::from(Arc::clone(this.cell));
        let mut cx = task::Context::from_waker(&waker);
        if let Some(sleep) = this.end.as_pin_mut()
            // A task that has used up its budget would not get the timer started.
            && pin!(unconstrained(sleep)).poll(&mut cx).is_ready()
            && let Some(limit) = this.cell.missed(Time::now())
        {
            this.cell.expire(limit);
        }
    }

    /// Polls the body, in the context of the call.
    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BoxError>>>
    where
        B::Error: Into<BoxError>,
    {
        let this = self.as_mut().project();
        if *this.over {
            return Poll::Ready(None);
        }
        let mut waiting = match this.cell.take() {
            Ok(Some(waiting)) => waiting,
            // It panicked when it was last polled.
            Ok(None) => {
                self.end();
                return Poll::Ready(None);
            }
            Err(cut) => return self.tell(cut),
        };
        let body = waiting.body.as_mut();
        let poll = |cx: &mut task::Context<'_>| body.poll_frame(cx);
        let Poll::Ready(frame) = poll_body(cx, this.arrival.as_ref(), this.pace, poll) else {
            let now = Time::now();
            let missed = this.cell.missed(now);
            let missed = missed.or_else(|| poll_pace(this.pace, this.pause, now, cx));
            let kept = match missed {
                Some(limit) => Err(this.cell.cut(limit, waiting)),
                None => {
                    waiting.wait(cx.waker());
                    this.cell.put_back(waiting)
                }
            };
            return match kept {
                Ok(()) => Poll::Pending,
                Err(cut) => self.tell(cut),
            };
        };
        match &frame {
            Some(Ok(frame)) if !frame.is_trailers() && !waiting.body.is_end_stream() => {
                let bytes = frame.data_ref().map_or(0, Buf::remaining);
                this.pace.on_frame(bytes, Time::now);
                *this.hint = waiting.body.size_hint();
                // Should it have been cut off meanwhile, the next poll tells.
                let _ = this.cell.put_back(waiting);
            }
            _ => {
                drop(waiting);
                self.end();
            }
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    /// Ends the reading.
    fn end(self: Pin<&mut Self>) {
        let mut this = self.project();
        *this.over = true;
        this.end.set(None);
        this.pause.set(None);
        *this.arrival = None;
        *this.hint = SizeHint::with_exact(0);
        this.cell.clear();
    }

    /// Ends the reading of a body that has been cut off.
    #[cold]
    fn tell(
        mut self: Pin<&mut Self>,
        cut: BodyCut,
    ) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        let limiter = self.cell.ends.limiter(cut.limit());
        self.as_mut().end();
        note_refusal_by(limiter, cut.rejected());
        Poll::Ready(Some(match self.grpc {
            true => Ok(Frame::trailers(cut.trailers())),
            false => Err(cut.into()),
        }))
    }
}

/// Notes that nothing has come, and returns the limit that is missed by that. Otherwise the timer
/// wakes this reader when it is time to look again.
///
/// A timer that is set already may be early, and is set anew only then: frames that come in time
/// do not touch it.
pub(super) fn poll_pace(
    pace: &mut Pace,
    mut timer: Pin<&mut Option<Sleep>>,
    mut now: Time,
    cx: &mut task::Context<'_>,
) -> Option<BodyLimit> {
    loop {
        let until = match pace.on_pending(now) {
            Ok(until) => until.filter(|until| *until < Time(u64::MAX))?,
            Err(limit) => return Some(limit),
        };
        let until = until.to_instant();
        match timer.as_mut().as_pin_mut() {
            Some(sleep) if sleep.deadline() <= until => {}
            Some(sleep) => sleep.reset(until),
            None => timer.set(Some(sleep_until(until))),
        }
        let fired = match timer.as_mut().as_pin_mut() {
            Some(sleep) => sleep.poll(cx).is_ready(),
            None => return None,
        };
        if !fired {
            return None;
        }
        timer.set(None);
        now = Time::now();
    }
}

/// Makes a body without limits, for layers further out that answer by themselves, as tower-http's
/// `CorsLayer` and `TimeoutLayer` do.
impl<B: Default> Default for LimitedBody<B> {
    fn default() -> Self {
        Self::free(B::default())
    }
}

impl<B> Body for LimitedBody<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    type Data = B::Data;
    type Error = BoxError;

    #[inline]
    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        let this = self.project();
        this.context.enter(|| match this.state.project() {
            StateProj::Free { body } => {
                let Some(body) = body.as_pin_mut() else {
                    debug_assert!(false, "a body that is being dropped is not polled");
                    return Poll::Ready(None);
                };
                let frame = ready!(body.poll_frame(cx));
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            StateProj::Limited { reading } => reading.as_mut().poll_frame(cx),
        })
    }

    fn is_end_stream(&self) -> bool {
        match &self.state {
            State::Free { body } => body.as_ref().is_none_or(Body::is_end_stream),
            State::Limited { reading } => reading.over,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.state {
            State::Free { body } => body
                .as_ref()
                .map_or_else(SizeHint::default, Body::size_hint),
            State::Limited { reading } => SizeHint::clone(&reading.hint),
        }
    }
}

impl<B> fmt::Debug for LimitedBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LimitedBody").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Error, GuardLayer, Now, Timeout,
        context::Limiter,
        error::limiter,
        guard::{Admission, End, Guard, GuardBase, Never, WaitProgress},
        shared::lock,
    };
    use bytes::Bytes;
    use http_body_util::{BodyExt, StreamBody};
    use std::{convert::Infallible, io, sync::Mutex, time::Duration};
    use tower::{Layer, ServiceExt, service_fn};

    /// How calls have ended, and whose limit that was.
    type Ends = Vec<(End, Option<Limiter>)>;

    /// A guard that notes the ends of its calls.
    #[derive(Clone, Debug, Default)]
    struct Noting(Arc<Mutex<Ends>>);

    impl GuardBase for Noting {
        type Permit = ();
        type Wait = Never;

        fn settle(&self, (): (), end: End, _: &Now) {
            lock(&self.0).push((end, limiter()));
        }

        fn abandon(&self, wait: Never, _: &Now) {
            match wait {}
        }
    }

    impl<Req> Guard<Req> for Noting {
        fn admit(&self, _: &Req, _: &Now) -> Admission<(), Never> {
            Admission::Admitted(())
        }

        fn poll_wait(
            &self,
            wait: &mut Never,
            _: &Req,
            _: &mut task::Context<'_>,
            _: &Now,
        ) -> WaitProgress<()> {
            match *wait {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn guards_outside_learn_whose_limit_it_was_however_late_the_body_is_read() {
        let noting = Noting::default();
        let lengths = [3, 1, 2].map(Duration::from_secs);
        let mut bodies = Vec::new();
        for length in lengths {
            let timeout = Timeout::new("api", length).layer().http().whole();
            let stack = (GuardLayer::new(noting.clone()).http(), timeout);
            let service = stack.layer(service_fn(|_: http::Request<()>| async {
                let frames = futures::stream::pending::<Result<Frame<Bytes>, Infallible>>();
                Ok::<_, Error<io::Error>>(Response::new(StreamBody::new(frames)))
            }));
            let response = service.oneshot(http::Request::new(())).await.unwrap();
            bodies.push(Box::pin(response.into_body()));
        }
        // All of them are cut off before the first is read.
        tokio::time::sleep(Duration::from_secs(4)).await;
        for body in &mut bodies {
            assert!(body.frame().await.unwrap().is_err());
        }
        let ends = lengths.map(|length| (End::TimedOut, Some(Limiter::operator(length))));
        assert_eq!(*lock(&noting.0), ends);
    }
}
