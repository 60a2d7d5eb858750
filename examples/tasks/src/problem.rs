//! What a client is told when it does not get what it asked for (RFC 9457).

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use std::{fmt::Display, time::Duration};
use utoipa::ToSchema;

/// Why not: a problem document.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// `about:blank`: the status says it.
    r#type: &'static str,
    /// The status in words.
    title: &'static str,
    /// The HTTP status.
    #[schema(value_type = u16)]
    #[serde(serialize_with = "number")]
    status: StatusCode,
    /// What went wrong.
    detail: String,
    /// What is wrong with which field or parameter.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Wrong>,
    #[serde(skip)]
    retry_after: Option<Duration>,
}

/// What is wrong with a field or parameter.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Wrong {
    /// Its name.
    pub(crate) field: String,
    /// What it has to be.
    pub(crate) message: String,
}

impl Wrong {
    pub(crate) fn new(field: impl Into<String>, message: impl Display) -> Self {
        Self {
            field: field.into(),
            message: message.to_string(),
        }
    }
}

impl Problem {
    pub(crate) fn new(status: StatusCode, detail: impl Display) -> Self {
        Self {
            r#type: "about:blank",
            title: status.canonical_reason().unwrap_or_default(),
            status,
            detail: detail.to_string(),
            errors: Vec::new(),
            retry_after: None,
        }
    }

    /// These fields are wrong; the detail says the first of them.
    pub(crate) fn fields(status: StatusCode, errors: Vec<Wrong>) -> Self {
        let first = errors.first();
        let detail = first.map(|wrong| format!("{}: {}", wrong.field, wrong.message));
        Self {
            errors,
            ..Self::new(status, detail.unwrap_or_default())
        }
    }

    pub(crate) fn field(status: StatusCode, field: &str, message: impl Display) -> Self {
        Self::fields(status, vec![Wrong::new(field, message)])
    }

    pub(crate) fn not_found(what: &str, id: i64) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            format_args!("there is no {what} {id}"),
        )
    }

    /// A mistake of ours.
    pub(crate) fn impossible() -> Self {
        let detail = "this should not have happened";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
    }

    /// Not now.
    pub(crate) fn unavailable(detail: impl Display, retry_after: Option<Duration>) -> Self {
        Self {
            retry_after: Some(retry_after.unwrap_or(Duration::from_secs(1))),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
        }
    }
}

fn number<S: serde::Serializer>(status: &StatusCode, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u16(status.as_u16())
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        // Strings and numbers can always be written.
        let json = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = Response::new(Body::from(json));
        *response.status_mut() = self.status;
        let kind = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        if let Some(after) = self.retry_after {
            // Rounded up: nobody who obeys comes back early.
            let seconds = after.as_millis().div_ceil(1_000).max(1);
            if let Ok(seconds) = seconds.to_string().try_into() {
                response.headers_mut().insert(header::RETRY_AFTER, seconds);
            }
        }
        response
    }
}
