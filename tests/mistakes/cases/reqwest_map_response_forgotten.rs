//! A stack over reqwest
//~ does not tell what a `Result<
//~ `OnBodyEnd` does not tell what a `Result<Response, buttress::Error<reqwest::Error>>`
//~ put `.map_response(http::Response::<reqwest::Body>::from)` below the layer

use buttress::{CircuitBreaker, Error};
use tower::ServiceBuilder;

fn main() {
    let stack = ServiceBuilder::new()
        .layer(CircuitBreaker::new("orders").layer().http())
        .map_err(Error::Service);
    #[cfg(feature = "cure")]
    let stack = stack.map_response(http::Response::<reqwest::Body>::from);
    let client = stack.service(reqwest::Client::new());
    let _client = buttress::check::<reqwest::Request, _>(client);
}
