//! A layer around a `Router`
//~ cannot hold a `Rejected`
//~ wrap the stack, `RespondLayer::new(Http, stack)`

use buttress::{LoadShed, grpc::Grpc, http::RespondLayer};
use tonic::{body::Body, service::Routes, transport::Server};
use tower::ServiceExt;

fn main() {
    let stack = LoadShed::new("rpc").layer().grpc();
    #[cfg(feature = "cure")]
    let stack = RespondLayer::new(Grpc, stack);
    let router = Server::builder().layer(stack).add_routes(Routes::default());
    let _serving = router.serve(([127, 0, 0, 1], 50051).into());
}
