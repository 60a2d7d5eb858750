//! What a body that is being polled knows of its call.

use super::{Failure, MS};
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
use std::convert::Infallible;
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
