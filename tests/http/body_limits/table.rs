//! Every limit of a body in every protocol: when it fires, what its reader is told, whose permit
//! comes home, and that none holds which nobody has set.

use super::{Failure, MS, answering, cut, dripping, sent};
use crate::tally::Tally;
use buttress::{
    GuardLayer, Kind, Timeout,
    guard::End,
    http::{BodyLimit, BodyTimeoutLayer, MinRate, UploadBody},
    timeout::{Deadline, DeadlineLayer},
};
use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use std::{convert::Infallible, time::Duration};
use tokio::time::{Instant, sleep};
use tower::{Layer, Service, ServiceExt, service_fn};

const SECOND: Duration = Duration::from_secs(1);

fn rate() -> MinRate {
    MinRate::per_second(1_000).averaged_over(200 * MS)
}

/// Answers with a body of 10 bytes every 20 ms, then of nothing, in this protocol.
fn dripping_in(
    content_type: &'static str,
) -> impl Service<
    Request<()>,
    Response = Response<impl Body<Data = Bytes, Error = Infallible> + Send>,
    Error = Failure,
    Future: Send,
> + Clone
+ Send {
    service_fn(move |_: Request<()>| async move {
        let response = Response::builder().header("content-type", content_type);
        Ok(response.body(dripping(1_000, 10, 20 * MS)).unwrap())
    })
}

/// How a body ended: which limit an error tells of, or which status trailers do.
async fn ending<B>(body: B) -> (usize, Result<(BodyLimit, Kind), String>)
where
    B: Body<Data = Bytes, Error = super::BoxError>,
{
    let (mut body, mut bytes) = (Box::pin(body), 0);
    loop {
        match body.frame().await {
            None => return (bytes, Err("it ended".to_owned())),
            Some(Err(error)) => {
                assert!(body.frame().await.is_none(), "nothing after the error");
                return (bytes, Ok(cut(&*error).unwrap()));
            }
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => bytes += data.len(),
                Err(frame) => {
                    let trailers = frame.into_trailers().unwrap();
                    assert!(body.frame().await.is_none() && body.is_end_stream());
                    let status = trailers["grpc-status"].to_str().unwrap();
                    return (bytes, Err(status.to_owned()));
                }
            },
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_limit_ends_a_body_in_every_protocol_and_its_permit_comes_home() {
    let layer = || Timeout::new("api", 100 * MS).layer().http();
    let limits: [(BodyTimeoutLayer, Duration, BodyLimit, Kind); 4] = [
        (layer(), SECOND, BodyLimit::Deadline, Kind::DeadlineExceeded),
        (layer().whole(), 100 * MS, BodyLimit::Whole, Kind::TimedOut),
        (
            layer().idle(15 * MS),
            15 * MS,
            BodyLimit::Idle,
            Kind::TimedOut,
        ),
        (
            layer().min_rate(rate()),
            200 * MS,
            BodyLimit::Rate,
            Kind::TimedOut,
        ),
    ];
    for content_type in [
        "text/plain",
        "application/grpc",
        "application/grpc+proto",
        "application/grpc-web+proto",
        "application/grpc-web-text+proto",
    ] {
        for (layer, at, limit, kind) in &limits {
            let case = format!("{content_type} {limit:?}");
            let tally = Tally::default();
            let inside = match content_type {
                "text/plain" => GuardLayer::new(tally.clone())
                    .http()
                    .layer(dripping_in(content_type))
                    .boxed_ends(),
                _ => GuardLayer::new(tally.clone())
                    .grpc()
                    .layer(dripping_in(content_type))
                    .boxed_ends(),
            };
            let start = Instant::now();
            let call = layer.layer(inside).oneshot(Request::new(()));
            let body = Deadline::within(SECOND)
                .scope(call)
                .await
                .unwrap()
                .into_body();
            let (_, end) = ending(body).await;
            match content_type {
                "application/grpc" | "application/grpc+proto" => {
                    assert_eq!(end, Err("4".to_owned()), "{case}");
                }
                _ => assert_eq!(end, Ok((*limit, *kind)), "{case}"),
            }
            // To the frame: a rate is looked at when there is one.
            let took = start.elapsed();
            assert!((*at..=*at + 20 * MS).contains(&took), "{case}: {took:?}");
            assert_eq!(
                (tally.in_flight(), tally.ends()),
                (0, vec![End::TimedOut]),
                "{case}"
            );
        }
    }
}

/// Gives services whose bodies differ one type.
trait BoxedEnds: Sized {
    fn boxed_ends(self) -> Boxed;
}

type Boxed = tower::util::BoxCloneService<
    Request<()>,
    Response<UnsyncBoxBody<Bytes, super::BoxError>>,
    Failure,
>;

impl<S, B> BoxedEnds for S
where
    S: Service<Request<()>, Response = Response<B>, Error = Failure> + Clone + Send + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<super::BoxError>,
{
    fn boxed_ends(self) -> Boxed {
        let boxed =
            |response: Response<B>| response.map(|body| body.map_err(Into::into).boxed_unsync());
        tower::util::BoxCloneService::new(self.map_response(boxed))
    }
}

#[tokio::test(start_paused = true)]
async fn no_limit_holds_for_a_body_that_nobody_has_set() {
    let hour = 3_600 * SECOND;
    // A byte an hour, long after the timeout.
    let tally = Tally::default();
    let timeout = Timeout::new("api", 100 * MS);
    let inside = GuardLayer::new(tally.clone()).http();
    let service = inside.layer(answering(move || dripping(3, 1, hour)));
    let response = timeout
        .layer()
        .http()
        .layer(service)
        .oneshot(Request::new(()))
        .await;
    let mut body = Box::pin(response.unwrap().into_body());
    for _ in 0..3 {
        assert!(body.frame().await.unwrap().is_ok());
    }
    assert_eq!(
        (tally.in_flight(), timeout.snapshot().timed_out_total),
        (1, 0)
    );
    drop(body);
    assert_eq!(tally.in_flight(), 0);

    // Nor for an upload.
    let service = timeout.layer().http().whole().idle(hour).min_rate(rate());
    let service = service.layer(service_fn(
        |request: Request<UnsyncBoxBody<Bytes, Infallible>>| async move {
            let mut body = Box::pin(request.into_body());
            let frame = body.frame().await.unwrap().unwrap();
            Ok::<_, Failure>(Response::new(Full::new(frame.into_data().unwrap())))
        },
    ));
    let slow = Request::new(dripping(1, 1, 90 * MS).boxed_unsync());
    let answer = service.oneshot(slow).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "x");
    assert_eq!(timeout.snapshot().timed_out_total, 0);
}

/// Reads the whole upload; how long it took, and what it was cut off by.
async fn upload(
    layer: &BodyTimeoutLayer<buttress::timeout::SameLimit, buttress::http::UploadLimit>,
    frames: usize,
    every: Duration,
    reader: Duration,
) -> (Duration, Option<(BodyLimit, Kind)>) {
    let service = layer.layer(service_fn(
        move |request: Request<UploadBody<_>>| async move {
            let mut body = Box::pin(request.into_body());
            for _ in 0..frames {
                match body.frame().await.unwrap() {
                    Ok(_) => sleep(reader).await,
                    Err(error) => {
                        let error: super::BoxError = error;
                        assert!(body.frame().await.is_none());
                        return Ok(Response::new(Full::new(Bytes::from(format!(
                            "{:?}",
                            cut(&*error)
                        )))));
                    }
                }
            }
            Ok::<_, Failure>(Response::new(Full::default()))
        },
    ));
    let start = Instant::now();
    let answer = service.oneshot(Request::new(sent(frames, 10, every))).await;
    let took = start.elapsed();
    let told = answer
        .unwrap()
        .into_body()
        .collect()
        .await
        .unwrap()
        .to_bytes();
    let cut = (BodyLimit::Rate, Kind::TimedOut);
    let told_of = (!told.is_empty()).then(|| {
        assert_eq!(told, format!("{:?}", Some(cut)));
        cut
    });
    (took, told_of)
}

#[tokio::test(start_paused = true)]
async fn an_upload_below_the_rate_is_cut_off_and_one_that_nobody_reads_is_not() {
    let timeout = Timeout::new("uploads", 600 * SECOND);
    let layer = timeout.layer().http().min_upload_rate(rate());
    // Half of what is asked.
    let (took, cut) = upload(&layer, 1_000, 20 * MS, Duration::ZERO).await;
    assert!(cut.is_some());
    assert!((200..=220).contains(&took.as_millis()), "{took:?}");
    assert_eq!(timeout.snapshot().timed_out_total, 1);
    // A little more than is asked, because timers round up; and a reader that takes its time, which
    // is not the sender's.
    for reader in [0, 1_000] {
        let (_, cut) = upload(&layer, 40, 8 * MS, reader * MS).await;
        assert_eq!(cut, None, "{reader}");
    }
    assert_eq!(timeout.snapshot().timed_out_total, 1);
}

/// The call of a client ends with its deadline, however its upload is doing.
#[tokio::test(start_paused = true)]
async fn a_deadline_bounds_an_upload_as_well() {
    let timeout = Timeout::new("uploads", Duration::MAX);
    let stack = (
        DeadlineLayer::within("all", 300 * MS).http(),
        timeout
            .layer()
            .http()
            .min_upload_rate(MinRate::per_second(1)),
    );
    let service = stack.layer(service_fn(|request: Request<UploadBody<_>>| async move {
        let whole = request.into_body().collect().await;
        let _: Result<_, super::BoxError> = whole;
        Ok::<_, Failure>(Response::new(Full::<Bytes>::default()))
    }));
    let start = Instant::now();
    let answer = service
        .oneshot(Request::new(dripping(1_000, 10, 20 * MS)))
        .await;
    assert!(answer.is_err());
    assert_eq!(start.elapsed(), 300 * MS);
}

/// What a stream says in time is passed on, in every protocol.
#[tokio::test(start_paused = true)]
async fn a_stream_that_keeps_to_its_limits_is_passed_on_whole() {
    for content_type in [
        "text/plain",
        "application/grpc",
        "application/grpc-web+proto",
    ] {
        let tally = Tally::default();
        let inside = GuardLayer::new(tally.clone()).http();
        let inside = inside.layer(service_fn(move |_: Request<()>| async move {
            let response = Response::builder().header("content-type", content_type);
            Ok::<_, Failure>(response.body(dripping(50, 10, 10 * MS)).unwrap())
        }));
        let timeout = Timeout::new("api", 10 * SECOND);
        let layer = timeout
            .layer()
            .http()
            .whole()
            .idle(50 * MS)
            .min_rate(MinRate::per_second(500));
        let call = layer.layer(inside).oneshot(Request::new(()));
        let body = Deadline::within(60 * SECOND)
            .scope(call)
            .await
            .unwrap()
            .into_body();
        let mut body = Box::pin(body);
        for _ in 0..50 {
            assert!(body.frame().await.unwrap().is_ok(), "{content_type}");
        }
        assert_eq!(timeout.snapshot().timed_out_total, 0);
        drop(body);
        assert_eq!(tally.in_flight(), 0);
    }
}
