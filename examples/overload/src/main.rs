//! A service that is asked for ten times what it can do, with and without this crate's layers.
//!
//! `cargo run --release -p overload [-- [--quick] [--svg FILE]]`
//!
//! It serves on a local port, sends itself half of what it can do, twice as much, ten times as
//! much, and half again, over TCP, and prints what its users got. No other server is needed.

mod draw;
mod load;
mod service;

use load::{Phase, Second, play};
use service::{CAPACITY, Layers, client, serve};
use std::{env, error::Error, time::Duration};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (mut file, mut quick) = (None, false);
    let mut args = env::args().skip(1);
    while let Some(arg) = args.next() {
        match &*arg {
            "--svg" => file = Some(args.next().ok_or("--svg needs a file")?),
            "--quick" => quick = true,
            other => return Err(format!("unknown argument {other}").into()),
        }
    }
    let seconds = |long, short| if quick { short } else { long };
    let phases = [
        Phase::new("0.5x", seconds(6, 3), 0.5),
        Phase::new("2x", seconds(12, 4), 2.0),
        Phase::new("10x", seconds(12, 4), 10.0),
        Phase::new("0.5x again", seconds(12, 6), 0.5),
    ];

    println!(
        "The service can do {CAPACITY} requests a second. Its users wait for a second each.\n"
    );
    let mut runs = Vec::new();
    for layers in [Layers::Buttress, Layers::Usual] {
        let url = serve(layers).await?;
        let clients = (0..20)
            .map(|_| client(layers))
            .collect::<Result<Vec<_>, _>>()?;
        let seconds = play(&phases, &url, &clients).await;
        println!("{layers}");
        table(&phases, &seconds);
        runs.push((layers.to_string(), seconds));
    }
    if let Some(file) = file {
        std::fs::write(&file, draw::draw(&phases, &runs))?;
        println!("drawn into {file}");
    }
    Ok(())
}

fn table(phases: &[Phase], seconds: &[Second]) {
    println!(
        "  {:<11} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}   of what was served",
        "", "offered/s", "served/s", "refused/s", "failed/s", "p50", "p99"
    );
    let mut rest = seconds;
    for phase in phases {
        let (all, after) = rest.split_at(phase.seconds.min(rest.len()));
        rest = after;
        // The first two seconds are on the way from one state to the next.
        let steady = all.get(2..).unwrap_or_default();
        let rate = |f: fn(&Second) -> usize| {
            steady.iter().map(f).sum::<usize>() as f64 / steady.len().max(1) as f64
        };
        let mut served: Vec<Duration> = steady
            .iter()
            .flat_map(|s| s.served.iter().copied())
            .collect();
        served.sort_unstable();
        println!(
            "  {:<11} {:>9.0} {:>9.0} {:>9.0} {:>9.0} {:>9} {:>9}",
            phase.name,
            rate(|s| s.offered),
            rate(|s| s.served.len()),
            rate(|s| s.refused),
            rate(|s| s.failed),
            percentile(&served, 50),
            percentile(&served, 99),
        );
    }
    let last = phases.last().map_or(0, |phase| phase.seconds);
    let last = &seconds[seconds.len().saturating_sub(last)..];
    let well = |s: &[Second]| {
        let (offered, served) = s
            .iter()
            .fold((0, 0), |(o, n), s| (o + s.offered, n + s.served.len()));
        served * 100 >= offered * 99
    };
    match last.windows(3).position(well) {
        Some(after) => println!(
            "  all is well {:?} after the flood\n",
            Duration::from_secs(after as u64)
        ),
        None => println!(
            "  all is not well {:?} after the flood\n",
            Duration::from_secs(last.len() as u64)
        ),
    }
}

fn percentile(sorted: &[Duration], percent: usize) -> String {
    match sorted.get((sorted.len() * percent / 100).saturating_sub(1)) {
        Some(time) => format!("{} ms", time.as_millis()),
        None => "-".to_owned(),
    }
}
