//! Database queries behind a circuit breaker and a timeout: closures, no tower.
//!
//! `cargo run --example postgres_call` boots a Postgres for itself, or uses the one
//! at `DATABASE_URL`.

use buttress::{CircuitBreaker, Error, Timeout};
use example_support::servers::Postgres;
use std::{env, time::Duration};
use tokio_postgres::{Client, NoTls};

/// A query behind both policies. Its error stays what it is, with room for their rejections.
///
/// The timeout lets go of the answer; Postgres itself goes on until it is told to cancel.
async fn slept(
    (breaker, timeout): (&CircuitBreaker, &Timeout),
    client: &Client,
    seconds: f64,
) -> Result<f64, Error<tokio_postgres::Error>> {
    const QUERY: &str = "SELECT $1::float8, pg_sleep($1)::text";
    let query = async || match client.query_one(QUERY, &[&seconds]).await {
        Ok(row) => Ok(row.get(0)),
        Err(error) => Err(Error::Service(error)),
    };
    breaker.run(async || timeout.run(query).await).await
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

    let breaker = CircuitBreaker::builder("orders-db")
        .consecutive_failures(3)
        .build()?;
    let timeout = Timeout::new("orders-db", Duration::from_millis(200));
    for seconds in [0.0, 0.01, 9.0, 9.0, 9.0, 0.0] {
        match slept((&breaker, &timeout), &client, seconds).await {
            Ok(slept) => println!("slept for {slept} s"),
            Err(Error::Rejected(rejected)) => println!("{rejected}"),
            Err(Error::Service(error)) => println!("Postgres says: {error}"),
        }
    }
    println!("{:?}", breaker.state());
    Ok(())
}
