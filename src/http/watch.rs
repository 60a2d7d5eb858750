//! The body of a request, watched for those who work for it.

use crate::{
    error::note_wait,
    request_state::{BodyReport, WatchedRequest},
};
use http::Request;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use std::{
    any::{Any, TypeId},
    mem,
    pin::Pin,
    task::{Context, Poll},
};

/// Watches the body of a request to an axum or tonic server, if it has one that has not ended. A
/// request of another type is left as it is.
#[inline]
pub(super) fn watch<Req: 'static>(req: Req) -> (Req, Option<WatchedRequest>) {
    #[cfg(feature = "axum")]
    if TypeId::of::<Req>() == TypeId::of::<Request<axum::body::Body>>() {
        return watch_body(req, axum::body::Body::new);
    }
    #[cfg(feature = "grpc")]
    if TypeId::of::<Req>() == TypeId::of::<Request<tonic::body::Body>>() {
        return watch_body(req, tonic::body::Body::new);
    }
    (req, None)
}

fn watch_body<Req: 'static, B>(
    mut req: Req,
    wrap: impl FnOnce(WatchedBody<B>) -> B,
) -> (Req, Option<WatchedRequest>)
where
    B: Body + Default + 'static,
{
    let any: &mut dyn Any = &mut req;
    let watched = match any.downcast_mut::<Request<B>>() {
        Some(request) if !request.body().is_end_stream() => {
            let watched = WatchedRequest::new();
            if let Some(watched) = &watched {
                let body = mem::take(request.body_mut());
                let report = BodyReport::of(watched);
                *request.body_mut() = wrap(WatchedBody { body, report });
            }
            watched
        }
        _ => None,
    };
    (req, watched)
}

pin_project! {
    /// A request's body that tells how it is doing.
    struct WatchedBody<B> {
        #[pin]
        body: B,
        report: BodyReport,
    }
}

impl<B: Body> Body for WatchedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let polled = this.body.poll_frame(cx);
        match &polled {
            Poll::Pending => {
                // In the caller's own task, the time until more comes is not the service's.
                note_wait();
                this.report.waits(true);
            }
            Poll::Ready(Some(Err(_))) => this.report.failed(),
            Poll::Ready(_) => this.report.waits(false),
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
