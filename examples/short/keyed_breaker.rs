//! A breaker for each host: one that is down does not take the others with it.
//!
//! `cargo run --example keyed_breaker`

use buttress::{CircuitBreaker, Error};
use std::io;

struct Call {
    host: &'static str,
}

/// One of the hosts is down.
async fn ask(call: &Call) -> Result<&'static str, Error<io::Error>> {
    match call.host {
        "db-2" => Err(Error::Service(io::Error::other("connection refused"))),
        _ => Ok("a row"),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), buttress::InvalidConfig> {
    let breakers = CircuitBreaker::builder("db")
        .consecutive_failures(2)
        .keyed(|call: &Call| call.host)
        .max_keys(1_000) // however many hosts are made up, it keeps no more
        .build()?;

    for host in ["db-1", "db-2", "db-2", "db-2", "db-1"] {
        let call = Call { host };
        match breakers.run_for(&call, async || ask(&call).await).await {
            Ok(row) => println!("{host}: {row}"),
            Err(Error::Service(error)) => println!("{host}: {error}"),
            Err(Error::Rejected(rejected)) => println!("{host}: not asked, {}", rejected.kind()),
        }
    }
    for host in ["db-1", "db-2"] {
        println!("{host} is {:?}", breakers.state(&Call { host }));
    }
    Ok(())
}
