//! The gates of the adaptive limit, in a simulation that hides the service's parallelism.
//!
//! A few seeds run in every test run. All of them, with the table:
//! `LIMIT_SEEDS=20 cargo test --release --features load-shed --test limits -- --ignored --nocapture`

use super::{
    scenarios::{Course, Table, phase, served},
    sim::Service::{self, Bimodal, Lognormal},
};
use buttress::load_shed::limit::Adaptive;

const STEPS: [(&str, Service, usize); 6] = [
    ("CV 1", Lognormal(1.0), 10),
    ("CV 2", Lognormal(2.0), 10),
    ("CV 0.3", Lognormal(0.3), 10),
    ("bimodal", Bimodal, 10),
    ("1 worker", Lognormal(1.0), 1),
    ("200 workers", Lognormal(1.0), 200),
];

fn starting_at(initial: usize) -> impl Fn() -> Adaptive {
    move || Adaptive::new().starting_at(initial).unwrap()
}

fn everything(initial: usize, seeds: std::ops::RangeInclusive<u64>, by_arrivals: bool) -> Table {
    let mut table = Table::default();
    let new = &starting_at(initial);
    for seed in seeds {
        let course = Course {
            new,
            seed,
            by_arrivals,
        };
        for (name, service, workers) in STEPS {
            course.steps(name, service, workers, &mut table);
        }
        course.changes(&mut table);
        course.slow(&mut table);
        course.soak(&mut table);
        course.without_throttle(&mut table);
    }
    table
}

#[test]
#[ignore = "takes minutes; prints the table"]
fn every_scenario_holds_with_many_seeds() {
    let seeds = std::env::var("LIMIT_SEEDS")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or(5);
    for (initial, by_arrivals) in [(1, false), (20, false), (20, true)] {
        let table = everything(initial, 101..=100 + seeds, by_arrivals);
        table.print(&format!("from {initial}, by arrivals {by_arrivals}"));
        hold(&table, initial, 0.0);
        assert!(table.min("200 workers 2x goodput") >= 0.97);
        assert!(table.min("200 workers 10x goodput") >= 0.97);
        assert!(table.min("workers change") >= 0.93);
        assert!(table.min("slow goodput") >= 0.92);
        assert!(table.mean("no throttle 10x goodput") >= 0.89);
        assert!(table.max("soak p99 drift") <= 0.10);
        assert!(table.max("soak limit drift") <= 0.15);
    }
}

/// The gates that the benchmark sets for an unknown parallelism.
fn hold(table: &Table, initial: usize, slack: f64) {
    for load in ["2x", "10x"] {
        let goodput = |name: &str| table.mean(&format!("{name} {load} goodput")) + slack;
        assert!(goodput("CV 1") >= 0.95, "{load}: {}", goodput("CV 1"));
        assert!(goodput("CV 2") >= 0.94, "{load}: {}", goodput("CV 2"));
        assert!(goodput("CV 0.3") >= 0.95, "{load}: {}", goodput("CV 0.3"));
        assert!(goodput("bimodal") >= 0.94, "{load}: {}", goodput("bimodal"));
        let worst = table.min(&format!("bimodal {load} goodput"));
        assert!(worst >= 0.90, "{load}: {worst}");
        assert!(table.max(&format!("CV 1 {load} p99")) <= 90.0);
        assert!(table.mean(&format!("1 worker {load} p99")) <= 200.0);
    }
    let first = match initial {
        1 => 90.0,
        _ => 260.0,
    };
    assert!(table.max("CV 1 2x p99, first 6 s") <= first);
    for name in ["CV 1", "CV 2", "CV 0.3"] {
        let (first, again) = ("sheds at 0.5x", "sheds at 0.5x again");
        // One in ten thousand where single calls take fifty times the mean.
        let most = if name == "CV 2" { 5.0 } else { 0.0 };
        assert!(table.mean(&format!("{name} {first}")) <= most, "{name}");
        assert_eq!(table.max(&format!("{name} {again}")), 0.0, "{name}");
    }
}

fn hold_with_a_few_seeds(initial: usize) {
    let (mut table, new) = (Table::default(), &starting_at(initial));
    for (name, service, workers) in STEPS.into_iter().filter(|(.., workers)| *workers <= 10) {
        let course = Course {
            new,
            seed: 1,
            by_arrivals: true,
        };
        course.steps(name, service, workers, &mut table);
    }
    // One seed is off the mean by as much.
    hold(&table, initial, 0.02);
}

#[test]
fn it_holds_goodput_and_latency_without_knowing_the_parallelism_from_1() {
    hold_with_a_few_seeds(1);
}

#[test]
fn it_holds_goodput_and_latency_without_knowing_the_parallelism_from_20() {
    hold_with_a_few_seeds(20);
}

#[test]
fn it_finds_the_parallelism_of_two_hundred_workers() {
    let course = Course {
        new: &starting_at(1),
        seed: 1,
        by_arrivals: true,
    };
    let seen = course.run(Lognormal(1.0), true, &[phase(8.0, 2.0, 200)]);
    assert!(
        served(&seen[4..]) >= 0.97 * 20_000.0,
        "{}",
        served(&seen[4..])
    );
}

#[test]
fn it_follows_workers_that_come_and_go() {
    let (mut table, new) = (Table::default(), &starting_at(20));
    for seed in 1..=2 {
        Course {
            new,
            seed,
            by_arrivals: true,
        }
        .changes(&mut table);
    }
    assert!(table.min("workers change") >= 0.93, "{table:?}");
}

#[test]
fn it_follows_a_service_that_becomes_five_times_slower_and_well_again() {
    let (mut table, new) = (Table::default(), &starting_at(20));
    for seed in 1..=2 {
        Course {
            new,
            seed,
            by_arrivals: true,
        }
        .slow(&mut table);
    }
    assert!(table.min("slow goodput") >= 0.92, "{table:?}");
    assert!(table.max("slow p99") <= 330.0, "{table:?}");
    assert!(table.min("slow, after") >= 0.97, "{table:?}");
}

#[test]
fn it_does_not_drift_in_ten_minutes() {
    let (mut table, new) = (Table::default(), &starting_at(20));
    Course {
        new,
        seed: 1,
        by_arrivals: true,
    }
    .soak(&mut table);
    assert!(table.mean("soak goodput") >= 0.95, "{table:?}");
    assert!(table.mean("soak p99 drift").abs() <= 0.10, "{table:?}");
    assert!(table.mean("soak limit drift").abs() <= 0.15, "{table:?}");
}
