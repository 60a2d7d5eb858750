//! Bodies that are polled in the context of their call.

use crate::context::Context;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use std::{
    pin::Pin,
    task::{self, Poll},
};

pin_project! {
    /// The body of a response that is polled in the [context](crate::context) of its call, so that
    /// what a streaming handler calls has the same criticality.
    #[derive(Debug)]
    pub struct ContextBody<B> {
        #[pin]
        body: B,
        context: Context,
    }
}

impl<B> ContextBody<B> {
    #[inline]
    pub(super) fn new(body: B, context: Context) -> Self {
        Self { body, context }
    }

    /// Consumes `self`, returning the service's own body.
    pub fn into_inner(self) -> B {
        self.body
    }
}

/// Makes a body that belongs to no call, for layers further out that answer by themselves, as
/// tower-http's `CorsLayer` and `TimeoutLayer` do.
impl<B: Default> Default for ContextBody<B> {
    fn default() -> Self {
        Self::new(B::default(), crate::context::current())
    }
}

impl<B: Body> Body for ContextBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    #[inline]
    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        this.context.enter(|| this.body.poll_frame(cx))
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
