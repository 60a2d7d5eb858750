//! A stack over reqwest
//~ expected `Body`, found `ReplayBody<Body>`

use axum::body::Body;
use buttress::{Error, Retry};
use http::{Request, Response};
use tower::ServiceBuilder;

fn main() {
    let retry = Retry::new("orders").layer().http();
    #[cfg(feature = "cure")]
    let retry = retry.map_body(Body::new);
    let orders = ServiceBuilder::new()
        .layer(retry)
        .map_err(Error::Service)
        .service(Backend);
    let _orders = buttress::check::<Request<Body>, _>(orders);
}

#[derive(Clone)]
struct Backend;

impl tower::Service<Request<Body>> for Backend {
    type Response = Response<Body>;
    type Error = std::io::Error;
    type Future = std::future::Ready<Result<Response<Body>, std::io::Error>>;
    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }
    fn call(&mut self, request: Request<Body>) -> Self::Future {
        std::future::ready(Ok(Response::new(request.into_body())))
    }
}
