//! What still gets done under overload: goodput of whole systems, in virtual time.
//!
//! `cargo bench --bench overload [-- [--quick | --smoke] [--scenario NAME] [--stack NAME] [--seeds N]]`
//!
//! 100 clients, whose users do not wait for each other, call through 10 relays one backend of 10
//! workers. Its service times are lognormal (mean 10 ms, CV 1), each hop takes 0.5 ms, and refusing
//! a request costs a busy backend 0.1 ms. An attempt may take 500 ms, a user waits for 2 s. What is
//! between them are real services made of real layers; only time is virtual, and repeatable by seed.
#![allow(missing_docs)]
#![allow(clippy::expect_used)]

mod backend;
mod clock;
mod dice;
mod measure;
mod net;
mod peers;
mod record;
mod report;
mod scenario;
mod simulate;
mod stacks;

use measure::Row;
use scenario::{Length, Scenario};
use stacks::Stack;
use std::{
    env,
    path::PathBuf,
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
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("{problem}; known are --quick, --smoke, --scenario, --stack and --seeds");
            return ExitCode::from(2);
        }
    };
    // As long as the process, so that threads and services need not share it by reference.
    let scenarios: &'static [Scenario] = Vec::leak(scenario::scenarios(options.length));
    let jobs = jobs(scenarios, &options);
    let rows = run(&jobs);
    print!("{}", report::table(&rows));
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/bench/overload.tsv");
    if let Err(error) = report::write(&report::tsv(&rows), &file) {
        eprintln!("cannot write {}: {error}", file.display());
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn options() -> Result<Options, String> {
    let mut options = Options {
        length: Length::Full,
        scenario: None,
        stack: None,
        seeds: None,
    };
    let mut args = env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} needs a value"));
        match &*arg {
            "--quick" => options.length = Length::Quick,
            "--smoke" => options.length = Length::Smoke,
            "--scenario" => options.scenario = Some(value()?),
            "--stack" => options.stack = Some(value()?),
            "--seeds" => {
                let seeds = value()?;
                options.seeds = Some(seeds.parse().map_err(|_| format!("{seeds} is no number"))?);
            }
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

fn jobs(scenarios: &'static [Scenario], options: &Options) -> Vec<Job> {
    let mut jobs = Vec::new();
    for scenario in scenarios {
        if options
            .scenario
            .as_ref()
            .is_some_and(|name| !name.eq_ignore_ascii_case(scenario.name))
        {
            continue;
        }
        for stack in Stack::ALL {
            // A name, or the beginning of names.
            let name = stack.name();
            let wanted = match &options.stack {
                Some(wanted) => {
                    name == *wanted
                        || wanted
                            .strip_suffix('*')
                            .is_some_and(|begin| name.starts_with(begin))
                }
                None => true,
            };
            if !wanted {
                continue;
            }
            let default = match (options.length, stack.is_ours()) {
                (Length::Full, true) => 20,
                (Length::Quick, true) => 3,
                (Length::Full, false) => 2,
                _ => 1,
            };
            let seeds = options.seeds.unwrap_or(default);
            jobs.extend((1..=seeds).map(|seed| Job {
                scenario,
                stack,
                seed,
            }));
        }
    }
    jobs
}

/// Two at a time.
fn run(jobs: &[Job]) -> Vec<Row> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(job) = jobs.get(next.fetch_add(1, Relaxed)) {
                    let begun = Instant::now();
                    let seconds = simulate::simulate(job.scenario, job.stack, job.seed);
                    let rows = measure::rows(job.scenario, &job.stack.name(), job.seed, &seconds);
                    eprintln!(
                        "{} {} {}: {:.1} s",
                        job.scenario.name,
                        job.stack.name(),
                        job.seed,
                        begun.elapsed().as_secs_f64()
                    );
                    let index = jobs.iter().position(|other| std::ptr::eq(other, job));
                    done.lock().expect("no panics").push((index, rows));
                }
            });
        }
    });
    let mut done = done.into_inner().expect("no panics");
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().flat_map(|(_, rows)| rows).collect()
}
