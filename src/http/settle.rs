//! Calls that end when the body of their response does.

use super::{ServerErrorsAsFailures, marker::marked};
use crate::{
    classify::{Classify, Outcome},
    error::{RefusalMark, limiter},
    guard::{CallGuard, End, GuardRef, Settle, Strategy, StrategyRef},
};
use bytes::Buf;
use http::{HeaderMap, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

/// The strategy that ends a call when the response's body ends, and holds its permit until then.
///
/// The classifier judges the response's head. That outcome stands, unless the body ends in an
/// error, which is a failure. It stands even if the body is dropped before its end: its reader has
/// lost interest, or has read all it wanted (hyper stops reading when `Content-Length` is reached,
/// and never reads the body of a response to `HEAD`). Neither says anything about the service.
/// But a limit that cuts the body off while its reader waits for more ends the call as
/// [`TimedOut`](crate::guard::End::TimedOut), or as cancelled if it was the caller's. A reader
/// waits from a poll that found nothing to its next poll: one that was woken, and does not come
/// back before the limit, is taken for one that still waits.
#[derive(Clone, Copy, Debug, Default)]
pub struct OnBodyEnd<C = ServerErrorsAsFailures>(pub C);

impl<C> Strategy for OnBodyEnd<C> {}

/// A strategy that ends a call with the response's body, after the head has been judged:
/// [`OnBodyEnd`] or, with the `grpc` feature, `grpc::OnTrailers`.
pub trait BodyEnd {
    /// What the response's head said about the outcome, and what has been learnt from its body
    /// since.
    type Head;

    /// Looks at data of the body that passes. Returns whether the call has ended with it, whatever
    /// follows. Does nothing by default.
    #[inline]
    fn read(&self, _head: &mut Self::Head, _data: &impl Buf) -> bool {
        false
    }

    /// Returns the outcome of a call whose body has ended, with these trailers if it had any.
    fn ended(&self, head: &Self::Head, trailers: Option<&HeaderMap>) -> Outcome;

    /// Returns the outcome as far as it is known before the body has ended, by the head, and by
    /// whether any data has been `read`; `None` if nothing is known yet.
    fn begun(&self, head: &Self::Head, read: bool) -> Option<Outcome>;

    /// Returns how a call ended whose body was dropped before its end. `read` is whether any data
    /// had been read from it.
    fn dropped(&self, head: &Self::Head, read: bool) -> End;
}

impl<C> BodyEnd for OnBodyEnd<C> {
    type Head = Outcome;

    #[inline]
    fn ended(&self, head: &Outcome, _: Option<&HeaderMap>) -> Outcome {
        *head
    }

    #[inline]
    fn begun(&self, head: &Outcome, _: bool) -> Option<Outcome> {
        Some(*head)
    }

    #[inline]
    fn dropped(&self, head: &Outcome, _: bool) -> End {
        End::Done(*head)
    }
}

impl<B, E, C> Settle<Response<B>, E> for OnBodyEnd<C>
where
    B: Body,
    C: Classify<Response<B>, E>,
{
    type Response<R: StrategyRef<Strategy = Self>> = Response<GuardedBody<B, R>>;

    #[inline]
    fn settle<R: StrategyRef<Strategy = Self>>(
        held: &mut CallGuard<R>,
        result: Result<Response<B>, E>,
    ) -> Result<Self::Response<R>, E> {
        settle_by_head(held, result, |settle, result| settle.0.classify(result))
    }
}

/// Ends a call that has an error in place of a response, or moves its permit into the response's
/// body. `judge` says what is known by the head, or by the error.
#[inline]
pub(crate) fn settle_by_head<B: Body, E, R: StrategyRef<Strategy: BodyEnd>>(
    held: &mut CallGuard<R>,
    result: Result<Response<B>, E>,
    judge: impl FnOnce(&R::Strategy, Result<&Response<B>, &E>) -> <R::Strategy as BodyEnd>::Head,
) -> Result<Response<GuardedBody<B, R>>, E> {
    if let Ok(response) = &result {
        end_if_made_of_rejection(held, response);
    }
    let judge = |settle: &R::Strategy| judge(settle, result.as_ref());
    let head = held.during(|held| held.strategy().map(judge));
    match result {
        Ok(response) => Ok(hold_in_body(held, head, response)),
        Err(error) => {
            let said = held.strategy().zip(head.as_ref());
            let outcome = said.and_then(|(settle, head)| settle.begun(head, false));
            debug_assert!(
                outcome.is_some() || held.has_ended(),
                "an error says it all"
            );
            if let Some(outcome) = outcome {
                held.end_badly(End::Done(outcome));
            }
            Err(error)
        }
    }
}

/// Ends a call whose response was made of a rejection by a policy in this process: a layer further
/// in answers for it.
#[inline]
fn end_if_made_of_rejection<B, R: GuardRef>(held: &mut CallGuard<R>, response: &Response<B>) {
    if let Some(rejected) = response.extensions().get() {
        held.end_rejected(rejected);
    }
}

/// Moves the permit into the body, unless that has ended already. There is no head if the call has
/// ended, as a rejection from below.
#[inline]
fn hold_in_body<B: Body, R: StrategyRef<Strategy: BodyEnd>>(
    held: &mut CallGuard<R>,
    head: Option<<R::Strategy as BodyEnd>::Head>,
    response: Response<B>,
) -> Response<GuardedBody<B, R>> {
    let mut call = head.map(|head| Call {
        held: held.take(),
        head,
        read: false,
        waited_for: false,
    });
    response.map(|body| {
        // Nobody polls a body that says it has ended.
        if let Some(call) = &mut call {
            match body.is_end_stream() {
                true => call.ended(None),
                false => call.begun(),
            }
        }
        GuardedBody { body, call }
    })
}

/// A call whose response is being read.
struct Call<R: StrategyRef<Strategy: BodyEnd>> {
    held: CallGuard<R>,
    head: <R::Strategy as BodyEnd>::Head,
    read: bool,
    /// Whether its reader has asked for more than there was: if not, it is the reader who is slow.
    /// To know when it was woken since, an allocation for each body would be needed.
    waited_for: bool,
}

impl<R: StrategyRef<Strategy: BodyEnd>> Call<R> {
    #[inline]
    fn begun(&mut self) {
        let (head, read) = (&self.head, self.read);
        let begun = self.held.strategy().and_then(|settle| {
            // Not twice: what the head had said is known.
            let known = read && settle.begun(head, false).is_some();
            settle.begun(head, read).filter(|_| !known)
        });
        if let Some(outcome) = begun {
            self.held.answered(outcome);
        }
    }

    #[inline]
    fn ended(&mut self, trailers: Option<&HeaderMap>) {
        let head = &self.head;
        self.held
            .end_as(|settle| End::Done(settle.ended(head, trailers)));
    }

    /// Shows data to the strategy. Returns whether the call has ended with it.
    #[inline]
    fn read(&mut self, data: &impl Buf) -> bool {
        self.read |= data.has_remaining();
        let head = &mut self.head;
        self.held
            .during(|held| held.strategy().map(|settle| settle.read(head, data)))
            .unwrap_or(false)
    }
}

impl<R: StrategyRef<Strategy: BodyEnd>> Drop for Call<R> {
    #[inline]
    fn drop(&mut self) {
        // A limit has cut it off while it was waited for: the guard is told whose.
        if self.waited_for && limiter().is_some() {
            return;
        }
        let (head, read) = (&self.head, self.read);
        self.held.end_as(|settle| settle.dropped(head, read));
    }
}

pin_project! {
    /// A response body that holds its call's permit until it ends or is dropped.
    pub struct GuardedBody<B, R: StrategyRef<Strategy: BodyEnd>> {
        // Fields drop in order: what the body occupies before the permit for it.
        #[pin]
        body: B,
        call: Option<Call<R>>,
    }
}

/// Makes a body that belongs to no call, for layers further out that answer by themselves, as
/// tower-http's `CorsLayer` and `TimeoutLayer` do.
impl<B: Default, R: StrategyRef<Strategy: BodyEnd>> Default for GuardedBody<B, R> {
    fn default() -> Self {
        let body = B::default();
        Self { body, call: None }
    }
}

// `'static`: an error is asked where it came from, as those in place of a head are.
impl<B: Body<Error: 'static>, R: StrategyRef<Strategy: BodyEnd>> Body for GuardedBody<B, R> {
    type Data = B::Data;
    type Error = B::Error;

    #[inline]
    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        let Some(call) = this.call else {
            return this.body.poll_frame(cx);
        };
        let mark = RefusalMark::set();
        let polled = call.held.poll(mark, || {
            let frame = ready!(this.body.as_mut().poll_frame(cx));
            let end = frame.is_none() || this.body.is_end_stream();
            Poll::Ready((frame, end))
        });
        call.waited_for = polled.is_pending();
        let (frame, end) = ready!(polled);
        match &frame {
            Some(Err(error)) => match call.held.during(|_| mark.rejection(error)) {
                Some(rejected) => call.held.end_rejected(&rejected),
                None => call.held.end_badly(End::Done(Outcome::Failure)),
            },
            Some(Ok(frame)) => {
                let trailers = frame.trailers_ref();
                // Trailers of ours, in place of the service's.
                if trailers.is_some_and(|trailers| marked(trailers).is_some())
                    && let Some(rejected) = mark.refusal()
                {
                    call.held.end_rejected(&rejected);
                }
                let had_read = call.read;
                let said = frame.data_ref().is_some_and(|data| call.read(data));
                let first = call.read && !had_read;
                if end || said || trailers.is_some() {
                    call.ended(trailers);
                } else if first {
                    call.begun();
                }
            }
            None => call.ended(None),
        }
        Poll::Ready(frame)
    }

    #[inline]
    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    #[inline]
    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B: fmt::Debug, R: StrategyRef<Strategy: BodyEnd>> fmt::Debug for GuardedBody<B, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardedBody")
            .field("body", &self.body)
            .field("held", &self.call.as_ref().map(|call| &call.held))
            .finish()
    }
}
