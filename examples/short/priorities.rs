//! A server that is overloaded serves what matters most: batch jobs wait, users do not.
//!
//! `cargo run --example priorities`

use buttress::{Criticality, Error, ErrorsAsFailures, LoadShed};
use futures::future::join_all;
use std::{io, time::Duration};
use tokio::time::sleep;
use tower::{Layer, ServiceExt, service_fn};

#[derive(Clone, Copy)]
struct Request {
    criticality: Criticality,
}

async fn work(_: Request) -> Result<(), Error<io::Error>> {
    sleep(Duration::from_millis(10)).await;
    Ok(())
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Two at once, of 10 ms each: 200 calls a second. Over HTTP: `.priority(ByCriticality::default())`.
    let shed = LoadShed::builder("api")
        .fixed(2)
        .priority(|request: &Request| request.criticality)
        .build()?;
    let layer = shed.queued().layer().classify(ErrorsAsFailures);
    let service = layer.layer(service_fn(work));

    // For two seconds, twice as much as it can do.
    let mut calls = Vec::new();
    for _ in 0..200 {
        for criticality in [Criticality::Critical, Criticality::Sheddable] {
            for _ in 0..2 {
                let call = tokio::spawn(service.clone().oneshot(Request { criticality }));
                calls.push(async move { (criticality, call.await) });
            }
        }
        sleep(Duration::from_millis(10)).await;
    }
    let answers = join_all(calls).await;
    for criticality in [Criticality::Critical, Criticality::Sheddable] {
        let served = answers
            .iter()
            .filter(|(of, answer)| *of == criticality && matches!(answer, Ok(Ok(()))));
        println!("{criticality}: {} of 400 served", served.count());
    }
    Ok(())
}
