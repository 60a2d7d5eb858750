//! The table and the file.

use crate::measure::{Recovery, Row};
use std::{collections::BTreeMap, fmt::Write, fs, io, path::Path};

/// Goodput is a share of what the backend can do; but in the rows `.critical` of S6, the share of
/// the critical requests that were served.
pub(crate) fn tsv(rows: &[Row]) -> String {
    let mut out =
        "scenario\tstack\tseed\tphase\tgoodput\tp99_ms\tamplification\trecovery_s\n".to_owned();
    for row in rows {
        let recovery = match row.recovery {
            None => "-".to_owned(),
            Some(Recovery::Never) => "never".to_owned(),
            Some(Recovery::After(seconds)) => seconds.to_string(),
        };
        let Row {
            scenario,
            stack,
            seed,
            phase,
            goodput,
            p99,
            amplification,
            ..
        } = row;
        let p99 = match p99.is_nan() {
            true => "-".to_owned(),
            false => format!("{p99:.1}"),
        };
        let _ = writeln!(
            out,
            "{scenario}\t{stack}\t{seed}\t{phase}\t{goodput:.4}\t{p99}\t{amplification:.3}\t{recovery}"
        );
        if *scenario == "S6" {
            let served = row.critical;
            let _ = writeln!(
                out,
                "{scenario}\t{stack}\t{seed}\t{phase}.critical\t{served:.4}\t-\t-\t-"
            );
        }
    }
    out
}

pub(crate) fn write(text: &str, path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(path, text)
}

/// All seeds of each phase in one line.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut out = format!(
        "{:<8} {:<31} {:<9} {:>5}  {:>5} {:>13}  {:>6} {:>6} {:>6}  {:>5} {:>5}  {:>8} {:>7} {:>5} {:>5}\n",
        "scenario",
        "stack",
        "phase",
        "seeds",
        "good",
        "(min..max)",
        "p99 ms",
        "max",
        "admit",
        "relay",
        "amp",
        "recovery",
        "shed",
        "crit",
        "limit"
    );
    let mut groups: Vec<Vec<&Row>> = Vec::new();
    let mut index = BTreeMap::new();
    for row in rows {
        let key = (row.scenario, row.stack.clone(), row.phase);
        let at = *index.entry(key).or_insert_with(|| {
            groups.push(Vec::new());
            groups.len() - 1
        });
        groups[at].push(row);
    }
    for group in &groups {
        let Some(first) = group.first() else { continue };
        let all = |f: fn(&Row) -> f64| Stats::of(group.iter().map(|row| f(row)));
        let goodput = all(|row| row.goodput);
        let p99 = all(|row| row.p99);
        let recovery = match worst(group) {
            None => "-".to_owned(),
            Some(Recovery::Never) => "never".to_owned(),
            Some(Recovery::After(seconds)) => format!("{seconds} s"),
        };
        let _ = writeln!(
            out,
            "{:<8} {:<31} {:<9} {:>5}  {:>5.3} {:>13}  {:>6.1} {:>6.1} {:>6.1}  {:>5.2} {:>5.2}  {:>8} {:>7.0} {:>5.3} {:>5.1}",
            first.scenario,
            first.stack,
            first.phase,
            group.len(),
            goodput.mean,
            format!("{:.3}..{:.3}", goodput.min, goodput.max),
            p99.mean,
            p99.max,
            all(|row| row.admitted_p99).mean,
            all(|row| row.relay_amplification).mean,
            all(|row| row.amplification).mean,
            recovery,
            all(|row| f64::from(row.shed)).mean,
            all(|row| row.critical).mean,
            all(|row| row.limit).mean,
        );
    }
    out
}

pub(crate) fn worst(rows: &[&Row]) -> Option<Recovery> {
    let all = rows.iter().filter_map(|row| row.recovery);
    all.reduce(|a, b| match (a, b) {
        (Recovery::After(a), Recovery::After(b)) => Recovery::After(a.max(b)),
        _ => Recovery::Never,
    })
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Stats {
    pub(crate) mean: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Stats {
    /// Of those that are numbers.
    pub(crate) fn of(values: impl Iterator<Item = f64>) -> Self {
        let values: Vec<f64> = values.filter(|value| !value.is_nan()).collect();
        let sum: f64 = values.iter().sum();
        Self {
            mean: sum / values.len() as f64,
            min: values.iter().copied().fold(f64::NAN, f64::min),
            max: values.iter().copied().fold(f64::NAN, f64::max),
        }
    }
}
