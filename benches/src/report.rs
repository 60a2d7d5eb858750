//! The table, the targets, and the file.

use crate::measure::Measured;
use std::{fmt::Write, fs, io, path::Path};

/// What a row must not exceed.
pub enum Limit {
    /// So many clock reads.
    Clocks(f64),
    /// So many times another row with as many threads.
    Of(f64, &'static str),
}
use Limit::{Clocks, Of};

/// A row, and its limits with one thread and with two.
pub type Target = (&'static str, [Limit; 2]);

/// Those of the overhead benchmark.
#[allow(dead_code)] // the cache's benchmark has its own
pub const TARGETS: [Target; 13] = [
    (
        "buttress.circuit_breaker",
        [Clocks(3.2), Clocks(3.2 * 1.25)],
    ),
    (
        "buttress.circuit_breaker.open",
        [Clocks(2.0), Clocks(2.0 * 1.25)],
    ),
    ("buttress.rate_limit", [Clocks(3.2), Clocks(3.2 * 1.25)]),
    // With two threads a lock that both want all the time, beside a word that both want.
    (
        "buttress.rate_limit.small",
        [Clocks(3.5), Of(8.0, "clock.made_up")],
    ),
    (
        "buttress.rate_limit.keyed100k",
        [Of(1.0, "governor.keyed100k"), Of(1.0, "governor.keyed100k")],
    ),
    (
        "buttress.rate_limit.denied",
        [Clocks(2.5), Clocks(2.5 * 1.25)],
    ),
    (
        "buttress.limiter_breaker",
        [Clocks(5.0), Clocks(5.0 * 1.25)],
    ),
    ("buttress.stack", [Clocks(8.5), Clocks(8.5 * 1.3)]),
    (
        "buttress.stack.cloned",
        [Of(1.25, "buttress.stack"), Of(1.25, "buttress.stack")],
    ),
    ("buttress.load_shed", [Clocks(2.4), Clocks(2.4 * 1.25)]),
    (
        "buttress.load_shed.queued",
        [Clocks(2.4), Clocks(2.4 * 1.25)],
    ),
    (
        "buttress.load_shed.adaptive",
        [Clocks(3.5), Clocks(3.5 * 1.3)],
    ),
    (
        "buttress.load_shed.denied",
        [Clocks(1.2), Clocks(1.2 * 1.3)],
    ),
];

pub fn table(all: &[Measured]) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{:<34} {:>7} {:>11} {:>7} {:>8}  ",
        "name", "threads", "ns", "clocks", "allocs"
    );
    for m in all {
        let note = match (m.wrong, m.slept) {
            (0, 0.0) if m.disturbed => "DISTURBED by other work on this machine".to_owned(),
            (0, 0.0) => String::new(),
            (0, slept) => format!("sleeps, {slept:.1} of a million calls"),
            (wrong, _) => format!("{wrong} WRONG ANSWERS"),
        };
        let _ = writeln!(
            out,
            "{:<34} {:>7} {:>11.1} {:>7.2} {:>8.2}  {note}",
            m.name, m.threads, m.ns, m.clocks, m.allocs
        );
    }
    out
}

pub fn targets(all: &[Measured], targets: &[Target]) -> String {
    let find = |name: &str, threads| {
        let mut found = all
            .iter()
            .filter(|m| m.name == name && m.threads == threads);
        found.next()
    };
    let mut out = String::new();
    for (name, limits) in targets {
        for (limit, threads) in limits.iter().zip([1, 2]) {
            let Some(row) = find(name, threads) else {
                continue;
            };
            let (is, most, unit) = match limit {
                Clocks(most) => (row.clocks, *most, "clock reads".to_owned()),
                Of(times, other) => match find(other, threads) {
                    Some(other) => (row.ns / other.ns, *times, format!("x {}", other.name)),
                    None => continue,
                },
            };
            let met = match is <= most {
                true if row.disturbed => "met, but DISTURBED",
                true => "met",
                false => "MISSED",
            };
            let _ = writeln!(
                out,
                "{name:<34} {threads:>7} {is:>7.2} <= {most:<5.2} {unit:<22} {met}"
            );
        }
    }
    out
}

/// Rows of ours that allocate more than they may; `may` knows of those that may at all.
pub fn allocations(all: &[Measured], may: impl Fn(&str) -> f64) -> String {
    let mut out = String::new();
    for m in all.iter().filter(|m| m.name.starts_with("buttress.")) {
        let most = may(m.name);
        if m.allocs > most {
            let _ = writeln!(
                out,
                "{:<34} {:>7} {:>7.2} <= {most:<5} allocations            MISSED",
                m.name, m.threads, m.allocs
            );
        }
    }
    out
}

pub fn write(all: &[Measured], path: &Path) -> io::Result<()> {
    let mut out = String::from("name\tthreads\tns\tclock_ratio\tallocs\n");
    for m in all {
        let _ = writeln!(
            out,
            "{}\t{}\t{:.2}\t{:.3}\t{:.3}",
            m.name, m.threads, m.ns, m.clocks, m.allocs
        );
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, out)
}
