//! A body that may be as long as it likes, but may not stop coming.

use axum::BoxError;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Sleep, sleep};

pin_project! {
    /// A body that fails when nothing has come of it for this long. The timeout around an attempt
    /// ends with the head of the response; without this, a backend that stops within the body
    /// would hold on to the client, and to the breaker's probe, for ever.
    pub(crate) struct Bounded<B> {
        #[pin]
        body: B,
        #[pin]
        timer: Option<Sleep>,
        idle: Duration,
    }
}

impl<B> Bounded<B> {
    pub(crate) fn new(body: B, idle: Duration) -> Self {
        Self {
            body,
            timer: None,
            idle,
        }
    }
}

impl<B: Body<Error: Into<BoxError>>> Body for Bounded<B> {
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        let mut this = self.project();
        // The body first: time during which the client did not read is not the backend's.
        if let Poll::Ready(frame) = this.body.poll_frame(cx) {
            this.timer.set(None);
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        if this.timer.is_none() {
            this.timer.set(Some(sleep(*this.idle)));
        }
        if let Some(timer) = this.timer.as_mut().as_pin_mut() {
            ready!(timer.poll(cx));
        }
        Poll::Ready(Some(Err("the backend stopped within the body".into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
