//! Postgres: a pool behind a circuit breaker and a timeout.

use crate::problem::Problem;
use axum::http::StatusCode;
use buttress::{
    CircuitBreaker, Classified, Error, ErrorsBy, InvalidConfig, Outcome, Rejected, Timeout,
};
use deadpool_postgres::{
    Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime,
};
use std::{error::Error as _, fmt, time::Duration};
use tokio_postgres::{Config, NoTls, Row, error::SqlState, types::ToSql};

/// Postgres is not there, or not well: what the breaker counts.
type Away = Error<Box<dyn std::error::Error + Send + Sync>>;

/// Why a query has no rows.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Postgres answered: no.
    Refused(tokio_postgres::Error),
    /// Postgres did not answer.
    Away(Away),
    /// All connections are in use.
    Busy,
}

/// The cache answers for a load that failed, or that it did not start.
impl From<Rejected> for Failure {
    fn from(rejected: Rejected) -> Self {
        Self::Away(rejected.into())
    }
}

/// A breaker that is told which failures are Postgres's own.
type Breaker = Classified<CircuitBreaker, ErrorsBy<fn(&Failure) -> Outcome>>;

/// The pool, with its policies. Clones share them.
#[derive(Clone)]
pub(crate) struct Db {
    pool: Pool,
    breaker: Breaker,
    timeout: Timeout,
}

impl Db {
    /// Connects with the first query.
    pub(crate) fn new(
        mut config: Config,
        connections: usize,
        limit: Duration,
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        config.connect_timeout(limit);
        // What nobody waits for any more need not be finished.
        let given = config.get_options().unwrap_or_default();
        config.options(format!(
            "{given} -c statement_timeout={}",
            limit.as_millis()
        ));
        config.application_name("tasks");
        let recycling_method = RecyclingMethod::Fast;
        let manager = Manager::from_config(config, NoTls, ManagerConfig { recycling_method });
        let pool = Pool::builder(manager)
            .max_size(connections)
            .wait_timeout(Some(limit / 2))
            .create_timeout(Some(limit))
            .recycle_timeout(Some(limit))
            .runtime(Runtime::Tokio1)
            .build()?;
        Ok(Self {
            pool,
            breaker: breaker()?.classify(ErrorsBy(outcome)),
            timeout: Timeout::new("postgres", limit),
        })
    }

    /// The rows that one statement returns. A statement is a transaction of its own.
    pub(crate) async fn query(
        &self,
        statement: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Failure> {
        let query = async || {
            let mut lent = match self.pool.get().await {
                Ok(client) => Lent(Some(client)),
                Err(PoolError::Timeout(deadpool_postgres::TimeoutType::Wait)) => {
                    return Err(Failure::Busy);
                }
                Err(error) => return Err(Failure::Away(Away::Service(error.into()))),
            };
            let answer = lent.query(statement, parameters).await;
            lent.give_back();
            match answer {
                Ok(rows) => Ok(rows),
                Err(error) if is_refusal(&error) => Err(Failure::Refused(error)),
                Err(error) => Err(Failure::Away(Away::Service(error.into()))),
            }
        };
        let guarded = self.breaker.run(async || self.timeout.run(query).await);
        guarded.await
    }

    /// The breaker, for whoever wants to see it.
    pub(crate) fn breaker(&self) -> &CircuitBreaker {
        self.breaker.policy()
    }

    /// The row, if there is one.
    pub(crate) async fn row(
        &self,
        statement: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Option<Row>, Failure> {
        Ok(self.query(statement, parameters).await?.into_iter().next())
    }

    /// A connection, for more than one statement.
    pub(crate) async fn connection(&self) -> Result<Object, PoolError> {
        self.pool.get().await
    }
}

/// What the breaker makes of a failure. What Postgres refuses is answered, and too many of us for
/// the pool are not its fault.
fn outcome(failure: &Failure) -> Outcome {
    match failure {
        Failure::Refused(_) | Failure::Busy => Outcome::Ignored,
        Failure::Away(_) => Outcome::Failure,
    }
}

/// Opens after five failures in a row, and looks often whether Postgres is back: a client that was
/// refused shall not wait for more than a second or two after that.
fn breaker() -> Result<CircuitBreaker, InvalidConfig> {
    CircuitBreaker::builder("postgres")
        .consecutive_failures(5)
        .open_for(Duration::from_millis(500))
        .max_open_for(Duration::from_secs(1))
        .build()
}

/// A connection that goes back to the pool only when its query has ended: one that was given up in
/// the middle, because the time was up or the client hung up, is closed instead.
struct Lent(Option<Object>);

impl Lent {
    async fn query(
        &self,
        statement: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        let Some(client) = &self.0 else {
            return Ok(Vec::new());
        };
        let prepared = client.prepare_cached(statement).await?;
        client.query(&prepared, parameters).await
    }

    fn give_back(&mut self) {
        drop(self.0.take());
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(client) = self.0.take() {
            drop(Object::take(client));
        }
    }
}

/// Whether Postgres is well, and does not want this statement; else it is going, coming or full.
fn is_refusal(error: &tokio_postgres::Error) -> bool {
    let Some(code) = error.code() else {
        // What has no code is a broken connection, or a value that did not fit the statement.
        return !error.is_closed()
            && error
                .source()
                .is_none_or(|source| !source.is::<std::io::Error>());
    };
    let class = code.code().get(..2).unwrap_or_default();
    // A table that is not there yet will be: the migrations are repeated until they have run.
    !(matches!(class, "08" | "53" | "57" | "58" | "40") || *code == SqlState::UNDEFINED_TABLE)
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) => match error.as_db_error() {
                Some(said) => write!(f, "Postgres: {}", said.message()),
                None => write!(f, "Postgres: {error}"),
            },
            Self::Away(Error::Rejected(rejected)) => write!(f, "{rejected}"),
            Self::Away(Error::Service(error)) => write!(f, "Postgres: {error}"),
            Self::Busy => f.write_str("all connections to Postgres are in use"),
        }
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        match &failure {
            Failure::Refused(error) => refused(error, &failure),
            Failure::Away(Error::Rejected(rejected)) => {
                let detail = match rejected.reached_service() {
                    true => "the database did not answer in time; a change may have been made",
                    false => "the database does not answer",
                };
                Self::unavailable(detail, rejected.retry_after())
            }
            Failure::Away(Error::Service(_)) => {
                Self::unavailable("the database does not answer", None)
            }
            Failure::Busy => Self::unavailable(&failure, None),
        }
    }
}

/// Whether a row stays because others refer to it.
pub(crate) fn is_referred_to(error: &tokio_postgres::Error) -> bool {
    // Which of the two depends on the version.
    let codes = [
        SqlState::FOREIGN_KEY_VIOLATION,
        SqlState::RESTRICT_VIOLATION,
    ];
    error.code().is_some_and(|code| codes.contains(code))
}

fn refused(error: &tokio_postgres::Error, failure: &Failure) -> Problem {
    let constraint = error.as_db_error().and_then(|said| said.constraint());
    let code = error.code();
    if code == Some(&SqlState::UNIQUE_VIOLATION) {
        let field = match constraint {
            Some("users_email_key") => "email",
            _ => "name",
        };
        return Problem::field(StatusCode::CONFLICT, field, "is taken already");
    }
    if code == Some(&SqlState::FOREIGN_KEY_VIOLATION) {
        let field = match constraint {
            Some("tasks_user_id_fkey") => "user_id",
            _ => "category_id",
        };
        let message = "there is none with this id";
        return Problem::field(StatusCode::UNPROCESSABLE_ENTITY, field, message);
    }
    crate::log::line(format_args!("unexpected: {failure}"));
    Problem::impossible()
}
