//! All routes.

use crate::{
    cached::Lists,
    categories,
    db::Db,
    health, log,
    problem::{Problem, Wrong},
    tasks, users,
};
use axum::{
    Json, Router,
    extract::{Request, State},
    http::{HeaderName, HeaderValue, StatusCode},
    middleware::{Next, from_fn_with_state},
    response::{Html, Redirect, Response},
    routing::get,
};
use std::{sync::Arc, time::Instant};
use utoipa::{OpenApi, openapi::OpenApi as Description};
use utoipa_axum::router::OpenApiRouter;
use utoipa_swagger_ui::{Config, SwaggerUi};

/// What the routes need.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) db: Db,
    pub(crate) lists: Lists,
    /// What `X-Served-By` says.
    pub(crate) served_by: HeaderValue,
    /// Whether every request is a line in the log.
    pub(crate) log_requests: bool,
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Task Management API",
        description = "Tasks, whose they are and what they are about."
    ),
    // The routes bring what they name themselves; these are named by refusals.
    components(schemas(Problem, Wrong))
)]
struct Api;

/// The routes, and the page that describes them.
pub(crate) fn router(app: App) -> Router {
    let (router, description) = described(app.clone());
    let description: Arc<Description> = description.into();
    let json = get(async move || Json(Arc::clone(&description)));
    // Swagger UI's files are in the executable: the page needs no network. Its own page answers
    // only under a name that ends with a slash, so there is one of ours for those who leave it out.
    let files = SwaggerUi::new("/docs/files").config(Config::from("/api-docs/openapi.json"));
    router
        .route("/api-docs/openapi.json", json)
        .route("/docs", get(async || Html(include_str!("docs.html"))))
        .route("/docs/", get(async || Redirect::permanent("/docs")))
        .merge(files)
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "there is nothing here"))
        .method_not_allowed_fallback(async || {
            let detail = "this cannot be done here; see /docs";
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
        })
        .layer(from_fn_with_state(app, signed))
}

fn described(app: App) -> (Router, Description) {
    OpenApiRouter::with_openapi(Api::openapi())
        .merge(tasks::router())
        .merge(users::router())
        .merge(categories::router())
        .merge(health::router())
        .with_state(app)
        .split_for_parts()
}

/// Says which instance answered: to the client, and in the log.
async fn signed(State(app): State<App>, request: Request, next: Next) -> Response {
    const SERVED_BY: HeaderName = HeaderName::from_static("x-served-by");
    #[allow(clippy::disallowed_methods)] // shown to people; nothing is decided by it
    let start = Instant::now();
    let asked = app.log_requests.then(|| {
        let target = request
            .uri()
            .path_and_query()
            .map(|target| target.to_string());
        (request.method().clone(), target.unwrap_or_default())
    });
    let mut response = next.run(request).await;
    response.headers_mut().insert(SERVED_BY, app.served_by);
    if let Some((method, target)) = asked {
        let (status, took) = (response.status().as_u16(), start.elapsed());
        log::line(format_args!("{method} {target} {status} in {took:.1?}"));
    }
    response
}
