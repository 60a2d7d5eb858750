//! The service below: it does what the request's path says, and insists on being made ready.

use buttress::{Classify, Outcome, Rejected};
use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::Full;
use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
};
use tower::Service;

pub(crate) type Req = Request<Full<Bytes>>;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum E {
    Rejected(Rejected),
    Boom(u8),
}

impl From<Rejected> for E {
    fn from(rejected: Rejected) -> Self {
        Self::Rejected(rejected)
    }
}

/// A request for that behaviour. Making it allocates nothing.
pub(crate) fn get(path: &'static str) -> Req {
    let mut req = Request::new(Full::default());
    *req.uri_mut() = Uri::from_static(path);
    req
}

/// What is left in a response's extensions, to see that they pass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Mark(pub(crate) u8);

#[derive(Default)]
struct State {
    mood: Mutex<Option<Poll<Result<(), E>>>>,
    waker: Mutex<Option<Waker>>,
    calls: AtomicUsize,
    running: AtomicUsize,
}

/// Its clones have what it counts in common, but not their readiness.
#[derive(Default)]
pub(crate) struct Inner {
    ready: bool,
    state: Arc<State>,
}

impl Clone for Inner {
    fn clone(&self) -> Self {
        let (ready, state) = (false, self.state.clone());
        Self { ready, state }
    }
}

impl Inner {
    /// From now on, `poll_ready` answers like this.
    pub(crate) fn mood(&self, mood: Poll<Result<(), E>>) {
        *self.state.mood.lock().unwrap() = Some(mood);
        if let Some(waker) = self.state.waker.lock().unwrap().take() {
            waker.wake();
        }
    }
    /// Calls begun so far.
    pub(crate) fn calls(&self) -> usize {
        self.state.calls.load(SeqCst)
    }
    /// Calls whose futures have not been dropped.
    pub(crate) fn running(&self) -> usize {
        self.state.running.load(SeqCst)
    }
}

impl<B> Service<Request<B>> for Inner {
    type Response = Response<Full<Bytes>>;
    type Error = E;
    type Future = Call;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), E>> {
        let mood = self
            .state
            .mood
            .lock()
            .unwrap()
            .unwrap_or(Poll::Ready(Ok(())));
        if mood.is_pending() {
            *self.state.waker.lock().unwrap() = Some(cx.waker().clone());
        }
        self.ready = mood == Poll::Ready(Ok(()));
        mood
    }

    fn call(&mut self, req: Request<B>) -> Call {
        assert!(
            std::mem::take(&mut self.ready),
            "called without being made ready"
        );
        self.state.calls.fetch_add(1, SeqCst);
        assert_ne!(req.uri().path(), "/panic-in-call");
        self.state.running.fetch_add(1, SeqCst);
        let uri = req.into_parts().0.uri;
        let pending = match uri.path() {
            "/slow" => 2,
            "/hang" => usize::MAX,
            _ => 0,
        };
        let state = self.state.clone();
        Call {
            uri,
            pending,
            state,
        }
    }
}

pub(crate) struct Call {
    uri: Uri,
    pending: usize,
    state: Arc<State>,
}

impl Future for Call {
    type Output = Result<Response<Full<Bytes>>, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.pending {
            0 => {}
            usize::MAX => return Poll::Pending,
            _ => {
                self.pending -= 1;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        let mut response = Response::new(Full::new(Bytes::from_static(b"answer")));
        match self.uri.path() {
            "/panic-in-poll" => panic!("in poll"),
            "/error" => return Poll::Ready(Err(E::Boom(7))),
            "/touch" => *response.status_mut() = http::StatusCode::IM_A_TEAPOT,
            "/marked" => {
                response
                    .headers_mut()
                    .insert("x-mark", "8".try_into().unwrap());
                response.extensions_mut().insert(Mark(9));
            }
            _ => {}
        }
        Poll::Ready(Ok(response))
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.state.running.fetch_sub(1, SeqCst);
    }
}

/// A classifier that cannot stand teapots.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Touchy;

impl<B, Er> Classify<Response<B>, Er> for Touchy {
    fn classify(&self, result: Result<&Response<B>, &Er>) -> Outcome {
        match result {
            Ok(response) => {
                assert_ne!(response.status(), http::StatusCode::IM_A_TEAPOT);
                Outcome::Success
            }
            Err(_) => Outcome::Failure,
        }
    }
}
