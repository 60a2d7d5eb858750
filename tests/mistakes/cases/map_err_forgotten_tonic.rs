//! The error cannot hold a rejection
//~ cannot hold a `Rejected`
//~ put `.map_err(buttress::grpc::status)` below the layer

use buttress::{CircuitBreaker, grpc};
use tonic::transport::Endpoint;
use tower::ServiceBuilder;

#[tokio::main]
async fn main() {
    let stack = ServiceBuilder::new().layer(CircuitBreaker::new("health").layer().grpc());
    #[cfg(feature = "cure")]
    let stack = stack.map_err(grpc::status);
    let channel = stack.service(Endpoint::from_static("http://127.0.0.1:50051").connect_lazy());
    let _client = tonic::client::Grpc::new(buttress::check::<http::Request<tonic::body::Body>, _>(
        channel,
    ));
}
