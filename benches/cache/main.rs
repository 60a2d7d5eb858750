//! What a hit costs, beside the caches and the cache layer that others would use.
//!
//! `cargo bench --bench cache [-- [--smoke] [--only SUBSTRING]]`
//!
//! It measures like the overhead benchmark and with the same yardstick: clock reads of the same
//! run. Every call is a hit; the bare service below is never called (it would answer wrongly). With
//! two threads, all rows but `.keys` have both threads ask for the same key.
#![allow(missing_docs)]
// A benchmark reads clocks.
#![allow(clippy::disallowed_methods)]
#![allow(clippy::expect_used, clippy::unwrap_used)]

mod rows;

use buttress_benches::{
    measure,
    options::{Options, runtime},
    report::{self, Limit::Clocks, Target},
};
use std::{path::PathBuf, process::ExitCode};

const TARGETS: [Target; 1] = [("buttress.cache.hit", [Clocks(4.0), Clocks(8.0)])];

fn main() -> ExitCode {
    let Some(options) = Options::read() else {
        return ExitCode::from(2);
    };
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let _entered = runtime.enter();
    let all = options.measure(|| rows::rows(&runtime));

    print!(
        "{}\n{}",
        report::table(&all),
        report::targets(&all, &TARGETS)
    );
    // What cannot be shared has to be copied, and HTTP's fields are.
    let may = |name: &str| match name {
        "buttress.cache.hit.copied" => 1.0,
        "buttress.cache.http" => f64::INFINITY,
        _ => 0.0,
    };
    print!("{}", report::allocations(&all, may));
    let (one, two) = (find(&all, 1), find(&all, 2));
    if let (Some(one), Some(two)) = (one, two) {
        let times = two / one;
        let met = if times <= 1.3 { "met" } else { "MISSED" };
        println!("different keys, two threads: {times:.2} times one thread, <= 1.3 {met}");
    }
    let tsv = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/bench/cache.tsv");
    if let Err(error) = report::write(&all, &tsv) {
        eprintln!("cannot write {}: {error}", tsv.display());
        return ExitCode::FAILURE;
    }
    match all.iter().any(|m| m.wrong > 0) {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}

fn find(all: &[measure::Measured], threads: usize) -> Option<f64> {
    let row = |m: &&measure::Measured| m.name == "buttress.cache.hit.keys" && m.threads == threads;
    all.iter().find(row).map(|m| m.clocks)
}
