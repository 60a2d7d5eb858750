//! The limits in front of every kind of service: the grid that says where a rule holds.
//!
//! What is possible is measured: the best of four fixed limits that only who knows the service could
//! set. A cell holds if what is served is at least 95 % of that, if its 99th percentile is at most
//! three times as long, if below a load of 0.8 at most 1 % more is refused, and if two seconds after
//! trouble it serves 95 % of that again: means of five seeds, of all that came after the first two
//! seconds (eight with a hundred streams), and for percentiles after ten.

// The crate's tests put it to more uses.
#[allow(dead_code)]
mod cell;
mod picture;
mod random;
mod report;
mod world;

use crate::scenario::Length;
use buttress::{
    LoadShed,
    load_shed::limit::{Adaptive, Aimd, Gradient2, Vegas},
};
use cell::{Cell, Happens, Outcomes, Times};
pub(crate) use picture::draw;
pub(crate) use report::report;
use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::Instant,
};
use world::World;

const WORKERS: [usize; 6] = [1, 2, 4, 32, 200, 400];
const TIMES: [Times; 5] = [
    Times::Constant,
    Times::Even,
    Times::Exponential,
    Times::Lognormal,
    Times::Bimodal,
];
const LOADS: [f64; 5] = [0.5, 0.8, 1.0, 2.0, 10.0];
const STREAMS: [usize; 4] = [0, 5, 20, 100];
const SECONDS: f64 = 60.0;

/// Which limit is in front of the service.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Rule {
    Adaptive,
    /// So many calls, beside streams.
    Fixed(usize),
    Vegas,
    Gradient2,
    Aimd,
}

/// A cell that was run, and what was possible in it: means over the seeds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Result {
    pub(crate) rule: Rule,
    pub(crate) cell: Cell,
    pub(crate) seeds: u64,
    /// What was served, by what was possible.
    pub(crate) goodput: f64,
    /// The 99th percentile, by that of the best fixed limit.
    pub(crate) p99: f64,
    /// The share of arrivals refused that the best fixed limit would not have.
    pub(crate) shed: f64,
    /// What was served after what befell the service, by what the best limit served then.
    pub(crate) back: f64,
    pub(crate) limit: f64,
}

/// What has to hold.
struct Bounds {
    goodput: f64,
    p99: f64,
    shed: f64,
    back: f64,
}

const BOUNDS: Bounds = Bounds {
    goodput: 0.95,
    p99: 3.0,
    shed: 0.01,
    back: 0.95,
};
/// One minute of one seed is a throw of dice.
const BOUNDS_OF_FEW_SEEDS: Bounds = Bounds {
    goodput: 0.9,
    p99: 6.0,
    shed: 0.05,
    back: 0.85,
};
const FEW: u64 = 3;

impl Result {
    /// Returns what does not hold.
    pub(crate) fn missed(&self) -> Option<&'static str> {
        let bounds = match self.seeds {
            ..FEW => BOUNDS_OF_FEW_SEEDS,
            _ => BOUNDS,
        };
        match self {
            _ if self.goodput.is_nan() || self.goodput < bounds.goodput => Some("goodput"),
            _ if self.p99 > bounds.p99 => Some("p99"),
            _ if self.cell.load < 0.8 && self.shed > bounds.shed => Some("sheds"),
            _ if self.cell.happens.over().is_some() && self.back < bounds.back => Some("back"),
            _ => None,
        }
    }
}

/// How long a call takes on average: so long that no run takes too long, and so short that a small
/// service whose calls vary a lot serves enough of them in a minute to tell.
fn mean(workers: usize, times: Times) -> f64 {
    match (workers, times) {
        (..=4, Times::Lognormal | Times::Bimodal) => 0.005,
        (_, Times::Bimodal) => 0.029_75,
        (..=4, _) => 0.02,
        (5..=99, _) => 0.03,
        _ => 0.05,
    }
}

fn cell(workers: usize, times: Times, load: f64, queued: bool, streams: usize) -> Cell {
    Cell {
        workers,
        times,
        mean: mean(workers, times),
        load,
        queued,
        patience: 1.0,
        streams,
        happens: Happens::Nothing,
        seconds: SECONDS,
        seed: 0,
    }
}

fn all_cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    for workers in WORKERS {
        for times in TIMES {
            for load in LOADS {
                for queued in [true, false] {
                    let with = |streams| cell(workers, times, load, queued, streams);
                    cells.extend(STREAMS.map(with));
                }
            }
        }
    }
    cells
}

/// Two cells for each service, so that every two values of load, mode and streams meet.
fn sample() -> Vec<Cell> {
    let mut cells = Vec::new();
    for (i, (workers, times)) in WORKERS
        .into_iter()
        .flat_map(|workers| TIMES.map(|times| (workers, times)))
        .enumerate()
    {
        for half in [0, 1] {
            let load = LOADS[(i + i / 5 + 2 * half) % LOADS.len()];
            let streams = STREAMS[(i + i / 4 + half) % STREAMS.len()];
            cells.push(cell(workers, times, load, (i + half) % 2 == 0, streams));
        }
    }
    cells
}

/// What befalls services, in front of some of them.
fn troubles() -> Vec<Cell> {
    let mut cells = Vec::new();
    for workers in [1, 4, 32] {
        for times in [Times::Constant, Times::Exponential] {
            for (happens, seconds) in [
                (Happens::Pause(20.0, 1.0), 40.0),
                (Happens::Slow(20.0, 60.0, 3.0), 100.0),
                (Happens::Workers(20.0, 20.0, 0.5), 60.0),
                (Happens::Workers(20.0, 20.0, 3.0), 60.0),
            ] {
                let cell = cell(workers, times, 2.0, workers != 4, 0);
                cells.push(Cell {
                    happens,
                    seconds,
                    ..cell
                });
            }
        }
    }
    cells
}

/// Runs the grid: whole, a sample of it, or next to nothing.
pub(crate) fn run(length: Length, seeds: Option<u64>) -> Vec<Result> {
    let (cells, usual, rivals) = match length {
        Length::Full => ([all_cells(), troubles()].concat(), 5, true),
        Length::Quick => ([sample(), troubles()].concat(), 1, false),
        Length::Smoke => (sample().into_iter().take(4).collect(), 1, false),
    };
    let seeds = seeds.unwrap_or(usual);
    let adaptive = cells.iter().map(|cell| (Rule::Adaptive, *cell, seeds));
    let mut wanted: Vec<_> = adaptive.collect();
    if rivals {
        for cell in cells.iter().filter(|cell| cell.streams == 0) {
            let root = (cell.workers as f64).sqrt().ceil() as usize;
            let fixed = Rule::Fixed(cell.workers + root);
            let others = [fixed, Rule::Vegas, Rule::Gradient2, Rule::Aimd];
            wanted.extend(others.map(|rule| (rule, *cell, 1)));
        }
    }
    let mut jobs = Vec::new();
    for (rule, cell, seeds) in &wanted {
        for seed in 1..=*seeds {
            jobs.push((*rule, Cell { seed, ..*cell }));
            let alone = Cell {
                seed,
                streams: 0,
                ..*cell
            };
            jobs.extend(fixed(cell.workers).map(|rule| (rule, alone)));
        }
    }
    let ran = run_all(jobs);
    wanted
        .into_iter()
        .map(|(rule, cell, seeds)| result(&ran, rule, cell, seeds))
        .collect()
}

/// The limits that who knows the service may choose from.
fn fixed(workers: usize) -> [Rule; 4] {
    let c = workers as f64;
    [c, c + c.sqrt(), c + 2.0 * c.sqrt() + 2.0, 1.5 * c + 4.0]
        .map(|n| Rule::Fixed(n.ceil() as usize))
}

type Ran = HashMap<String, Outcomes>;

fn key(rule: Rule, cell: &Cell) -> String {
    format!("{rule:?} {cell:?}")
}

fn result(ran: &Ran, rule: Rule, cell: Cell, seeds: u64) -> Result {
    let mut sum = Result {
        rule,
        cell,
        seeds,
        goodput: 0.0,
        p99: 0.0,
        shed: 0.0,
        back: 0.0,
        limit: 0.0,
    };
    let share = |part: u64, of: u64| part as f64 / of.max(1) as f64;
    for seed in 1..=seeds {
        let get = |rule, cell| ran.get(&key(rule, &cell)).copied().unwrap_or_default();
        let ours = get(rule, Cell { seed, ..cell });
        let alone = Cell {
            seed,
            streams: 0,
            ..cell
        };
        let all = fixed(cell.workers).map(|rule| get(rule, alone));
        let most = all
            .iter()
            .map(|one| share(one.served, one.offered))
            .fold(0.0, f64::max);
        let good = all
            .iter()
            .filter(|one| share(one.served, one.offered) >= 0.98 * most);
        let Some(best) = good.min_by(|a, b| a.p99.total_cmp(&b.p99)) else {
            continue;
        };
        let n = seeds as f64;
        sum.goodput += share(ours.served, ours.offered) / share(best.served, best.offered) / n;
        sum.p99 += ours.p99 / best.p99 / n;
        sum.shed += (share(ours.shed, ours.offered) - share(best.shed, best.offered)) / n;
        sum.back += share(ours.back, best.back) / n;
        sum.limit += ours.limit as f64 / n;
    }
    sum
}

fn shed(rule: Rule, streams: usize) -> LoadShed {
    let builder = LoadShed::builder("grid");
    let builder = match rule {
        Rule::Adaptive => builder.limit(Adaptive::new()),
        Rule::Fixed(limit) => builder.fixed(limit + streams),
        Rule::Vegas => builder.limit(Vegas::new()),
        Rule::Gradient2 => builder.limit(Gradient2::new()),
        Rule::Aimd => builder.limit(Aimd::new()),
    };
    builder.build().expect("valid settings")
}

/// Two at a time, each of them once.
fn run_all(mut jobs: Vec<(Rule, Cell)>) -> Ran {
    let mut seen = std::collections::HashSet::new();
    jobs.retain(|(rule, cell)| seen.insert(key(*rule, cell)));
    let cost = |cell: &Cell| cell.load * cell.workers as f64 / cell.mean * cell.seconds;
    // The long ones first, so that none is left over at the end.
    jobs.sort_by(|a, b| cost(&b.1).total_cmp(&cost(&a.1)));
    let (next, all) = (AtomicUsize::new(0), Mutex::new(Ran::new()));
    let begun = Instant::now();
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Relaxed);
                    let Some((rule, cell)) = jobs.get(index) else {
                        return;
                    };
                    let outcomes = World::new(*cell, shed(*rule, cell.streams)).run();
                    if index.is_multiple_of(100) {
                        let (time, of) = (begun.elapsed().as_secs(), jobs.len());
                        eprintln!("{time:>4} s, grid: {index} of {of}");
                    }
                    let mut all = all.lock().expect("no panics");
                    all.insert(key(*rule, cell), outcomes);
                }
            });
        }
    });
    all.into_inner().expect("no panics")
}
