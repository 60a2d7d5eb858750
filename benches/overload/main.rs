//! What still gets done under overload: goodput of whole systems, in virtual time.
//!
//! `cargo bench --bench overload [-- [--quick | --smoke] [--scenario NAME] [--stack NAME] [--seeds N] [--svg] [--grid]]`
//!
//! 100 clients, whose users do not wait for each other, call through 10 relays one backend of 10
//! workers. Its service times are lognormal (mean 10 ms, CV 1), each hop takes 0.5 ms, and refusing
//! a request costs a busy backend 0.1 ms. An attempt may take 500 ms, a user waits for 2 s. What is
//! between them are real services made of real layers; only time is virtual, and repeatable by seed.
//!
//! Then every limit is put in front of every kind of service: see `grid`. `--grid` runs nothing else.
//!
//! Ours are run with 20 seeds wherever there is a gate, the others with 2: about 20 minutes of
//! processor time, on two threads. Two things are shorter than they could be, because the figures
//! agree: the phases with 200 workers, and all phases of the others.
#![allow(missing_docs)]
#![allow(clippy::expect_used)]
// It tells how long it has been running.
#![allow(clippy::disallowed_methods)]

mod backend;
mod clock;
mod dice;
mod gates;
mod grid;
mod measure;
mod net;
mod peers;
mod record;
mod report;
mod scenario;
mod simulate;
mod stacks;
mod svg;

use backend::WORK;
use measure::Row;
use record::Second;
use scenario::{Length, Scenario};
use stacks::Stack;
use std::{
    env,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::Instant,
};

struct Options {
    length: Length,
    scenario: Option<String>,
    stack: Option<String>,
    seeds: Option<u64>,
    svg: bool,
    grid: bool,
}

impl Options {
    fn is_everything(&self) -> bool {
        self.length == Length::Full && self.scenario.is_none() && self.stack.is_none()
    }

    fn wants(&self, scenario: &str, stack: &str) -> bool {
        let same = |name: &String| name.eq_ignore_ascii_case(scenario);
        self.scenario.as_ref().is_none_or(same)
            && self
                .stack
                .as_ref()
                .is_none_or(|wanted| match wanted.strip_suffix('*') {
                    Some(beginning) => stack.starts_with(beginning),
                    None => stack == wanted,
                })
    }
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(problem) => {
            let known = "--quick, --smoke, --scenario, --stack, --seeds, --svg and --grid";
            eprintln!("{problem}; known are {known}");
            return ExitCode::from(2);
        }
    };
    let mut files = Vec::new();
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut all_met = true;
    if options.grid || options.scenario.is_none() && options.stack.is_none() {
        let results = grid::run(options.length, options.seeds);
        let (text, hold) = grid::report(&results);
        print!("{text}");
        all_met &= hold;
        if options.length == Length::Full {
            files.push((folder.join("docs/grid.svg"), grid::draw(&results)));
        }
    }
    if !options.grid {
        all_met &= scenarios(&options, &folder, &mut files);
    }
    for (file, text) in files {
        if let Err(error) = report::write(&text, &file) {
            eprintln!("cannot write {}: {error}", file.display());
            return ExitCode::FAILURE;
        }
    }
    // Few seeds or short phases prove nothing.
    match all_met || !options.is_everything() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Runs the systems, and returns whether all gates are met.
fn scenarios(options: &Options, folder: &Path, files: &mut Vec<(PathBuf, String)>) -> bool {
    // As long as the process, so that threads and services need not share it by reference.
    let scenarios = |length| -> &'static [Scenario] { Vec::leak(scenario::scenarios(length)) };
    let (scenarios, short) = (scenarios(options.length), scenarios(Length::Smoke));
    let jobs = jobs(scenarios, short, options);
    let done = run(&jobs);
    let rows: Vec<Row> = done.iter().flat_map(|done| done.rows()).collect();
    let (gates, met) = gates::gates(&rows);
    print!("{}\n{gates}", report::table(&rows));

    files.push((folder.join("target/bench/overload.tsv"), report::tsv(&rows)));
    if options.svg || options.is_everything() {
        files.push((folder.join("docs/overload.svg"), picture(short)));
    }
    met
}

/// The steps, for some stacks.
fn picture(scenarios: &'static [Scenario]) -> String {
    let Some(scenario) = scenarios.iter().find(|scenario| scenario.name == "S1") else {
        return String::new();
    };
    let shown = [
        (Stack::Full, "this crate"),
        (
            Stack::NaiveBreakerCountsOverload,
            "breaker that counts refusals",
        ),
        (Stack::NaiveRetry, "retries with jitter"),
        (Stack::TowerResilience, "tower-resilience"),
    ];
    let jobs = shown.map(|(stack, _)| Job {
        scenario,
        stack,
        seed: 1,
    });
    let lines: Vec<_> = run(&jobs)
        .into_iter()
        .zip(shown)
        .map(|(done, (_, name))| (name, done.seconds))
        .collect();
    svg::draw(scenario, scenario.workers as f64 / WORK, &lines)
}

fn options() -> Result<Options, String> {
    let mut options = Options {
        length: Length::Full,
        scenario: None,
        stack: None,
        seeds: None,
        svg: false,
        grid: false,
    };
    let mut args = env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        match &*arg {
            "--quick" => options.length = Length::Quick,
            "--smoke" => options.length = Length::Smoke,
            "--scenario" => options.scenario = Some(value()?),
            "--stack" => options.stack = Some(value()?),
            "--seeds" => {
                let seeds = value()?;
                options.seeds = Some(seeds.parse().map_err(|_| format!("{seeds} is no number"))?);
            }
            "--svg" => options.svg = true,
            "--grid" => options.grid = true,
            // Cargo's own.
            "--bench" => {}
            other => return Err(format!("unknown argument {other}")),
        }
    }
    Ok(options)
}

#[derive(Clone, Copy)]
struct Job {
    scenario: &'static Scenario,
    stack: Stack,
    seed: u64,
}

/// The rivals collapse as soon in short phases as in long ones, and simulating a collapse is slow.
fn jobs(scenarios: &'static [Scenario], short: &'static [Scenario], options: &Options) -> Vec<Job> {
    let mut jobs = Vec::new();
    for (scenario, short) in scenarios.iter().zip(short) {
        for stack in Stack::ALL {
            if !options.wants(scenario.name, &stack.name()) {
                continue;
            }
            let usual = seeds(scenario.name, stack);
            let asked_for = options.scenario.is_some() && options.stack.is_some();
            let seeds = match (options.length, options.seeds) {
                (_, Some(seeds)) if usual > 0 || asked_for => seeds,
                (Length::Full, _) => usual,
                (Length::Quick, _) => usual.min(3),
                (Length::Smoke, _) => usual.min(1),
            };
            let scenario = if stack.is_ours() { scenario } else { short };
            jobs.extend((1..=seeds).map(|seed| Job {
                scenario,
                stack,
                seed,
            }));
        }
    }
    jobs
}

/// How often each is run: ours wherever there is a gate as often as the gates want it.
fn seeds(scenario: &str, stack: Stack) -> u64 {
    let steps_and_trouble = matches!(scenario, "S1" | "S2a" | "S2b" | "S3");
    let gated = match stack {
        Stack::Full => steps_and_trouble || matches!(scenario, "S4" | "S6"),
        Stack::Server => steps_and_trouble,
        // Classes are for a limit that is known.
        Stack::Adaptive(1) => scenario != "S6",
        Stack::Adaptive(_) => steps_and_trouble || scenario == "S7",
        _ => return if steps_and_trouble { 2 } else { 0 },
    };
    if gated { 20 } else { 0 }
}

struct Done {
    job: Job,
    seconds: Vec<Second>,
}

impl Done {
    fn rows(&self) -> Vec<Row> {
        let Job {
            scenario,
            stack,
            seed,
        } = self.job;
        measure::rows(scenario, &stack.name(), seed, &self.seconds)
    }
}

/// Two at a time.
fn run(jobs: &[Job]) -> Vec<Done> {
    let next = AtomicUsize::new(0);
    let all = Mutex::new(Vec::new());
    let begun = Instant::now();
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Relaxed);
                    let Some(&job) = jobs.get(index) else { return };
                    let seconds = simulate::simulate(job.scenario, job.stack, job.seed);
                    let (name, stack, seed) = (job.scenario.name, job.stack.name(), job.seed);
                    let (time, of) = (begun.elapsed().as_secs(), jobs.len());
                    eprintln!("{time:>4} s, {} of {of}: {name} {stack} {seed}", index + 1);
                    all.lock()
                        .expect("no panics")
                        .push((index, Done { job, seconds }));
                }
            });
        }
    });
    let mut all = all.into_inner().expect("no panics");
    all.sort_by_key(|(index, _)| *index);
    all.into_iter().map(|(_, done)| done).collect()
}
