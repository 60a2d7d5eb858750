//! A service whose calls end when the test says so.

use buttress::{ErrorsAsFailures, Kind, LoadShed, Rejected};
use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};
use tokio::sync::oneshot;
use tower::Service;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum E {
    Rejected(Rejected),
    Boom,
}
impl From<Rejected> for E {
    fn from(rejected: Rejected) -> Self {
        Self::Rejected(rejected)
    }
}

pub fn kind<T>(result: Result<T, E>) -> Option<Kind> {
    match result {
        Err(E::Rejected(rejected)) => Some(rejected.kind()),
        _ => None,
    }
}

/// Each call is remembered with its request, in order, until it is ended.
#[derive(Clone, Debug, Default)]
pub struct Manual(Arc<Mutex<VecDeque<Running>>>);
type Running = (u32, oneshot::Sender<Result<u32, E>>);

impl Manual {
    pub fn running(&self) -> Vec<u32> {
        self.0.lock().unwrap().iter().map(|(req, _)| *req).collect()
    }

    /// Ends the oldest call.
    pub fn end(&self) {
        self.end_with(Ok(0));
    }

    pub fn end_with(&self, result: Result<u32, E>) {
        let (_, sender) = self.0.lock().unwrap().pop_front().expect("a running call");
        // Its caller may have gone.
        let _ = sender.send(result);
    }
}

impl Service<u32> for Manual {
    type Response = u32;
    type Error = E;
    type Future = Pin<Box<dyn Future<Output = Result<u32, E>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), E>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, req: u32) -> Self::Future {
        let (sender, receiver) = oneshot::channel();
        self.0.lock().unwrap().push_back((req, sender));
        Box::pin(async move { receiver.await.unwrap_or(Err(E::Boom)) })
    }
}

pub fn fixed(limit: usize) -> LoadShed {
    LoadShed::builder("api").fixed(limit).build().unwrap()
}

/// Nothing is in flight, nobody waits, and every permit can be had.
#[track_caller]
pub fn assert_at_rest<P: Send + Sync + 'static>(shed: &LoadShed<P>) {
    let snapshot = shed.snapshot();
    assert_eq!(
        (snapshot.in_flight, snapshot.queued),
        (0, 0),
        "{snapshot:?}"
    );
    let mut service =
        tower::Layer::layer(&shed.layer().classify(ErrorsAsFailures), Manual::default());
    let calls: Vec<_> = (0..snapshot.limit).map(|_| service.call(0)).collect();
    assert_eq!(shed.snapshot().in_flight, snapshot.limit);
    drop(calls);
    assert_eq!(shed.snapshot().in_flight, 0);
}
