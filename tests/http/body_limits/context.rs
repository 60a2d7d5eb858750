//! What a body that is being polled knows of its call.

use super::{Failure, MS, answering};
use buttress::{
    Criticality, Timeout, context,
    http::{CriticalityHeaderLayer, DeadlineHeaderLayer},
    timeout::{Deadline, DeadlineLayer},
};
use bytes::Bytes;
use futures::stream;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, StreamBody};
use std::{
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{self, Poll},
};
use tower::{Layer, ServiceExt, service_fn};

/// A body that says in which context it is polled.
fn telling() -> impl Body<Data = Bytes, Error = Infallible> + Send {
    StreamBody::new(stream::once(async {
        let context = context::current();
        let deadline = Deadline::current().map(Deadline::remaining);
        let text = format!("{deadline:?} {:?}", context.criticality);
        Ok(Frame::data(Bytes::from(text)))
    }))
}

async fn told<L>(layer: L) -> String
where
    L: Layer<tower::util::BoxCloneService<Request<()>, Response<Telling>, Failure>>,
    L::Service: tower::Service<Request<()>, Error = Failure>,
    <L::Service as tower::Service<Request<()>>>::Response: IntoText,
{
    let service = service_fn(|_| async { Ok(Response::new(telling().boxed_unsync())) });
    let service = layer.layer(tower::util::BoxCloneService::new(service));
    let response = service.oneshot(Request::new(())).await;
    // Somebody else polls it.
    response.unwrap().into_text().await
}

type Telling = http_body_util::combinators::UnsyncBoxBody<Bytes, Infallible>;

trait IntoText {
    fn into_text(self) -> impl Future<Output = String>;
}

impl<B: Body<Data = Bytes, Error: std::fmt::Debug> + Send + 'static> IntoText for Response<B> {
    async fn into_text(self) -> String {
        let collect = tokio::spawn(async { self.into_body().collect().await.unwrap().to_bytes() });
        String::from_utf8(collect.await.unwrap().to_vec()).unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn deadline_and_criticality_are_there_while_a_body_is_polled() {
    let second = 1_000 * MS;
    let sheddable = || CriticalityHeaderLayer::at_most(Criticality::Sheddable);
    let both = "Some(1s) Some(Sheddable)";
    assert_eq!(
        told(DeadlineLayer::within("all", second).http()).await,
        "Some(1s) None"
    );
    assert_eq!(told(sheddable()).await, "None Some(Sheddable)");
    let header = DeadlineHeaderLayer::at_most("all", second);
    assert_eq!(told((header.clone(), sheddable())).await, both);
    assert_eq!(told((sheddable(), header)).await, both);
    // A timeout passes on what it was called in, with or without a limit for the body.
    let timeout = Timeout::new("api", second).layer().http();
    let call = told(timeout.clone());
    let in_context = context::current().with_criticality(Criticality::Sheddable);
    assert_eq!(in_context.scope(call).await, "None Some(Sheddable)");
    let call = Deadline::within(second).scope(told(timeout));
    assert_eq!(in_context.scope(call).await, both);
}

type Seen = Arc<Mutex<Vec<String>>>;

fn here() -> String {
    let context = context::current();
    format!("{:?} {:?}", context.deadline.is_some(), context.criticality)
}

/// A body that does what `then` says after one frame, and notes in which context it is dropped.
struct Noting(Seen, Then, bool);

#[derive(Clone, Copy, Debug)]
enum Then {
    Ends,
    HasEnded,
    Fails,
    Panics,
    Hangs,
}

impl Drop for Noting {
    fn drop(&mut self) {
        self.0.lock().unwrap().push(here());
    }
}

impl Body for Noting {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        if !std::mem::replace(&mut self.2, true) {
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"x")))));
        }
        match self.1 {
            Then::Ends | Then::HasEnded => Poll::Ready(None),
            Then::Fails => Poll::Ready(Some(Err("broken"))),
            Then::Panics => panic!("on purpose"),
            Then::Hangs => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.1, Then::HasEnded)
    }
}

#[tokio::test(start_paused = true)]
async fn however_a_body_is_dropped_its_call_s_context_is_there() {
    let all = [
        Then::Ends,
        Then::HasEnded,
        Then::Fails,
        Then::Panics,
        Then::Hangs,
    ];
    for (then, polls) in all.iter().flat_map(|then| [0, 1, 2].map(|n| (*then, n))) {
        for by_timer in [false, true] {
            let seen = Seen::default();
            let make = {
                let seen = seen.clone();
                move || Noting(seen.clone(), then, false)
            };
            let layer = DeadlineLayer::within("all", 1_000 * MS).http();
            let service = layer.layer(answering(make));
            let call = context::current().with_criticality(Criticality::Sheddable);
            let response = call.scope(service.oneshot(())).await;
            let mut body = Box::pin(response.unwrap().into_body());
            for _ in 0..polls {
                let polled = async { futures::poll!(body.frame()).is_ready() };
                // In a task, which a panic ends, and outside of any call.
                let _ =
                    futures::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(polled)).await;
            }
            if by_timer {
                tokio::time::sleep(2_000 * MS).await;
            }
            drop(body);
            let seen = seen.lock().unwrap().clone();
            let case = format!("{then:?} after {polls} polls, {by_timer}");
            assert_eq!(seen, ["true Some(Sheddable)"], "{case}");
        }
    }
}
