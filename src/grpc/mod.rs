//! gRPC with tonic: rejections as statuses, what a code means, calls that end with their trailers.
//!
//! It decides
//!
//! - which [`Status`](tonic::Status) a [`Rejected`](crate::Rejected) becomes: [`Grpc`], or [`Auto`]
//!   where plain HTTP is served on the same port;
//! - what a status says about the service that sent it: [`CodesAsFailures`];
//! - when a call is over: when its trailers are there, because they say how a call went. That is
//!   [`OnTrailers`], the strategy that `layer().grpc()` sets.
//!
//! A server answers rejections at its edge, in one place:
//!
//! ```no_run
//! # #[cfg(feature = "circuit-breaker")]
//! # async fn serve() -> Result<(), tonic::transport::Error> {
//! use buttress::{circuit_breaker::CircuitBreaker, grpc::Grpc, http::RespondLayer};
//! use tonic::transport::Server;
//!
//! let breaker = CircuitBreaker::new("health");
//! let (_, health) = tonic_health::server::health_reporter();
//! Server::builder()
//!     .layer(RespondLayer::new(Grpc, breaker.layer().grpc()))
//!     .add_service(health)
//!     .serve(([127, 0, 0, 1], 50051).into())
//!     .await
//! # }
//! ```
//!
//! A client turns every error into a `Status`, once, below all layers ([`status`]). A rejection
//! becomes a `Status` too, which can be told from one that the server sent:
//!
//! ```no_run
//! # #[cfg(feature = "circuit-breaker")]
//! # async fn ask() -> Result<(), tonic::transport::Error> {
//! use buttress::{AsRejected, circuit_breaker::CircuitBreaker, grpc};
//! use tonic::transport::Channel;
//! use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
//! use tower::ServiceBuilder;
//!
//! let breaker = CircuitBreaker::new("health");
//! let channel = Channel::from_static("http://127.0.0.1:50051").connect_lazy();
//! let guarded = ServiceBuilder::new()
//!     .layer(breaker.layer().grpc())
//!     .map_err(grpc::status)
//!     .service(channel);
//! match HealthClient::new(guarded).check(HealthCheckRequest::default()).await {
//!     Ok(response) => println!("{:?}", response.into_inner()),
//!     Err(status) => match status.as_rejected() {
//!         Some(rejected) => println!("not called: {rejected}"),
//!         None => println!("failed: {status}"),
//!     },
//! }
//! # Ok(()) }
//! ```
//!
//! A [`Timeout`](crate::timeout::Timeout) whose layer is told `.grpc()`, and a deadline, hold until
//! the trailers too. A call that misses them after its head ends with trailers of
//! `DEADLINE_EXCEEDED`.
//!
//! # Trade-offs
//!
//! A stream is one call, and holds its permit for as long as it lasts. Guard streams that are meant
//! to stay open with a layer of their own, or with `.classify(CodesAsFailures)`, which ends the
//! call with the response's head.
//!
//! tonic's servers answer a message that they cannot decode with `INTERNAL`, as if the service had
//! failed; and a failure it is to a circuit breaker around them. What breaks off, or is longer than
//! the server's limit, is none. Neither is what ends in the midst of a message, or has none of
//! gRPC's framing: [`RespondLayer`](crate::http::RespondLayer) sees that, unless the body is in
//! base64, as that of `application/grpc-web-text` is.

mod auto;
mod classify;
mod framing;
#[cfg(feature = "retry")]
mod retry;
mod settle;
mod status;
mod web;

pub use auto::{Auto, AutoResponder};
pub use classify::CodesAsFailures;
pub(crate) use framing::Framing;
#[cfg(feature = "retry")]
pub use retry::MakeBody;
pub use settle::{GrpcHead, OnBodyOrTrailers, OnTrailers};
pub use status::{Grpc, status};
pub use web::WebTrailers;
