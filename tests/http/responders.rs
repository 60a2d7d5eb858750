//! Responders that see the request, and every shape of closure in every shape of stack.

use axum::{Router, body::Body, response::IntoResponse, routing::get};
use buttress::{
    CircuitBreaker, GuardLayer, Kind, LoadShed, Rejected,
    grpc::{Auto, Grpc},
    http::{Http, PerRequest, RespondLayer, RespondTo, WithHead},
};
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, Full};
use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};
use tonic::service::Routes;
use tonic_health::pb::health_server::HealthServer;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

use crate::{grpc::health::Obedient, tally::Tally};

fn open() -> CircuitBreaker {
    let breaker = CircuitBreaker::new("down");
    breaker.force_open();
    breaker
}

fn request(path: &str) -> Request<Body> {
    let request = Request::put(path).header(header::ACCEPT, "text/html");
    request.extension(7_u32).body(Body::from("body")).unwrap()
}

#[tokio::test]
async fn a_closure_sees_the_head_of_the_request_that_it_refuses() {
    let responder = WithHead(|rejected: Rejected, head: &Request<()>| {
        let accepts = head.headers()[header::ACCEPT].to_str().unwrap();
        let number: u32 = *head.extensions().get().unwrap();
        let text = format!(
            "{} {} {:?} {accepts} {number}: {}",
            head.method(),
            head.uri(),
            head.version(),
            rejected.kind()
        );
        (StatusCode::IM_A_TEAPOT, text).into_response()
    });
    let app: Router = Router::new()
        .route("/tea", get(async || "in"))
        .layer(RespondLayer::new(responder, open().layer().http()));
    let answer = app.oneshot(request("/tea?hot=1")).await.unwrap();
    assert_eq!(answer.status(), 418);
    let text = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(text, "PUT /tea?hot=1 HTTP/1.1 text/html 7: circuit open");
}

#[tokio::test]
async fn a_closure_chooses_what_to_keep_of_each_request_and_runs_once_for_it() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counting = asked.clone();
    let responder = PerRequest(move |request: &Request<Body>| {
        counting.fetch_add(1, Relaxed);
        let path = request.uri().path().len();
        move |_: Rejected| Response::new(Full::from(path.to_string()))
    });
    let tally = Tally::limited(1);
    let app: Router = Router::new()
        .route("/{name}", get(async || "in").put(async || "in"))
        .layer(RespondLayer::new(responder, GuardLayer::new(tally).http()));
    for (path, expected) in [("/a", "in"), ("/a", "2"), ("/longer", "7")] {
        let answer = app.clone().oneshot(request(path)).await.unwrap();
        let text = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(text, expected);
    }
    assert_eq!(asked.load(Relaxed), 3);
}

/// Not one of a responder's clones, and nothing of the request, is made for calls that are let in
/// beyond the one that has always been made.
#[tokio::test]
async fn responders_that_look_at_nothing_cost_nothing() {
    fn looks_at_nothing<R: RespondTo<Request<Body>, Responder = R>>(_: R) {}
    looks_at_nothing(Http);
    looks_at_nothing(Grpc);
    looks_at_nothing(|_: Rejected| Response::new(Empty::<Bytes>::new()));
    let respond_to = || Auto.respond_to(&request("/a"));
    let allocations = |what: &dyn Fn()| allocation_counter::measure(what).count_total;
    let made = allocations(&|| drop(request("/a")));
    let looked = allocations(&|| assert_eq!(size_of_val(&respond_to()), 1));
    assert_eq!(looked, made);
}

/// Answers, over the given stack, what `oneshot` gets.
async fn status<L, B>(edge: L) -> StatusCode
where
    L: Layer<Inner>,
    L::Service: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
{
    let service = edge.layer(service_fn(inner as fn(_) -> _));
    service.oneshot(request("/a")).await.unwrap().status()
}

type Inner = tower::util::ServiceFn<
    fn(Request<Body>) -> std::future::Ready<Result<Response<Full<Bytes>>, Infallible>>,
>;

fn inner(_: Request<Body>) -> std::future::Ready<Result<Response<Full<Bytes>>, Infallible>> {
    std::future::ready(Ok(Response::new(Full::from("in"))))
}

fn teapot<B: Default>(_: Rejected) -> Response<B> {
    let mut response = Response::new(B::default());
    *response.status_mut() = StatusCode::IM_A_TEAPOT;
    response
}

#[tokio::test]
async fn every_closure_answers_around_every_stack() {
    macro_rules! around {
        ($($stack:expr),+ $(,)?) => {
            $({
                // With bodies of different types; the first sees nothing but the rejection.
                let answer = |r: Rejected| teapot::<Full<Bytes>>(r);
                assert_eq!(status(RespondLayer::new(answer, $stack)).await, 418);
                let answer = |r: Rejected| teapot::<tonic::body::Body>(r);
                assert_eq!(status(RespondLayer::new(answer, $stack)).await, 418);
                let answer = |r: Rejected| -> Response<Body> { Http.respond(r) };
                assert_eq!(status(RespondLayer::new(answer, $stack)).await, 503);
                let answer = |r: Rejected| -> Response<Empty<Bytes>> { Grpc.respond(r) };
                assert_eq!(status(RespondLayer::new(answer, $stack)).await, 200);
                assert_eq!(status(RespondLayer::new(teapot::<String>, $stack)).await, 418);
                let answer = WithHead(|r: Rejected, _: &Request<()>| teapot::<String>(r));
                assert_eq!(status(RespondLayer::new(answer, $stack)).await, 418);
                let answer = PerRequest(|_: &Request<Body>| teapot::<String>);
                assert_eq!(status(RespondLayer::new(answer, $stack)).await, 418);
                assert_eq!(status(RespondLayer::new(Auto, $stack)).await, 503);
            })+
        };
    }
    let (breaker, shed) = (open(), LoadShed::new("api"));
    around!(
        breaker.layer().http(),
        breaker.layer().grpc(),
        breaker.layer().auto(),
        (shed.layer().http(), breaker.layer().grpc()),
        (
            shed.layer().grpc(),
            shed.queued().layer().grpc(),
            breaker.layer().http()
        ),
        ServiceBuilder::new()
            .layer(shed.layer().grpc())
            .layer(breaker.layer().grpc()),
        GuardLayer::new((shed.clone(), breaker.clone())).grpc(),
        // Two edges with closures of their own, whose bodies differ.
        (
            RespondLayer::new(teapot::<String>, shed.layer().http()),
            breaker.layer().grpc(),
        ),
    );
}

#[tokio::test]
async fn edges_with_different_closures_stand_one_in_the_other() {
    let answers = |text: &'static str| move |_: Rejected| Response::new(Full::from(text));
    let empty = |_: Rejected| Response::new(Empty::<Bytes>::new());
    for (outer, inner, expected) in [(true, true, "outer"), (false, true, "")] {
        let tallies = [Tally::default(), Tally::default()];
        for (tally, refuses) in tallies.iter().zip([outer, inner]) {
            if refuses {
                tally.refuse(Kind::Overloaded);
            }
        }
        let [outer, inner] = tallies;
        let service = ServiceBuilder::new()
            .layer(RespondLayer::new(
                answers("outer"),
                GuardLayer::new(outer).grpc(),
            ))
            .layer(RespondLayer::new(empty, GuardLayer::new(inner).grpc()))
            .service(service_fn(self::inner));
        let answer = service.oneshot(request("/")).await.unwrap();
        let body = answer.into_body().collect().await.unwrap();
        assert_eq!(body.to_bytes(), expected);
    }
}

/// Compiles: servers as people write them.
#[tokio::test]
async fn closures_are_responders_of_axums_and_tonics_servers() {
    let shed = LoadShed::new("api");
    let grpc = |r: Rejected| -> Response<tonic::body::Body> { Grpc.respond(r) };
    let captured = Arc::new("gone".to_owned());
    let text = move |_: Rejected| Response::new(captured.as_ref().clone());
    let _router = tonic::transport::Server::builder()
        .layer(RespondLayer::new(grpc, shed.layer().grpc()))
        .add_service(HealthServer::new(Obedient));
    let _router = tonic::transport::Server::builder()
        .layer(
            ServiceBuilder::new()
                .layer(RespondLayer::new(text.clone(), shed.layer().grpc()))
                .layer(RespondLayer::new(grpc, shed.queued().layer().grpc())),
        )
        .add_service(HealthServer::new(Obedient));
    let _app: Router = Routes::new(HealthServer::new(Obedient))
        .into_axum_router()
        .layer(RespondLayer::new(
            text,
            (shed.layer().grpc(), shed.layer().http()),
        ))
        .layer(RespondLayer::new(Auto, shed.queued().layer().grpc()));
}

/// The body of a request is watched, which wraps it once; nothing else is made for a call that is
/// let in.
#[tokio::test]
async fn an_edge_allocates_only_to_watch_a_body_that_goes_on() {
    async fn inner<B>(_: Request<B>) -> Result<Response<Empty<Bytes>>, Infallible> {
        Ok(Response::new(Empty::new()))
    }
    let stack = || GuardLayer::new(Tally::default()).http();
    fn count<B, S>(service: &S, body: impl Fn() -> B) -> u64
    where
        S: Service<Request<B>> + Clone,
    {
        let call = || {
            let mut call = std::pin::pin!(service.clone().oneshot(Request::new(body())));
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            assert!(call.as_mut().poll(&mut cx).is_ready());
        };
        call();
        allocation_counter::measure(call).count_total
    }
    let bare = service_fn(inner::<Body>);
    let edge = RespondLayer::new(Http, stack()).layer(bare);
    for (body, more) in [(Body::empty as fn() -> Body, 0), (|| Body::from("text"), 1)] {
        assert_eq!(count(&edge, body), count(&bare, body) + more);
    }
    // A body of another type is not watched.
    let edge = RespondLayer::new(Http, stack()).layer(service_fn(inner::<Full<Bytes>>));
    assert_eq!(count(&edge, || Full::from("text")), 0);
}
