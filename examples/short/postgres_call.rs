//! Database queries behind a circuit breaker and a timeout: closures, no tower.
//!
//! `cargo run --example postgres_call` boots a Postgres for itself, or uses the one
//! at `DATABASE_URL`.

use buttress::{CircuitBreaker, Classified, Error, ErrorsBy, Outcome, Timeout};
use example_support::servers::Postgres;
use std::{env, time::Duration};
use tokio_postgres::{Client, NoTls};

type Failure = Error<tokio_postgres::Error>;
type Breaker = Classified<CircuitBreaker, ErrorsBy<fn(&Failure) -> Outcome>>;

/// What has a code is an answer; those of class 5 say that Postgres is full, going or coming.
fn outcome(error: &Failure) -> Outcome {
    match error {
        Error::Service(e) if e.code().is_some_and(|c| !c.code().starts_with('5')) => {
            Outcome::Ignored
        }
        _ => Outcome::Failure,
    }
}

/// The timeout lets go of the answer; Postgres itself goes on until it is told to cancel.
async fn slept(b: &Breaker, t: &Timeout, client: &Client, seconds: f64) -> Result<f64, Failure> {
    const QUERY: &str = "SELECT $1::float8, pg_sleep($1)::text, sqrt($1)";
    let query = async || client.query_one(QUERY, &[&seconds]).await;
    let query = async || query().await.map_err(Error::Service);
    Ok(b.run(async || t.run(query).await).await?.get(0))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (url, _postgres) = match env::var("DATABASE_URL") {
        Ok(url) => (url, None),
        Err(_) => {
            let postgres = Postgres::start()?;
            (postgres.url(), Some(postgres))
        }
    };
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
    tokio::spawn(connection);

    let breaker = CircuitBreaker::builder("orders-db").consecutive_failures(3);
    let breaker: Breaker = breaker.build()?.classify(ErrorsBy(outcome));
    let timeout = Timeout::new("orders-db", Duration::from_millis(200));
    for seconds in [-1.0, -1.0, -1.0, 0.0, 0.01, 9.0, 9.0, 9.0, 0.0] {
        match slept(&breaker, &timeout, &client, seconds).await {
            Ok(slept) => println!("slept for {slept} s"),
            Err(Error::Rejected(rejected)) => println!("{rejected}"),
            Err(Error::Service(error)) => println!("Postgres says: {error}"),
        }
    }
    println!("{:?}", breaker.policy().state());
    Ok(())
}
