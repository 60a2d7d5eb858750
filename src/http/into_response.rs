//! Rejections as axum's responses, for handlers that call through a policy.

use super::Http;
use crate::error::{Error, Rejected};
use axum::{body::Body, response::IntoResponse};
use http::Response;

/// Answers as [`Http`] does, so that a handler can return it.
///
/// ```
/// use axum::{Router, extract::State, http::StatusCode, routing::get};
/// use buttress::{CircuitBreaker, Error};
///
/// async fn stock(State(breaker): State<CircuitBreaker>) -> Result<String, Error<StatusCode>> {
///     breaker.run(async || ask().await.map_err(Error::Service)).await
/// }
/// # async fn ask() -> Result<String, StatusCode> { Ok("7".to_owned()) }
///
/// let app: Router = Router::new()
///     .route("/stock", get(stock)) // 503 with Retry-After while the circuit is open
///     .with_state(CircuitBreaker::new("stock"));
/// ```
impl IntoResponse for Rejected {
    fn into_response(self) -> Response<Body> {
        Http.respond(self)
    }
}

/// Answers a rejection as [`Http`] does, and an error of the service as that does itself.
impl<E: IntoResponse> IntoResponse for Error<E> {
    fn into_response(self) -> Response<Body> {
        match self {
            Self::Rejected(rejected) => rejected.into_response(),
            Self::Service(error) => error.into_response(),
        }
    }
}
