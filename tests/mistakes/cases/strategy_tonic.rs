//! A layer has not been told what responses mean
//~ `Unclassified: AnyStrategy`
//~ say `.http()`, `.grpc()` or `.classify(ErrorsAsFailures)` to the layer

use buttress::{CircuitBreaker, grpc};
use tonic::transport::Endpoint;
use tower::ServiceBuilder;

#[tokio::main]
async fn main() {
    let layer = CircuitBreaker::new("health").layer();
    #[cfg(feature = "cure")]
    let layer = layer.grpc();
    let channel = ServiceBuilder::new()
        .layer(layer)
        .map_err(grpc::status)
        .service(Endpoint::from_static("http://127.0.0.1:50051").connect_lazy());
    let _client = tonic::client::Grpc::new(buttress::check::<http::Request<tonic::body::Body>, _>(
        channel,
    ));
}
