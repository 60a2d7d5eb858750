//! `/tasks`: what there is to do.

mod filter;
mod task;

use crate::{
    app::App,
    body::Valid,
    cached::{self, TAG},
    db::Failure,
    list::{self, Entity, List},
    path::Id,
    problem::Problem,
    query::Parameters,
    refusals::{NotFound, NotUnderstood, NotValid, Unavailable},
};
use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
pub(crate) use filter::Filter;
use task::{NewTask, Priority, Status, Task, TaskChange};
use tokio_postgres::{Row, types::ToSql};
use utoipa_axum::{router::OpenApiRouter, routes};

pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(all, create))
        .routes(routes!(get, change, delete))
}

/// Lists tasks.
#[utoipa::path(get, path = "/tasks", operation_id = "list_tasks", tag = "tasks",
    params(
        ("status" = Option<Status>, Query),
        ("user_id" = Option<i64>, Query, minimum = 0),
        ("category_id" = Option<i64>, Query, minimum = 0),
        ("search" = Option<String>, Query, description = "in title or description, whatever the case"),
        ("sort" = Option<String>, Query,
            pattern = "^-?(id|title|status|priority|due_date|created_at|updated_at)$",
            description = "id, title, status, priority, due_date, \
            created_at or updated_at; -title: backwards. No due date counts as the latest."),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 1000, description = "100 if not given"),
        ("offset" = Option<i64>, Query, minimum = 0, maximum = 1_000_000_000),
    ),
    responses(
        (status = 200, body = List<Task>, headers(
            ("Cache-Status" = String, description = "hit, loaded, or stale (`detail=sie`); RFC 9211")
        )),
        NotUnderstood, Unavailable,
    ))]
async fn all(State(app): State<App>, query: Parameters) -> Result<Response, Problem> {
    cached::list(&app, Filter::from_query(query)?).await
}

/// Adds a task.
#[utoipa::path(post, path = "/tasks", operation_id = "create_task",
    tag = "tasks", request_body = NewTask,
    responses(
        (status = 201, body = Task, headers(
            ("X-Cache-Invalidation" = String, description = "`pending`: not told to Redis yet")
        )),
        NotUnderstood, NotValid, Unavailable,
    ))]
async fn create(State(app): State<App>, Valid(new): Valid<NewTask>) -> Result<Response, Problem> {
    let insert = "INSERT INTO tasks \
        (title, description, status, priority, due_date, user_id, category_id) VALUES \
        ($1, $2, $3::text::task_status, $4::text::task_priority, $5, $6, $7) RETURNING *";
    let status = new.status.unwrap_or_default().word();
    let priority = new.priority.unwrap_or_default().word();
    let values: [&(dyn ToSql + Sync); 7] = [
        &new.title,
        &new.description,
        &status,
        &priority,
        &new.due_date,
        &new.user_id,
        &new.category_id,
    ];
    let written = write(&app, insert, &values).await?;
    let (task, note) = written.ok_or_else(Problem::impossible)?;
    let place = [(header::LOCATION, format!("/tasks/{}", task.id))];
    let answer = (StatusCode::CREATED, place, Json(task)).into_response();
    Ok(cached::invalidate(&app, note, answer).await)
}

/// Shows a task.
#[utoipa::path(get, path = "/tasks/{id}", operation_id = "get_task", tag = "tasks",
    params(("id" = i64, Path)),
    responses(
        (status = 200, body = Task),
        NotUnderstood, NotFound, Unavailable,
    ))]
async fn get(State(app): State<App>, Id(id): Id) -> Result<Json<Task>, Problem> {
    let task = list::by_id(&app.db, id).await?;
    task.map(Json).ok_or_else(|| Problem::not_found("task", id))
}

/// Changes a task: what the body names.
#[utoipa::path(put, path = "/tasks/{id}", operation_id = "change_task",
    tag = "tasks", request_body = TaskChange,
    params(("id" = i64, Path)),
    responses(
        (status = 200, body = Task, headers(
            ("X-Cache-Invalidation" = String, description = "`pending`: not told to Redis yet")
        )),
        NotUnderstood, NotFound, NotValid, Unavailable,
    ))]
async fn change(
    State(app): State<App>,
    Id(id): Id,
    Valid(change): Valid<TaskChange>,
) -> Result<Response, Problem> {
    // Where null is a value, another parameter says whether there is a value.
    let update = "UPDATE tasks SET \
        title = coalesce($2, title), \
        description = CASE WHEN $3 THEN $4 ELSE description END, \
        status = coalesce($5::text::task_status, status), \
        priority = coalesce($6::text::task_priority, priority), \
        due_date = CASE WHEN $7 THEN $8 ELSE due_date END, \
        user_id = CASE WHEN $9 THEN $10 ELSE user_id END, \
        category_id = CASE WHEN $11 THEN $12 ELSE category_id END, \
        updated_at = now() WHERE id = $1 RETURNING *";
    let values: [&(dyn ToSql + Sync); 12] = [
        &id,
        &change.title,
        &change.description.is_some(),
        &change.description.flatten(),
        &change.status.map(Status::word),
        &change.priority.map(Priority::word),
        &change.due_date.is_some(),
        &change.due_date.flatten(),
        &change.user_id.is_some(),
        &change.user_id.flatten(),
        &change.category_id.is_some(),
        &change.category_id.flatten(),
    ];
    let written = write(&app, update, &values).await?;
    let (task, note) = written.ok_or_else(|| Problem::not_found("task", id))?;
    Ok(cached::invalidate(&app, note, Json(task).into_response()).await)
}

/// Removes a task.
#[utoipa::path(delete, path = "/tasks/{id}", operation_id = "delete_task", tag = "tasks",
    params(("id" = i64, Path)),
    responses(
        (status = 204, headers(
            ("X-Cache-Invalidation" = String, description = "`pending`: not told to Redis yet")
        )),
        NotUnderstood, NotFound, Unavailable,
    ))]
async fn delete(State(app): State<App>, Id(id): Id) -> Result<Response, Problem> {
    let delete = "DELETE FROM tasks WHERE id = $1 RETURNING *";
    let written = write(&app, delete, &[&id]).await?;
    let (_, note) = written.ok_or_else(|| Problem::not_found("task", id))?;
    Ok(cached::invalidate(&app, note, StatusCode::NO_CONTENT.into_response()).await)
}

/// Writes a row of tasks, and in the same transaction, which is one statement, notes that what the
/// cache knows of tasks is outdated: whatever happens next, that note is not lost. Returns the row
/// and the note's number.
async fn write(
    app: &App,
    statement: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<Option<(Task, i64)>, Problem> {
    let columns = Task::COLUMNS;
    let statement = format!(
        "WITH written AS ({statement}), noted AS \
         (INSERT INTO invalidations (tag) SELECT '{TAG}' FROM written RETURNING id AS note) \
         SELECT {columns}, note FROM written, noted"
    );
    let Some(row) = app.db.row(&statement, parameters).await? else {
        return Ok(None);
    };
    let read = |row: &Row| Ok((Task::read(row)?, row.try_get("note")?));
    Ok(Some(read(&row).map_err(Failure::Refused)?))
}
