//! `/users`: whose tasks they are.

use crate::{
    app::App,
    body::{Valid, present, said},
    db::{Failure, is_referred_to},
    list::{self, Entity, List, one},
    path::Id,
    problem::Problem,
    query::Parameters,
    refusals::{Conflict, NotFound, NotUnderstood, NotValid, Unavailable},
};
use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
};
use garde::Validate;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio_postgres::Row;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

/// Somebody who has tasks.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct User {
    id: i64,
    name: String,
    /// Unique, in whatever case it is written.
    email: String,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
}

/// A user to be.
#[derive(Deserialize, Validate, ToSchema, Default)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct NewUser {
    #[garde(required, length(chars, max = 200), custom(said))]
    #[schema(required, nullable = false, max_length = 200, pattern = r"\S")]
    name: Option<String>,
    #[garde(required, length(chars, max = 320), email, custom(said))]
    #[schema(required, nullable = false, format = "email")]
    email: Option<String>,
}

/// What to change of a user; what is left out stays.
#[derive(Deserialize, Validate, ToSchema, Default)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct UserChange {
    #[serde(deserialize_with = "present")]
    #[garde(length(chars, max = 200), custom(said))]
    #[schema(value_type = String, required = false, max_length = 200, pattern = r"\S")]
    name: Option<String>,
    #[serde(deserialize_with = "present")]
    #[garde(length(chars, max = 320), email, custom(said))]
    #[schema(value_type = String, required = false, format = "email")]
    email: Option<String>,
}

impl Entity for User {
    const TABLE: &'static str = "users";
    const COLUMNS: &'static str = "id, name, email, created_at";

    fn read(row: &Row) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            id: row.try_get("id")?,
            name: row.try_get("name")?,
            email: row.try_get("email")?,
            created_at: row.try_get("created_at")?,
        })
    }
}

pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(all, create))
        .routes(routes!(get, change, delete))
}

/// Lists users.
#[utoipa::path(get, path = "/users", operation_id = "list_users", tag = "users",
    params(
        ("sort" = Option<String>, Query, pattern = "^-?(id|name|email|created_at)$",
            description = "id, name, email or created_at; -name: backwards"),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 1000, description = "100 if not given"),
        ("offset" = Option<i64>, Query, minimum = 0, maximum = 1_000_000_000),
    ),
    responses(
        (status = 200, body = List<User>),
        NotUnderstood, Unavailable,
    ))]
async fn all(State(app): State<App>, mut query: Parameters) -> Result<Json<List<User>>, Problem> {
    let page = query.page(&["id", "name", "email", "created_at"]);
    let page = query.done(page)?;
    Ok(Json(list::page(&app.db, page, "", &[]).await?))
}

/// Adds a user.
#[utoipa::path(post, path = "/users", operation_id = "create_user",
    tag = "users", request_body = NewUser,
    responses(
        (status = 201, body = User),
        NotUnderstood, Conflict, NotValid, Unavailable,
    ))]
async fn create(
    State(app): State<App>,
    Valid(new): Valid<NewUser>,
) -> Result<impl IntoResponse, Problem> {
    const INSERT: &str =
        "INSERT INTO users (name, email) VALUES ($1, $2) RETURNING id, name, email, created_at";
    let row = app.db.row(INSERT, &[&new.name, &new.email]).await?;
    let user: User = one(row)?.ok_or_else(Problem::impossible)?;
    let place = [(header::LOCATION, format!("/users/{}", user.id))];
    Ok((StatusCode::CREATED, place, Json(user)))
}

/// Shows a user.
#[utoipa::path(get, path = "/users/{id}", operation_id = "get_user", tag = "users",
    params(("id" = i64, Path)),
    responses(
        (status = 200, body = User),
        NotUnderstood, NotFound, Unavailable,
    ))]
async fn get(State(app): State<App>, Id(id): Id) -> Result<Json<User>, Problem> {
    let user = list::by_id(&app.db, id).await?;
    user.map(Json).ok_or_else(|| Problem::not_found("user", id))
}

/// Changes a user: what the body names.
#[utoipa::path(put, path = "/users/{id}", operation_id = "change_user",
    tag = "users", request_body = UserChange,
    params(("id" = i64, Path)),
    responses(
        (status = 200, body = User),
        NotUnderstood, NotFound, Conflict, NotValid, Unavailable,
    ))]
async fn change(
    State(app): State<App>,
    Id(id): Id,
    Valid(change): Valid<UserChange>,
) -> Result<Json<User>, Problem> {
    const UPDATE: &str = "UPDATE users SET name = coalesce($2, name), email = coalesce($3, email) \
                          WHERE id = $1 RETURNING id, name, email, created_at";
    let row = app
        .db
        .row(UPDATE, &[&id, &change.name, &change.email])
        .await?;
    let user = one(row)?;
    user.map(Json).ok_or_else(|| Problem::not_found("user", id))
}

/// Removes a user who has no tasks.
#[utoipa::path(delete, path = "/users/{id}", operation_id = "delete_user", tag = "users",
    params(("id" = i64, Path)),
    responses(
        (status = 204),
        NotUnderstood, NotFound, Conflict, Unavailable,
    ))]
async fn delete(State(app): State<App>, Id(id): Id) -> Result<StatusCode, Problem> {
    const DELETE: &str = "DELETE FROM users WHERE id = $1 RETURNING id";
    match app.db.row(DELETE, &[&id]).await {
        Ok(Some(_)) => Ok(StatusCode::NO_CONTENT),
        Ok(None) => Err(Problem::not_found("user", id)),
        Err(Failure::Refused(error)) if is_referred_to(&error) => {
            let detail = "this user still has tasks: give them to somebody else, or delete them";
            Err(Problem::new(StatusCode::CONFLICT, detail))
        }
        Err(failure) => Err(failure.into()),
    }
}
