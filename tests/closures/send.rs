//! Every future of every `run` is `Send` when what it captures is.
//!
//! The matrix is policy × error × capture × place, and its cells are functions that nobody calls:
//! that they compile is the promise. What a closure captures are the parts of a real database
//! client. The places are an axum handler, `tokio::spawn`, and a method of a tonic server.
#![allow(dead_code, unused_variables, unused_mut, clippy::redundant_closure)]

use axum::{extract::State, http::StatusCode, routing::MethodRouter};
use buttress::{
    Cache, CircuitBreaker, Criticality, Error, ErrorsBy, LoadShed, Outcome, RateLimiter, Rejected,
    Retry, Throttle, Timeout,
    cache::{Cached, Freshness},
    circuit_breaker::KeyedCircuitBreaker,
    guard::{self, Shadow},
    load_shed::Queued,
    rate_limit::WaitingLimiter,
};
use std::{io, sync::Arc, time::Duration};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, types::ToSql};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// An application's own error.
#[derive(Debug, thiserror::Error)]
enum AppError {
    #[error(transparent)]
    Rejected(#[from] Rejected),
    #[error("{0}")]
    Database(String),
    #[error(transparent)]
    Other(#[from] BoxError),
}

/// An error type of the matrix.
trait Fails: From<Rejected> + Send + 'static {
    fn of(error: tokio_postgres::Error) -> Self;
}

impl Fails for BoxError {
    fn of(error: tokio_postgres::Error) -> Self {
        error.into()
    }
}
impl Fails for anyhow::Error {
    fn of(error: tokio_postgres::Error) -> Self {
        error.into()
    }
}
impl Fails for Error<BoxError> {
    fn of(error: tokio_postgres::Error) -> Self {
        Self::Service(error.into())
    }
}
impl Fails for Error<io::Error> {
    fn of(error: tokio_postgres::Error) -> Self {
        Self::Service(io::Error::other(error))
    }
}
impl Fails for AppError {
    fn of(error: tokio_postgres::Error) -> Self {
        Self::Database(error.to_string())
    }
}

/// A pool, as deadpool's and bb8's are: it lends clients out, which can also be written through.
#[derive(Clone)]
struct Pool(Arc<()>);

impl Pool {
    async fn get<E: Fails>(&self) -> Result<Box<Client>, E> {
        Ok(self.client().await)
    }

    async fn client(&self) -> Box<Client> {
        std::future::pending().await
    }
}

struct Query {
    id: String,
}

type ById = fn(&Query) -> String;
type ByKind = fn(&Query) -> Criticality;

fn judge<E>(_: &E) -> Outcome {
    Outcome::Failure
}

/// What an application keeps in its state.
#[derive(Clone)]
struct App {
    pool: Pool,
    breaker: CircuitBreaker,
    keyed: KeyedCircuitBreaker<ById>,
    limiter: RateLimiter,
    tenants: RateLimiter<ById>,
    waiting: WaitingLimiter,
    shed: LoadShed,
    queued: Queued,
    ranked: Queued<ByKind>,
    throttle: Throttle,
    timeout: Timeout,
    retry: Retry,
    cache: Cache<u32>,
}

const QUERY: &str = "SELECT id FROM users WHERE name = $1";

/// What tonic generates of a service's method.
#[tonic::async_trait]
trait Method: Send + Sync + 'static {
    async fn check(
        &self,
        request: tonic::Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<HealthCheckResponse>, tonic::Status>;
}

/// The three places of one cell.
macro_rules! places {
    ($app:ident, $query:ident, $error:ty, $body:expr) => {
        async fn handler(State($app): State<App>, id: String) -> Result<String, StatusCode> {
            let $query = Query { id };
            let result: Result<u32, $error> = $body;
            result
                .map(|n| n.to_string())
                .map_err(|_| StatusCode::BAD_GATEWAY)
        }

        fn route() -> MethodRouter<App> {
            axum::routing::post(handler)
        }

        fn spawned($app: App, id: String) -> JoinHandle<bool> {
            tokio::spawn(async move {
                let $query = Query { id };
                let result: Result<u32, $error> = $body;
                result.is_ok()
            })
        }

        struct Server(App);

        #[tonic::async_trait]
        impl Method for Server {
            async fn check(
                &self,
                request: tonic::Request<HealthCheckRequest>,
            ) -> Result<tonic::Response<HealthCheckResponse>, tonic::Status> {
                let $app = &self.0;
                let $query = Query {
                    id: request.into_inner().service,
                };
                let result: Result<u32, $error> = $body;
                match result {
                    Ok(_) => Ok(tonic::Response::new(HealthCheckResponse { status: 1 })),
                    Err(_) => Err(tonic::Status::unavailable("no")),
                }
            }
        }
    };
}

/// What every policy can be given: a closure that borrows a client and other locals, one that takes
/// a client from a pool and makes a transaction with it, one that uses parameters behind a `dyn`.
macro_rules! often {
    ($app:ident, $query:ident, $error:ty, $run:tt, $arg:tt) => {
        places!(
            $app,
            $query,
            $error,
            borrows!($app, $query, $error, $run, $arg)
        );
    };
}

macro_rules! borrows {
    ($app:ident, $query:ident, $error:ty, [$($run:tt)*], [$($arg:tt)*]) => {
        {
            let client = $app.pool.client().await;
            let (client, name) = (&*client, &$query.id);
            let borrowed: Result<u32, $error> = $($run)*($($arg)* async || {
                let row = client.query_one(QUERY, &[name]).await;
                Ok(row.map_err(<$error as Fails>::of)?.get::<_, u32>(0))
            })
            .await;
            let pooled: Result<u32, $error> = $($run)*($($arg)* async || {
                let mut client = $app.pool.get::<$error>().await?;
                let transaction = client.transaction().await;
                let transaction = transaction.map_err(<$error as Fails>::of)?;
                let row = transaction.query_one(QUERY, &[&$query.id]).await;
                let row = row.map_err(<$error as Fails>::of)?;
                transaction.commit().await.map_err(<$error as Fails>::of)?;
                Ok(row.get::<_, u32>(0))
            })
            .await;
            let parameters: &[&(dyn ToSql + Sync)] = &[&$query.id, &7];
            let dynamic: Result<u32, $error> = $($run)*($($arg)* async || {
                let rows = client.query(QUERY, parameters).await;
                Ok(rows.map_err(<$error as Fails>::of)?.len() as u32)
            })
            .await;
            borrowed.and(pooled).and(dynamic)
        }
    };
}

/// What a policy can be given besides if it calls its closure once: a client by `&mut`, whose
/// transaction is lent on, and what the closure gives away.
macro_rules! once {
    ($app:ident, $query:ident, $error:ty, [$($run:tt)*], [$($arg:tt)*]) => {
        places!($app, $query, $error, {
            let often = borrows!($app, $query, $error, [$($run)*], [$($arg)*]);
            let mut client = $app.pool.client().await;
            let client = &mut *client;
            let by_mut: Result<u32, $error> = $($run)*($($arg)* async || {
                let mut transaction = client.transaction().await.map_err(<$error as Fails>::of)?;
                let nested = transaction.transaction().await.map_err(<$error as Fails>::of)?;
                let row = nested.query_one(QUERY, &[&$query.id]).await;
                nested.commit().await.map_err(<$error as Fails>::of)?;
                Ok(row.map_err(<$error as Fails>::of)?.get::<_, u32>(0))
            })
            .await;
            let pool = $app.pool.clone();
            let given: Result<u32, $error> = $($run)*($($arg)* async move || {
                drop(pool.get::<$error>().await?);
                drop(pool);
                Ok(1)
            })
            .await;
            often.and(given).and(by_mut)
        });
    };
}

/// One policy over all errors and all captures; `once` if its closure is called once.
macro_rules! policies {
    ($($kind:ident $name:ident: |$app:ident, $query:ident| $run:tt $arg:tt;)*) => {$(
        mod $name {
            use super::*;
            errors!($kind, $app, $query, $run, $arg, [
                boxed: BoxError,
                anyhow_error: anyhow::Error,
                error_boxed: Error<BoxError>,
                error_io: Error<io::Error>,
                own: AppError,
            ]);
        }
    )*};
}

macro_rules! errors {
    ($kind:ident, $app:ident, $query:ident, $run:tt, $arg:tt, [$($name:ident: $error:ty,)*]) => {$(
        mod $name {
            use super::*;
            type E = $error;
            $kind!($app, $query, $error, $run, $arg);
        }
    )*};
}

policies! {
    once breaker: |app, query| [app.breaker.run] [];
    once breaker_for: |app, query| [app.breaker.run_for] [&query,];
    once breaker_classified: |app, query| [app.breaker.classify(ErrorsBy(judge::<E>)).run] [];
    once keyed: |app, query| [app.keyed.run_for] [&query,];
    once keyed_classified:
        |app, query| [app.keyed.classify(ErrorsBy(judge::<E>)).run_for] [&query,];
    once limiter: |app, query| [app.limiter.run] [];
    once limiter_for: |app, query| [app.tenants.run_for] [&query,];
    once waiting: |app, query| [app.waiting.run] [];
    once shed: |app, query| [app.shed.run] [];
    once shed_classified: |app, query| [app.shed.classify(ErrorsBy(judge::<E>)).run] [];
    once queued: |app, query| [app.queued.run] [];
    once queued_for: |app, query| [app.ranked.run_for] [&query,];
    once queued_classified:
        |app, query| [app.ranked.classify(ErrorsBy(judge::<E>)).run_for] [&query,];
    once throttle: |app, query| [app.throttle.run] [];
    once throttle_classified: |app, query| [app.throttle.classify(ErrorsBy(judge::<E>)).run] [];
    once tuple: |app, query| [guard::run] [&(&app.breaker, &app.ranked, &app.tenants), &query,];
    once tuple_classified: |app, query|
        [guard::classify((&app.breaker, &app.ranked), ErrorsBy(judge::<E>)).run_for] [&query,];
    once observed: |app, query| [Shadow::new("trial", app.queued.clone()).run] [];
    once observed_for: |app, query| [Shadow::new("trial", &app.keyed).run_for] [&query,];
    once optional: |app, query| [guard::run] [&Some(&app.tenants), &query,];
    once timeout: |app, query| [app.timeout.run] [];
    once timeout_within: |app, query| [app.timeout.run_within] [Duration::from_secs(1),];
    often retry: |app, query| [app.retry.run] [];
    often retry_classified: |app, query| [app.retry.classify(ErrorsBy(judge::<E>)).run] [];
}

/// A cache's load may go on when its caller has left, so it owns what it uses.
mod cache {
    use super::*;

    macro_rules! caches {
        ($($name:ident: $error:ty,)*) => {$(
            mod $name {
                use super::*;

                async fn load(pool: Pool, id: String) -> Result<u32, $error> {
                    let client = pool.get::<$error>().await?;
                    let parameters: &[&(dyn ToSql + Sync)] = &[&id];
                    let row = client.query_one(QUERY, parameters).await;
                    Ok(row.map_err(<$error as Fails>::of)?.get::<_, u32>(0))
                }

                mod run {
                    use super::*;
                    places!(app, query, $error, {
                        let (pool, id) = (app.pool.clone(), query.id.clone());
                        let found = app.cache.run(query.id.as_str(), || load(pool, id)).await;
                        found.map(|found| found.value)
                    });
                }
                mod guarded {
                    use super::*;
                    places!(app, query, $error, {
                        let (app2, id) = (app.clone(), query.id.clone());
                        let found = app.cache.run(&*query.id, async move || {
                            let ask = async || load(app2.pool.clone(), id.clone()).await;
                            let ask = async || app2.timeout.run(ask).await;
                            app2.breaker.run(async || app2.retry.run(ask).await).await
                        });
                        found.await.map(|found: Cached<u32>| found.value)
                    });
                }
                mod lookup {
                    use super::*;
                    places!(app, query, $error, {
                        let (pool, id) = (app.pool.clone(), query.id.clone());
                        let lookup = app.cache.lookup(query.id.as_str());
                        let lookup = lookup.classify(ErrorsBy(judge::<$error>));
                        let lookup = lookup.freshness(|_: &u32| None::<Freshness>);
                        lookup.run(async move || load(pool, id).await).await.map(|found| found.value)
                    });
                }
            }
        )*};
    }

    caches! {
        boxed: BoxError,
        anyhow_error: anyhow::Error,
        error_boxed: Error<BoxError>,
        error_io: Error<io::Error>,
        own: AppError,
    }
}

/// The policies of a client, one in the other.
mod nested {
    use super::*;

    macro_rules! nests {
        ($($name:ident: $error:ty,)*) => {$(
            mod $name {
                use super::*;

                places!(app, query, $error, {
                    let (id, classifier) = (&query.id, ErrorsBy(judge::<$error>));
                    let (breaker, retry) =
                        (app.keyed.classify(classifier), app.retry.classify(classifier));
                    let ask = async || {
                        let client = app.pool.get::<$error>().await?;
                        let row = client.query_one(QUERY, &[id]).await;
                        Ok(row.map_err(<$error as Fails>::of)?.get::<_, u32>(0))
                    };
                    let ask = async || app.throttle.run(async || app.timeout.run(ask).await).await;
                    breaker.run_for(&query, async || retry.run(ask).await).await
                });
            }
        )*};
    }

    nests! {
        boxed: BoxError,
        anyhow_error: anyhow::Error,
        error_boxed: Error<BoxError>,
        error_io: Error<io::Error>,
        own: AppError,
    }
}
