//! Problems, for the description of the API.

use crate::problem::Problem;
use utoipa::IntoResponses;

/// What is sent is not understood.
#[derive(IntoResponses)]
#[response(
    status = 400,
    content_type = "application/problem+json",
    description = "A parameter or field is not known or not understood: `errors` names it."
)]
#[expect(dead_code)] // only its description is used, as of all of these
pub(crate) struct NotUnderstood(Problem);

/// Nothing has this id.
#[derive(IntoResponses)]
#[response(
    status = 404,
    content_type = "application/problem+json",
    description = "Nothing has this id."
)]
#[expect(dead_code)]
pub(crate) struct NotFound(Problem);

/// It would break what others rely on.
#[derive(IntoResponses)]
#[response(
    status = 409,
    content_type = "application/problem+json",
    description = "The name or email is taken (`errors` names it), or tasks still refer to it."
)]
#[expect(dead_code)]
pub(crate) struct Conflict(Problem);

/// What is sent is understood, and cannot be.
#[derive(IntoResponses)]
#[response(
    status = 422,
    content_type = "application/problem+json",
    description = "A field is not valid, or refers to what is not there: `errors` names it."
)]
#[expect(dead_code)]
pub(crate) struct NotValid(Problem);

/// Not now.
#[derive(IntoResponses)]
#[response(
    status = 503,
    content_type = "application/problem+json",
    description = "Postgres does not answer, and neither can the cache."
)]
#[expect(dead_code)]
pub(crate) struct Unavailable(Problem);
