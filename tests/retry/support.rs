//! A service with a script.

use buttress::{
    Error,
    retry::{Backoff, Jitter},
};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::time::Instant;
use tower::{Service, service_fn};

pub(crate) type Answer = Result<&'static str, Error<&'static str>>;
pub(crate) const MS: Duration = Duration::from_millis(1);
pub(crate) const BUSY: Answer = Err(Error::Service("busy"));

pub(crate) fn exact(initial: Duration) -> Backoff {
    Backoff::exponential(initial).jitter(Jitter::None)
}

/// Answers in turn, the last one for ever, and writes down when it was called.
#[derive(Clone)]
pub(crate) struct Script(Arc<(Vec<Answer>, Mutex<Vec<Instant>>)>);

impl Script {
    pub(crate) fn new(answers: impl Into<Vec<Answer>>) -> Self {
        Self(Arc::new((answers.into(), Mutex::default())))
    }
    pub(crate) fn calls(&self) -> Vec<Instant> {
        self.0.1.lock().unwrap().clone()
    }
    pub(crate) fn answer(&self) -> Answer {
        let mut calls = self.0.1.lock().unwrap();
        let answer = self.0.0.get(calls.len()).or_else(|| self.0.0.last());
        calls.push(Instant::now());
        *answer.unwrap()
    }
    pub(crate) fn waits(&self) -> Vec<u128> {
        let calls = self.calls();
        calls
            .windows(2)
            .map(|w| (w[1] - w[0]).as_millis())
            .collect()
    }
    pub(crate) fn service(
        &self,
    ) -> impl Service<u32, Response = &'static str, Error = Error<&'static str>, Future: Send>
    + Clone
    + Send
    + 'static {
        let script = self.clone();
        service_fn(move |_| std::future::ready(script.answer()))
    }
}
