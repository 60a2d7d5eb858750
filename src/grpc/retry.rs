//! gRPC calls that are made again.

use super::CodesAsFailures;
use crate::{
    guard::OnResponse,
    http::{HttpReplay, ReplayBody},
    retry::RetryLayer,
};
use tonic::body::Body;

/// The function that makes tonic's body from the body of one attempt.
pub type MakeBody = fn(ReplayBody<Body>) -> Body;

impl<R, C> RetryLayer<R, C> {
    /// Makes this a retry for a tonic client or server.
    ///
    /// It retries what [`CodesAsFailures`] takes for failures or overload, keeps to
    /// `grpc-retry-pushback-ms`, and sends the number of previous attempts in
    /// `grpc-previous-rpc-attempts`. It does not read a `RetryInfo` in a status's details. Request
    /// bodies are kept up to 64 KiB ([`body_cap`](RetryLayer::body_cap)).
    ///
    /// Every gRPC call is a POST, so its HTTP method does not tell whether it may be repeated: use
    /// this around services whose calls may. For others, `.grpc().idempotent_only()` retries calls
    /// that are marked as [`Idempotent`](crate::http::Idempotent) in their extensions, and with
    /// [`repeat_unsent`](RetryLayer::repeat_unsent) those that were never sent.
    ///
    /// As in gRPC itself (proposal A6), an attempt whose response has begun is not repeated, since
    /// the caller may have seen part of it. So only errors of the transport, and responses of
    /// nothing but trailers, are retried. Tonic's servers send every error of a unary call in such
    /// a response.
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
