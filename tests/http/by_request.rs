//! HTTP and gRPC calls whose strategy is chosen by the request, up to the end of their bodies.

use crate::tally::{FAILURE, IGNORED, SUCCESS, Tally};
use buttress::{
    Classify, Error, GuardLayer, Outcome,
    guard::End,
    http::{OnBodyEnd, ServerErrorsAsFailures},
};
use bytes::Bytes;
use futures::stream;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use std::io;
use tower::{Layer, Service, ServiceExt, service_fn};

type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, io::Error>;

/// A response whose body has data, and then these trailers.
fn response(status: StatusCode, trailers: Option<HeaderMap>) -> Response<Body> {
    let frames = [Frame::data(Bytes::from("text"))];
    let frames = frames.into_iter().chain(trailers.map(Frame::trailers));
    let body = StreamBody::new(stream::iter(frames.map(Ok::<_, io::Error>)));
    let mut response = Response::new(BodyExt::boxed_unsync(body));
    *response.status_mut() = status;
    response
}

fn get(path: &str) -> Request<()> {
    Request::get(path).body(()).unwrap()
}

/// How a call to this path ends.
async fn end<S, B>(tally: &Tally, service: &mut S, path: &str) -> End
where
    S: Service<Request<()>, Response = Response<B>, Error = Error<io::Error>>,
    B: http_body::Body<Error: std::fmt::Debug>,
{
    let response = service
        .ready()
        .await
        .unwrap()
        .call(get(path))
        .await
        .unwrap();
    let ended = tally.ends().len();
    response.into_body().collect().await.unwrap();
    let ends = tally.ends();
    assert_eq!(ends.len(), ended + 1, "with the body");
    ends[ended]
}

#[tokio::test]
async fn a_response_is_judged_by_its_path_and_its_permit_held_to_the_end_of_its_body() {
    let tally = Tally::default();
    let layer = GuardLayer::new(tally.clone()).settle_by(|request: &Request<()>| {
        let is_health = request.uri().path() == "/health";
        OnBodyEnd(
            move |result: Result<&Response<Body>, &Error<io::Error>>| match result {
                Ok(response) if is_health && response.status() == StatusCode::NOT_FOUND => {
                    Outcome::Failure
                }
                result => ServerErrorsAsFailures.classify(result),
            },
        )
    });
    let mut service = layer.layer(service_fn(async |request: Request<()>| {
        let status = match request.uri().path() {
            "/there" => StatusCode::OK,
            _ => StatusCode::NOT_FOUND,
        };
        Ok(response(status, None))
    }));
    assert_eq!(end(&tally, &mut service, "/orders/17").await, IGNORED);
    assert_eq!(end(&tally, &mut service, "/health").await, FAILURE);
    assert_eq!(end(&tally, &mut service, "/there").await, SUCCESS);
}

#[cfg(feature = "grpc")]
#[tokio::test]
async fn the_status_in_the_trailers_is_judged_by_the_method() {
    use buttress::grpc::{CodesAsFailures, OnTrailers};
    use tonic::{Code, Status};

    let tally = Tally::default();
    let layer = GuardLayer::new(tally.clone()).settle_by(|request: &Request<()>| {
        let is_check = request.uri().path().ends_with("/Check");
        OnTrailers(move |result: Result<&(), &Status>| match result {
            Err(status) if is_check && status.code() == Code::NotFound => Outcome::Failure,
            result => CodesAsFailures.classify(result),
        })
    });
    let mut service = layer.layer(service_fn(async |_: Request<()>| {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "5".parse().unwrap());
        let mut response = response(StatusCode::OK, Some(trailers));
        let content_type = "application/grpc".parse().unwrap();
        response.headers_mut().insert("content-type", content_type);
        Ok(response)
    }));
    assert_eq!(end(&tally, &mut service, "/orders/Get").await, IGNORED);
    assert_eq!(end(&tally, &mut service, "/health/Check").await, FAILURE);
}
