//! `/categories`: what tasks are about.

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

/// What tasks are about.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Category {
    id: i64,
    /// Unique.
    name: String,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
}

/// A category to be.
#[derive(Deserialize, Validate, ToSchema, Default)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct NewCategory {
    #[garde(required, length(chars, max = 200), custom(said))]
    #[schema(required, nullable = false, max_length = 200, pattern = r"\S")]
    name: Option<String>,
}

/// What to change of a category; what is left out stays.
#[derive(Deserialize, Validate, ToSchema, Default)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct CategoryChange {
    #[serde(deserialize_with = "present")]
    #[garde(length(chars, max = 200), custom(said))]
    #[schema(value_type = String, required = false, max_length = 200, pattern = r"\S")]
    name: Option<String>,
}

impl Entity for Category {
    const TABLE: &'static str = "categories";
    const COLUMNS: &'static str = "id, name, created_at";

    fn read(row: &Row) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            id: row.try_get("id")?,
            name: row.try_get("name")?,
            created_at: row.try_get("created_at")?,
        })
    }
}

pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(all, create))
        .routes(routes!(get, change, delete))
}

/// Lists categories.
#[utoipa::path(get, path = "/categories", operation_id = "list_categories", tag = "categories",
    params(
        ("sort" = Option<String>, Query, pattern = "^-?(id|name|created_at)$",
            description = "id, name or created_at; -name: backwards"),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 1000, description = "100 if not given"),
        ("offset" = Option<i64>, Query, minimum = 0, maximum = 1_000_000_000),
    ),
    responses(
        (status = 200, body = List<Category>),
        NotUnderstood, Unavailable,
    ))]
async fn all(
    State(app): State<App>,
    mut query: Parameters,
) -> Result<Json<List<Category>>, Problem> {
    let page = query.page(&["id", "name", "created_at"]);
    let page = query.done(page)?;
    Ok(Json(list::page(&app.db, page, "", &[]).await?))
}

/// Adds a category.
#[utoipa::path(post, path = "/categories", operation_id = "create_category",
    tag = "categories", request_body = NewCategory,
    responses(
        (status = 201, body = Category),
        NotUnderstood, Conflict, NotValid, Unavailable,
    ))]
async fn create(
    State(app): State<App>,
    Valid(new): Valid<NewCategory>,
) -> Result<impl IntoResponse, Problem> {
    const INSERT: &str = "INSERT INTO categories (name) VALUES ($1) RETURNING id, name, created_at";
    let row = app.db.row(INSERT, &[&new.name]).await?;
    let category: Category = one(row)?.ok_or_else(Problem::impossible)?;
    let place = [(header::LOCATION, format!("/categories/{}", category.id))];
    Ok((StatusCode::CREATED, place, Json(category)))
}

/// Shows a category.
#[utoipa::path(get, path = "/categories/{id}", operation_id = "get_category", tag = "categories",
    params(("id" = i64, Path)),
    responses(
        (status = 200, body = Category),
        NotUnderstood, NotFound, Unavailable,
    ))]
async fn get(State(app): State<App>, Id(id): Id) -> Result<Json<Category>, Problem> {
    let category = list::by_id(&app.db, id).await?;
    category
        .map(Json)
        .ok_or_else(|| Problem::not_found("category", id))
}

/// Changes a category: what the body names.
#[utoipa::path(put, path = "/categories/{id}", operation_id = "change_category",
    tag = "categories", request_body = CategoryChange,
    params(("id" = i64, Path)),
    responses(
        (status = 200, body = Category),
        NotUnderstood, NotFound, Conflict, NotValid, Unavailable,
    ))]
async fn change(
    State(app): State<App>,
    Id(id): Id,
    Valid(change): Valid<CategoryChange>,
) -> Result<Json<Category>, Problem> {
    const UPDATE: &str = "UPDATE categories SET name = coalesce($2, name) \
                          WHERE id = $1 RETURNING id, name, created_at";
    let row = app.db.row(UPDATE, &[&id, &change.name]).await?;
    let category = one(row)?;
    category
        .map(Json)
        .ok_or_else(|| Problem::not_found("category", id))
}

/// Removes a category that has no tasks.
#[utoipa::path(delete, path = "/categories/{id}", operation_id = "delete_category", tag = "categories",
    params(("id" = i64, Path)),
    responses(
        (status = 204),
        NotUnderstood, NotFound, Conflict, Unavailable,
    ))]
async fn delete(State(app): State<App>, Id(id): Id) -> Result<StatusCode, Problem> {
    const DELETE: &str = "DELETE FROM categories WHERE id = $1 RETURNING id";
    match app.db.row(DELETE, &[&id]).await {
        Ok(Some(_)) => Ok(StatusCode::NO_CONTENT),
        Ok(None) => Err(Problem::not_found("category", id)),
        Err(Failure::Refused(error)) if is_referred_to(&error) => {
            let detail = "this category still has tasks: move them to another, or delete them";
            Err(Problem::new(StatusCode::CONFLICT, detail))
        }
        Err(failure) => Err(failure.into()),
    }
}
