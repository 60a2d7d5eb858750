//! What a call costs: each layer of this crate, all four together, and the crates beside it.
//!
//! `cargo bench --bench overhead [-- [--smoke] [--only SUBSTRING]]`
//!
//! A call is `poll_ready`, `call` and one poll, over a service that answers at once. All rows run
//! in one process, interleaved, batches of a millisecond each after a batch of clock reads (tokio's
//! `Instant::now`); the yardstick is that clock, because absolute times wander from machine to
//! machine and from build to build. With two threads both use one state, start together, and each
//! thread's own time per call counts. Rounds in which a thread was interrupted are left out; what
//! is printed is the median of the others, and if there are hardly any, the table says so. Every call's outcome is checked.
//!
//! Allocations are counted by an allocator that does so for every row; it adds a few nanoseconds to
//! each allocation.
#![allow(missing_docs)]
// A benchmark reads clocks.
#![allow(clippy::disallowed_methods)]
#![allow(clippy::expect_used, clippy::unwrap_used)]

mod measure;
mod ours;
mod peers;
mod report;
mod row;

use measure::Plan;
use row::{Answer, Bare, Row};
use std::{env, hint::black_box, path::PathBuf, process::ExitCode, time::Duration};

fn main() -> ExitCode {
    let mut args = env::args().skip(1);
    let (mut smoke, mut only) = (false, None);
    while let Some(arg) = args.next() {
        match &*arg {
            "--smoke" => smoke = true,
            "--only" => only = args.next(),
            // Cargo's own.
            "--bench" => {}
            other => {
                eprintln!("unknown argument {other}; known are --smoke and --only SUBSTRING");
                return ExitCode::from(2);
            }
        }
    }
    let plan = match smoke {
        true => Plan {
            rounds: 15,
            batch: Duration::from_micros(300),
            row_time: Duration::from_millis(100),
        },
        false => Plan {
            rounds: 300,
            batch: Duration::from_millis(1),
            row_time: Duration::from_secs(4),
        },
    };

    // The timers want a runtime around them; its worker sleeps.
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let _entered = runtime.enter();

    let mut all = Vec::new();
    for threads in [1, 2] {
        let mut rows = rows();
        rows.retain(|row| {
            let wanted = |only: &String| row.name.contains(&**only);
            matches!(row.name, "clock" | "bare") || only.as_ref().is_none_or(wanted)
        });
        all.extend(measure::measure(&rows, threads, plan));
    }

    let tsv = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/bench/overhead.tsv");
    print!("{}\n{}", report::table(&all), report::targets(&all));
    if let Err(error) = report::write(&all, &tsv) {
        eprintln!("cannot write {}: {error}", tsv.display());
        return ExitCode::FAILURE;
    }
    match all.iter().any(|m| m.wrong > 0) {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}

fn rows() -> Vec<Row> {
    let clock = Row::new("clock", || {
        || {
            black_box(tokio::time::Instant::now());
            Answer::Right
        }
    });
    let mut rows = vec![clock, Row::service("bare", Bare, Result::is_ok)];
    rows.extend(ours::rows());
    rows.extend(peers::rows());
    rows
}
