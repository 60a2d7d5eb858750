//! What a run comes to, phase by phase.

use crate::{
    backend::WORK,
    clock::{self, Steps},
    record::{Count, Second},
    scenario::{Phase, Scenario},
};

/// One phase of one run.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) scenario: &'static str,
    pub(crate) stack: String,
    pub(crate) seed: u64,
    pub(crate) phase: &'static str,
    /// Requests served in time, as a share of what the backend can do.
    pub(crate) goodput: f64,
    /// Milliseconds; the median of all seconds' 99th percentiles.
    pub(crate) p99: f64,
    /// The same of the requests that the backend admitted, from when they reached it.
    pub(crate) admitted_p99: f64,
    /// The highest of the first seconds.
    pub(crate) early_p99: f64,
    /// What reaches the backend, and a relay, for each request.
    pub(crate) amplification: f64,
    pub(crate) relay_amplification: f64,
    pub(crate) recovery: Option<Recovery>,
    /// Requests refused in front of the workers: while the phase settles, and then.
    pub(crate) early_shed: u32,
    pub(crate) shed: u32,
    /// The backend's limit, on average.
    pub(crate) limit: f64,
    /// The share of those that matter most that was served.
    pub(crate) critical: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Recovery {
    After(u32),
    Never,
}

pub(crate) fn rows(scenario: &Scenario, stack: &str, seed: u64, seconds: &[Second]) -> Vec<Row> {
    let mut begun = 0;
    let mut rows = Vec::new();
    for phase in &scenario.phases {
        let all = &seconds[begun..begun + phase.seconds as usize];
        begun += phase.seconds as usize;
        rows.push(row(scenario, phase, stack, seed, all));
    }
    rows
}

fn row(scenario: &Scenario, phase: &Phase, stack: &str, seed: u64, all: &[Second]) -> Row {
    let (early, steady) = all.split_at(phase.settling as usize);
    let capacity = scenario.workers as f64 / WORK * phase.capacity;
    let sum = |seconds: &[Second], f: &dyn Fn(&Second) -> u32| -> f64 {
        seconds.iter().map(|second| f64::from(f(second))).sum()
    };
    let per_request = |count: Count| {
        let arrived = sum(steady, &|s| s.counts[count as usize]);
        arrived / sum(steady, &|s| s.offered[0])
    };
    let critical = |f: fn(&Second) -> u32| sum(steady, &f);
    let shed = |seconds: &[Second]| seconds.iter().map(|s| s.counts[Count::Shed as usize]).sum();
    let first = early.iter().take(6);
    Row {
        scenario: scenario.name,
        stack: stack.to_owned(),
        seed,
        phase: phase.name,
        goodput: sum(steady, &|s| s.served[0]) / (capacity * steady.len() as f64),
        p99: median(steady.iter().filter_map(|s| p99(&s.latencies)).collect()),
        admitted_p99: median(steady.iter().filter_map(|s| p99(&s.admitted)).collect()),
        early_p99: first
            .filter_map(|s| p99(&s.admitted))
            .fold(f64::NAN, f64::max),
        amplification: per_request(Count::Backend),
        relay_amplification: per_request(Count::Relay),
        recovery: phase.recovery.then(|| recovery(all)),
        early_shed: shed(early),
        shed: shed(steady),
        limit: sum(steady, &|s| s.limit as u32) / steady.len() as f64,
        critical: critical(|s| s.served[1]) / critical(|s| s.offered[1]),
    }
}

fn p99(latencies: &[Steps]) -> Option<f64> {
    let mut latencies = latencies.to_vec();
    latencies.sort_unstable();
    let index = (latencies.len() * 99).div_ceil(100).checked_sub(1)?;
    Some(clock::seconds(latencies[index]) * 1e3)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The first second from which on five of them are served as they should be.
fn recovery(all: &[Second]) -> Recovery {
    let well = |seconds: &[Second]| {
        let sum = |f: fn(&Second) -> u32| -> u32 { seconds.iter().map(f).sum() };
        f64::from(sum(|s| s.served[0])) >= 0.99 * f64::from(sum(|s| s.offered[0]))
    };
    match all.windows(5).position(well) {
        Some(second) => Recovery::After(second as u32),
        None => Recovery::Never,
    }
}
