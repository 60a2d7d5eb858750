//! What a call costs: each layer of this crate, all four together, and the crates beside it.
//!
//! `cargo bench --bench overhead [-- [--smoke] [--only SUBSTRING]]`
//!
//! A call is `poll_ready`, `call` and one poll, over a service that answers at once. All rows run
//! in one process, interleaved, batches of a millisecond each after a batch of clock reads (tokio's
//! `Instant::now`); the yardstick is that clock, because absolute times wander from machine to
//! machine and from build to build. With two threads both use one state, start together, and each
//! thread's own time per call counts. Rounds in which a thread was interrupted are left out; what
//! is printed is the median of the others, and if there are hardly any, the table says so. Every
//! call's outcome is checked. Small quotas are measured in time that is made up (`made_up_time.rs`).
//!
//! Allocations are counted by an allocator that does so for every row; it adds a few nanoseconds to
//! each allocation.
#![allow(missing_docs)]
// A benchmark reads clocks.
#![allow(clippy::disallowed_methods)]
#![allow(clippy::expect_used, clippy::unwrap_used)]

mod made_up_time;
mod ours;
mod peers;

use buttress_benches::{
    options::{Options, runtime},
    report,
    row::{Answer, Bare, PendingOnce, Row},
};
use std::{hint::black_box, path::PathBuf, process::ExitCode};

fn main() -> ExitCode {
    let Some(options) = Options::read() else {
        return ExitCode::from(2);
    };
    // The timers want a runtime around them; its worker sleeps.
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let _entered = runtime.enter();
    let mut all = options.measure(rows);
    let small = options.measure(small_rows).into_iter();
    all.extend(small.filter(|m| !matches!(m.name, "clock" | "bare" | "bare.pending")));
    let tsv = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/bench/overhead.tsv");
    let targets = report::targets(&all, &report::TARGETS);
    print!("{}\n{targets}", report::table(&all));
    print!("{}", report::allocations(&all, |_| 0.0));
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
    let mut rows = yardsticks();
    rows.extend(ours::rows());
    rows.extend(peers::rows());
    rows
}

/// Apart from the others: its 100,000 keys would take the caches from those of `keyed100k`.
fn small_rows() -> Vec<Row> {
    let time = ours::small_time();
    let made_up = Row::new("clock.made_up", move || {
        let time = time.clone();
        move || {
            black_box(time.read());
            Answer::Right
        }
    });
    let mut rows = yardsticks();
    rows.push(made_up);
    rows.extend(ours::small_rows());
    rows
}

fn yardsticks() -> Vec<Row> {
    let clock = Row::new("clock", || {
        || {
            black_box(tokio::time::Instant::now());
            Answer::Right
        }
    });
    vec![
        clock,
        Row::service("bare", Bare, Result::is_ok),
        Row::pending_once("bare.pending", PendingOnce, Result::is_ok),
    ]
}
