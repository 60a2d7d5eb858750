//! gRPC calls that are made again.

use super::CodesAsFailures;
use crate::{
    guard::OnResponse,
    http::{HttpReplay, ReplayBody},
    retry::RetryLayer,
};
use tonic::body::Body;

/// Makes tonic's body of one attempt.
pub type MakeBody = fn(ReplayBody<Body>) -> Body;

impl<R, C> RetryLayer<R, C> {
    /// Makes this a retry for a tonic client or server: what [`CodesAsFailures`] takes for failures
    /// is tried again, `grpc-retry-pushback-ms` is kept to, and the number of previous attempts
    /// travels in `grpc-previous-rpc-attempts`.
    ///
    /// Every gRPC call is a POST, so its method does not tell whether it may be made twice: put
    /// this around services whose calls may. As in gRPC itself (proposal A6), an attempt whose
    /// response has begun is not repeated, since the caller may have seen part of it: retried are
    /// answers of trailers only, which is how tonic's servers send every error of a unary call, and
    /// errors of the transport. Requests are kept up to 64 KiB
    /// ([`body_cap`](RetryLayer::body_cap)).
    ///
    /// ```no_run
    /// use buttress::{grpc, retry::Retry};
    /// use tonic::transport::Channel;
    /// use tonic_health::pb::health_client::HealthClient;
    /// use tower::ServiceBuilder;
    ///
    /// # async fn connect() {
    /// let channel = Channel::from_static("http://127.0.0.1:50051").connect_lazy();
    /// let client = HealthClient::new(
    ///     ServiceBuilder::new()
    ///         .layer(Retry::new("health").layer().grpc())
    ///         .map_err(grpc::status)
    ///         .service(channel),
    /// );
    /// # }
    /// ```
    pub fn grpc(self) -> RetryLayer<HttpReplay<MakeBody>, OnResponse<CodesAsFailures>> {
        let body: MakeBody = Body::new;
        let retry = self.http().all_methods().map_body(body);
        retry.classify(CodesAsFailures)
    }
}
