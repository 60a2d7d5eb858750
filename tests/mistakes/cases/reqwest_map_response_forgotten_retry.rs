//! A stack over reqwest
//~ does not judge a `Result<
//~ put `.map_response(http::Response::<reqwest::Body>::from)` below the layer

use buttress::{Error, Retry};
use tower::ServiceBuilder;

fn main() {
    let stack = ServiceBuilder::new()
        .layer(Retry::new("orders").layer().http().map_body(reqwest::Body::wrap))
        .map_err(Error::Service);
    #[cfg(feature = "cure")]
    let stack = stack.map_response(http::Response::<reqwest::Body>::from);
    let client = reqwest::Client::new();
    let orders = stack.service_fn(move |request: http::Request<reqwest::Body>| {
        let client = client.clone();
        async move { client.execute(request.try_into()?).await }
    });
    let _orders = buttress::check::<http::Request<reqwest::Body>, _>(orders);
}
