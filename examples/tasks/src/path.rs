//! The `{id}` of a path.

use crate::problem::Problem;
use axum::{
    extract::{FromRequestParts, Path},
    http::{StatusCode, request::Parts},
};

/// A whole number, or 400.
pub(crate) struct Id(pub(crate) i64);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        let id = path.ok().and_then(|Path(id)| id.parse().ok());
        let wrong = || Problem::field(StatusCode::BAD_REQUEST, "id", "must be a whole number");
        id.map(Self).ok_or_else(wrong)
    }
}
