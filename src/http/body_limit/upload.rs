//! The body of a request that has to come in fast enough.

use super::{
    BodyCut, BodyLimit, MinRate,
    body::poll_pace,
    pace::Pace,
    wake::{ArrivalWaker, poll_body},
};
use crate::{
    clock::Time,
    context::{self, Limiter},
    error::note_refusal_by,
    http::respond::BoxError,
    request_state::RequestState,
    timeout::Timeout,
};
use bytes::Buf;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::time::Sleep;

/// What a layer makes of the body of a request before it passes that on.
///
/// [`AnyUpload`] passes it on as it is, and [`UploadLimit`] holds it to a minimum of bytes per
/// second.
pub trait PrepareUpload<B> {
    /// The inner service's request body.
    type Body;
    /// Returns the inner service's body for this one, which counts what is cut off as this timeout.
    fn prepare(&self, body: B, timeout: &Timeout) -> Self::Body;
}

/// The default for request bodies: they may take as long as the call.
#[derive(Clone, Copy, Debug, Default)]
pub struct AnyUpload;

impl<B> PrepareUpload<B> for AnyUpload {
    type Body = B;

    #[inline]
    fn prepare(&self, body: B, _: &Timeout) -> B {
        body
    }
}

/// A minimum of bytes per second for request bodies, made by
/// [`BodyTimeoutLayer::min_upload_rate`](super::BodyTimeoutLayer::min_upload_rate).
#[derive(Clone, Copy, Debug)]
pub struct UploadLimit<M = AsUploadBody> {
    rate: MinRate,
    map: M,
}

impl UploadLimit {
    pub(super) const fn new(rate: MinRate) -> Self {
        let map = AsUploadBody;
        Self { rate, map }
    }
}

impl<M> UploadLimit<M> {
    pub(super) fn map_body<F>(self, map: F) -> UploadLimit<F> {
        let rate = self.rate;
        UploadLimit { rate, map }
    }
}

impl<B: Body, M: MapUploadBody<B>> PrepareUpload<B> for UploadLimit<M> {
    type Body = M::Body;

    fn prepare(&self, body: B, timeout: &Timeout) -> M::Body {
        let pace = Pace::new(None, Some(self.rate));
        let waits = pace.has_rate() && !body.is_end_stream();
        self.map.map(UploadBody {
            body: Some(body),
            arrival: waits.then(ArrivalWaker::new),
            pace,
            pause: None,
            timeout: timeout.clone(),
            request: context::current().request,
        })
    }
}

/// A function that makes the inner service's request body from an [`UploadBody`]. Closures are one.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not make a body of an `UploadBody<{B}>`",
    label = "takes another body",
    note = "`reqwest::Body::wrap`, `axum::body::Body::new` and `tonic::body::Body::new` do"
)]
pub trait MapUploadBody<B> {
    /// The inner service's request body.
    type Body;
    /// Returns the inner service's body for this one.
    fn map(&self, body: UploadBody<B>) -> Self::Body;
}

/// The default body function, which passes on the [`UploadBody`] itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct AsUploadBody;

impl<B> MapUploadBody<B> for AsUploadBody {
    type Body = UploadBody<B>;
    fn map(&self, body: UploadBody<B>) -> UploadBody<B> {
        body
    }
}

#[diagnostic::do_not_recommend]
impl<B, B2, F: Fn(UploadBody<B>) -> B2> MapUploadBody<B> for F {
    type Body = B2;
    fn map(&self, body: UploadBody<B>) -> B2 {
        self(body)
    }
}

pin_project! {
    /// The body of a request that is held to a minimum of bytes per second.
    ///
    /// One that comes too slowly ends with a [`BodyCut`] as its error. Its rejection counts as the
    /// [caller's](crate::Rejected::is_callers_limit) doing, so that no policy takes it for a
    /// failure of the service.
    pub struct UploadBody<B> {
        // `None` once it has been cut off.
        #[pin]
        body: Option<B>,
        pace: Pace,
        #[pin]
        pause: Option<Sleep>,
        // `None` if no rate is asked of it.
        arrival: Option<ArrivalWaker>,
        // Of the caller's own request, if this is what it sends on.
        request: RequestState,
        timeout: Timeout,
    }
}

impl<B> Body for UploadBody<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        let mut this = self.project();
        let Some(body) = this.body.as_mut().as_pin_mut() else {
            return Poll::Ready(None);
        };
        let poll = |cx: &mut Context<'_>| body.poll_frame(cx);
        if let Poll::Ready(frame) = poll_body(cx, this.arrival.as_ref(), this.pace, poll) {
            if let Some(Ok(frame)) = &frame {
                let bytes = frame.data_ref().map_or(0, Buf::remaining);
                this.pace.on_frame(bytes, Time::now);
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let Some(limit) = poll_pace(this.pace, this.pause, Time::now(), cx) else {
            return Poll::Pending;
        };
        debug_assert_eq!(limit, BodyLimit::Rate, "nothing else is asked of an upload");
        this.body.set(None);
        *this.arrival = None;
        let rejected = this.timeout.timed_out().having_reached_service();
        let cut = BodyCut::new(rejected.by_callers_limit(), limit);
        note_refusal_by(Limiter::CALLER, cut.rejected());
        this.request.fail();
        Poll::Ready(Some(Err(cut.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Some(body) => body.size_hint(),
            None => SizeHint::default(),
        }
    }
}

impl<B> fmt::Debug for UploadBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UploadBody").finish_non_exhaustive()
    }
}
