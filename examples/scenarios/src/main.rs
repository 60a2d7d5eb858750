//! Real faults under real load: what becomes of the example services, measured.
//!
//! `cargo run --release -p scenarios -- all --report scenarios.html`; see the README beside
//! this file.
// Times are measured here, not decided by.
#![allow(clippy::disallowed_methods)]

mod chart;
mod client;
mod data_service;
mod figures;
mod load;
mod process;
mod proxy;
mod report;
mod stage;
mod story;
mod tasks;

use example_support::servers;
use std::{env, fs, process::ExitCode, time::Instant};

const USAGE: &str = "scenarios data-service|tasks|all [--quick] [--report FILE.html]";

/// What is asked for.
struct Args {
    names: Vec<&'static str>,
    quick: bool,
    report: Option<String>,
}

impl Args {
    fn parse(mut given: impl Iterator<Item = String>) -> Option<Self> {
        let mut args = Self {
            names: Vec::new(),
            quick: false,
            report: None,
        };
        while let Some(word) = given.next() {
            match word.as_str() {
                "data-service" => args.names.push("data-service"),
                "tasks" => args.names.push("tasks"),
                "all" => args.names.extend(["data-service", "tasks"]),
                "--quick" => args.quick = true,
                "--report" => args.report = Some(given.next()?),
                _ => return None,
            }
        }
        (!args.names.is_empty()).then_some(args)
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let Some(args) = Args::parse(env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let machine = report::machine();
    for line in &machine {
        println!("{line}");
    }
    let mut stories = Vec::new();
    for name in args.names {
        let begun = Instant::now();
        let story = match name {
            "tasks" => tasks::run(args.quick).await,
            _ => data_service::run(args.quick).await,
        };
        match story {
            Ok(story) => {
                print!("{}", story.text());
                println!("({:.0} s)", begun.elapsed().as_secs_f64());
                stories.push(story);
            }
            Err(error) => {
                eprintln!("{name}: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    if let Some(file) = args.report {
        let given = env::args().skip(1).collect::<Vec<_>>().join(" ");
        let command = format!("cargo run --release -p scenarios -- {given}");
        if let Err(error) = fs::write(&file, report::html(&command, &machine, &stories)) {
            eprintln!("cannot write {file}: {error}");
            return ExitCode::FAILURE;
        }
        println!("written to {file}");
    }
    if stories.iter().all(story::Story::is_kept) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
