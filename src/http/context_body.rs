//! Bodies that are polled in the context of their call.

use crate::context::{self, Context, Entered};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use std::{
    pin::Pin,
    task::{self, Poll},
};

pin_project! {
    /// The body of a response that is polled and dropped in the [context](crate::context) of its
    /// call, so that what a streaming handler calls has the same criticality, and what it leaves
    /// undone is known to belong to the same request.
    #[derive(Debug)]
    pub struct ContextBody<B> {
        #[pin]
        body: Entered<B, Context>,
    }
}

impl<B> ContextBody<B> {
    #[inline]
    pub(super) const fn new(body: B, context: Context) -> Self {
        let body = Entered::new(body, context);
        Self { body }
    }
}

/// Makes a body that belongs to no call, for layers further out that answer by themselves, as
/// tower-http's `CorsLayer` and `TimeoutLayer` do.
impl<B: Default> Default for ContextBody<B> {
    fn default() -> Self {
        Self::new(B::default(), context::current())
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
        self.project().body.poll_with(|body| body.poll_frame(cx))
    }

    #[inline]
    fn is_end_stream(&self) -> bool {
        self.body.get().is_none_or(B::is_end_stream)
    }

    #[inline]
    fn size_hint(&self) -> SizeHint {
        let hint = self.body.get().map(B::size_hint);
        hint.unwrap_or_else(|| SizeHint::with_exact(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Criticality,
        http::{CRITICALITY_HEADER, CriticalityHeaderLayer},
    };
    use http::{Request, Response};
    use std::{
        convert::Infallible,
        future::pending,
        sync::{Arc, Mutex},
    };
    use tower::{Layer, Service, service_fn};

    fn request(path: &str) -> Request<()> {
        let req = Request::get(path).header(CRITICALITY_HEADER, "sheddable");
        req.body(()).unwrap()
    }

    /// A future and a body that tell in which context they were dropped.
    struct Tells(Arc<Mutex<Vec<Option<Criticality>>>>);

    impl Drop for Tells {
        fn drop(&mut self) {
            self.0.lock().unwrap().push(context::current().criticality);
        }
    }

    impl Body for Tells {
        type Data = &'static [u8];
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut task::Context<'_>,
        ) -> Poll<Option<Result<Frame<&'static [u8]>, Infallible>>> {
            Poll::Pending
        }
    }

    #[tokio::test]
    async fn what_a_call_leaves_undone_ends_in_its_context() {
        let dropped = Arc::<Mutex<Vec<_>>>::default();
        let service = service_fn(|req: Request<()>| {
            let tells = Tells(Arc::clone(&dropped));
            async move {
                if req.uri() == "/hang" {
                    pending::<()>().await;
                }
                Ok::<_, ()>(Response::new(tells))
            }
        });
        let mut service = CriticalityHeaderLayer::new().layer(service);
        // Never begun, left, and answered with a body that nobody reads to its end.
        drop(service.call(request("/hang")));
        let mut call = tokio_test::task::spawn(service.call(request("/hang")));
        assert!(call.poll().is_pending());
        drop(call);
        let answer = service.call(request("/")).await.unwrap();
        let mut body = tokio_test::task::spawn(answer.into_body());
        let frame = body.enter(|cx, body| body.poll_frame(cx));
        assert!(frame.is_pending());
        drop(body);
        let dropped = dropped.lock().unwrap();
        assert_eq!(*dropped, [Some(Criticality::Sheddable); 3]);
        assert_eq!(context::current().criticality, None);
    }
}
