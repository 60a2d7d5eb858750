//! A service that writes down what it is sent.

use buttress::guard::OnResponse;
use buttress::{
    Error,
    http::{HttpReplay, ServerErrorsAsFailures},
    retry::{Backoff, Jitter, Retry, RetryLayer},
};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;
use tower::{Service, service_fn};

pub(crate) const MS: Duration = Duration::from_millis(1);
pub(crate) type Answer = Response<&'static str>;

pub(crate) fn layer() -> RetryLayer<HttpReplay, OnResponse<ServerErrorsAsFailures>> {
    let backoff = Backoff::exponential(10 * MS).jitter(Jitter::None);
    Retry::builder("api")
        .backoff(backoff)
        // Dates are in whole seconds, so tests need long ones.
        .max_wait(60_000 * MS)
        .build()
        .unwrap()
        .layer()
        .http()
}

pub(crate) fn answer(status: u16) -> Answer {
    let mut response = Response::new("body");
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

pub(crate) fn with(status: u16, name: &'static str, value: &str) -> Answer {
    let mut response = answer(status);
    response
        .headers_mut()
        .insert(name, HeaderValue::from_str(value).unwrap());
    response
}

/// What an attempt was like: when, its body, its trailers' number, its headers and number.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) at: Instant,
    pub(crate) body: Bytes,
    pub(crate) trailers: usize,
    pub(crate) head: http::request::Parts,
}

/// A service that reads this many frames (all: `usize::MAX`) and gives these answers in turn.
#[derive(Clone, Default)]
pub(crate) struct Origin(Arc<Mutex<(Vec<Seen>, Vec<Answer>)>>);

impl Origin {
    pub(crate) fn answering(answers: impl IntoIterator<Item = Answer>) -> Self {
        let mut answers: Vec<_> = answers.into_iter().collect();
        answers.reverse();
        Self(Arc::new(Mutex::new((Vec::new(), answers))))
    }
    pub(crate) fn calls(&self) -> usize {
        self.0.lock().unwrap().0.len()
    }
    pub(crate) fn seen<T>(&self, f: impl Fn(&Seen) -> T) -> Vec<T> {
        self.0.lock().unwrap().0.iter().map(f).collect()
    }
    pub(crate) fn wait(&self) -> u128 {
        let at = self.seen(|seen| seen.at);
        (at[1] - at[0]).as_millis()
    }
    pub(crate) fn service<B>(
        &self,
        frames: usize,
    ) -> impl Service<Request<B>, Response = Answer, Error = Error<io::Error>> + Clone
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let origin = self.clone();
        service_fn(move |request: Request<B>| {
            let origin = origin.clone();
            async move {
                let (head, mut body) = request.into_parts();
                let (mut read, mut trailers, mut count) = (Vec::new(), 0, 0);
                while count < frames
                    && let Some(frame) = body.frame().await
                {
                    count += 1;
                    let frame = frame.map_err(|_| Error::Service(io::Error::other("body")))?;
                    match frame.into_data() {
                        Ok(data) => read.extend(data),
                        Err(frame) => trailers += frame.into_trailers().unwrap().len(),
                    }
                }
                let mut this = origin.0.lock().unwrap_or_else(PoisonError::into_inner);
                this.0.push(Seen {
                    at: Instant::now(),
                    body: read.into(),
                    trailers,
                    head,
                });
                Ok(this.1.pop().unwrap_or_else(|| answer(200)))
            }
        })
    }
}

pub(crate) fn request(method: Method) -> Request<Full<Bytes>> {
    let request = Request::builder().method(method).uri("http://api/x");
    request.body(Full::from("payload")).unwrap()
}
