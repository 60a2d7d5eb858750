//! The body of a request, watched for those who work for it.

use crate::{
    error::note_wait,
    request_state::{BodyReport, WatchedRequest},
};
use bytes::Bytes;
use http::{HeaderMap, Request};
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
    B: Body<Data = Bytes> + Default + 'static,
{
    let any: &mut dyn Any = &mut req;
    let watched = match any.downcast_mut::<Request<B>>() {
        Some(request) if !request.body().is_end_stream() => {
            let watched = WatchedRequest::new();
            if let Some(watched) = &watched {
                let body = mem::take(request.body_mut());
                let report = BodyReport::of(watched);
                let messages = Messages::of(request.headers());
                *request.body_mut() = wrap(WatchedBody {
                    body,
                    report,
                    messages,
                });
            }
            watched
        }
        _ => None,
    };
    (req, watched)
}

/// The messages in a body that passes, if it is gRPC's.
struct Messages {
    #[cfg(feature = "grpc")]
    framing: Option<crate::grpc::Framing>,
}

impl Messages {
    #[cfg(feature = "grpc")]
    fn of(headers: &HeaderMap) -> Self {
        use super::GrpcType;
        // In a request of gRPC-Web they are the same, unless all of it is in base64.
        let framed = matches!(GrpcType::of(headers), Some(GrpcType::Grpc | GrpcType::Web));
        let framing = framed.then(Default::default);
        Self { framing }
    }

    #[cfg(not(feature = "grpc"))]
    fn of(_: &HeaderMap) -> Self {
        Self {}
    }

    /// Looks at data of the body, or at its end. Returns whether the messages are as they may be.
    #[cfg(feature = "grpc")]
    fn are_well(&mut self, data: Option<&Bytes>, end: bool) -> bool {
        let Some(framing) = &mut self.framing else {
            return true;
        };
        data.into_iter().for_each(|data| framing.read(data));
        match end {
            true => framing.is_whole(),
            false => !framing.is_malformed(),
        }
    }

    #[cfg(not(feature = "grpc"))]
    fn are_well(&mut self, _: Option<&Bytes>, _: bool) -> bool {
        true
    }
}

pin_project! {
    /// A request's body that tells how it is doing.
    struct WatchedBody<B> {
        #[pin]
        body: B,
        report: BodyReport,
        messages: Messages,
    }
}

impl<B: Body<Data = Bytes>> Body for WatchedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let mut this = self.project();
        let polled = this.body.as_mut().poll_frame(cx);
        match &polled {
            Poll::Pending => {
                // In the caller's own task, the time until more comes is not the service's.
                note_wait();
                if this.messages.are_well(None, false) {
                    this.report.waits(true);
                }
            }
            Poll::Ready(Some(Err(_))) => this.report.failed(),
            Poll::Ready(frame) => {
                let data = frame
                    .as_ref()
                    .and_then(|frame| frame.as_ref().ok()?.data_ref());
                let end = data.is_none() || this.body.is_end_stream();
                match this.messages.are_well(data, end) {
                    true => this.report.waits(false),
                    false => this.report.failed(),
                }
            }
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
