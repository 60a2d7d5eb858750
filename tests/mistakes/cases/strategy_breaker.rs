//! A layer has not been told what responses mean
//~ `Unclassified: AnyStrategy`
//~ say `.http()`, `.grpc()` or `.classify(ErrorsAsFailures)` to the layer

use buttress::{CircuitBreaker, Error};
use tower::ServiceBuilder;

fn main() {
    let layer = CircuitBreaker::new("orders").layer();
    #[cfg(feature = "cure")]
    let layer = layer.http();
    let client = ServiceBuilder::new()
        .layer(layer)
        .map_err(Error::Service)
        .map_response(http::Response::<reqwest::Body>::from)
        .service(reqwest::Client::new());
    let _client = buttress::check::<reqwest::Request, _>(client);
}
