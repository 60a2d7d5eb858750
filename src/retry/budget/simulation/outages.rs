//! Overload, stalls, and the table of fleets in the docs of `Budget`. The ranges are the noise of a
//! seed.

use super::{MS, SECOND, Second, World, amplification, sum};
use crate::retry::Budget;

/// Returns the goodput, as a share of the capacity, and the amplification at so many times of it.
fn overload(times: f64, budget: fn() -> Budget, seed: u64) -> (f64, f64) {
    let world = World {
        clients: 100,
        calls_per_second: 1_000.0 * times,
        workers: 10,
        work: 10 * MS,
        queue: 20,
        refusal: 0.01,
        stall: 0..0,
        until: 6 * SECOND,
        budget,
        seed,
    };
    let seconds = world.run();
    let steady = &seconds[2..6];
    (sum(steady, |s| s.good) / 4_000.0, amplification(steady))
}

/// A server that does no work for a time, while its queue of two seconds fills; it neither sheds
/// nor drops work that nobody waits for.
#[derive(Clone, Copy)]
struct Stall {
    clients: u32,
    calls_per_minute: f64,
    load: f64,
    seconds: usize,
    /// All is well again when so many seconds have such a share of successes.
    well: (usize, f64),
    /// How long that is waited for.
    patience: usize,
    budget: fn() -> Budget,
    seed: u64,
}

/// A row of the table of fleets.
const FLEET: Stall = Stall {
    clients: 1_000,
    calls_per_minute: 1.0,
    load: 0.5,
    seconds: 10,
    well: (10, 0.97),
    patience: 300,
    budget: Budget::new,
    seed: 1,
};

impl Stall {
    /// Returns the amplification during the stall, and the seconds from its end until
    /// all is well again.
    fn run(self) -> (f64, Option<usize>) {
        const BEGINS: usize = 5;
        let calls_per_second = f64::from(self.clients) * self.calls_per_minute / 60.0;
        let capacity = calls_per_second / self.load;
        let ends = BEGINS + self.seconds;
        let world = World {
            clients: self.clients,
            calls_per_second,
            workers: 1,
            work: (SECOND as f64 / capacity) as u64,
            queue: (2.0 * capacity) as usize,
            refusal: 0.0,
            stall: BEGINS as u64 * SECOND..ends as u64 * SECOND,
            until: (ends + self.patience) as u64 * SECOND,
            budget: self.budget,
            seed: self.seed,
        };
        let (length, share) = self.well;
        let is_well = |s: &[Second]| sum(s, |s| s.successes) >= share * sum(s, |s| s.calls);
        let last_is_well = |passed: &[Second]| {
            let last = passed.len().checked_sub(length);
            last.is_some_and(|last| last >= ends && is_well(&passed[last..]))
        };
        let seconds = world.run_until(last_is_well);
        // Of a short one all of it; of a long one what it has come to.
        let last = if self.seconds > 10 {
            self.seconds / 5
        } else {
            self.seconds
        };
        let recovery = seconds[ends..].windows(length).position(is_well);
        (amplification(&seconds[ends - last..ends]), recovery)
    }
}

fn without_gate() -> Budget {
    Budget::builder().stop_after(u32::MAX).build().unwrap()
}

#[test]
fn a_full_service_gets_a_tenth_more_calls_and_not_three_times_as_many() {
    for seed in 1..3 {
        let (goodput, amplification) = overload(2.0, Budget::new, seed);
        assert!((0.975..=1.0).contains(&goodput), "{goodput}");
        assert!((1.08..1.12).contains(&amplification), "{amplification}");
        let (goodput, amplification) = overload(10.0, Budget::new, seed);
        assert!((0.895..0.92).contains(&goodput), "{goodput}");
        assert!((1.0..1.05).contains(&amplification), "{amplification}");
    }
    // What it is chosen against: as many retries as there are failures.
    let (goodput, amplification) = overload(2.0, Budget::unlimited, 1);
    assert!(goodput < 0.97 && amplification > 2.3, "{amplification}");
    let (goodput, _) = overload(10.0, Budget::unlimited, 1);
    assert!(goodput < 0.75, "{goodput}");
}

#[test]
fn a_service_that_stalled_is_well_again_as_soon_as_its_queue_allows() {
    let stall = Stall {
        clients: 100,
        well: (5, 0.99),
        patience: 65,
        ..FLEET
    };
    for seed in 1..3 {
        for (load, seconds) in [(0.5, 3..=4), (0.7, 5..=6), (0.9, 10..=24)] {
            let calls_per_minute = 600.0 * load;
            let stall = Stall {
                calls_per_minute,
                load,
                seed,
                ..stall
            };
            let (amplification, recovery) = stall.run();
            assert!(
                (1.05..1.35).contains(&amplification),
                "{load} {amplification}"
            );
            assert!(
                recovery.is_some_and(|r| seconds.contains(&r)),
                "{load} {recovery:?}"
            );
        }
    }
    // What keeps it down for good: free retries without the gate, or without end.
    for (load, budget) in [
        (0.9, without_gate as fn() -> Budget),
        (0.5, Budget::unlimited),
    ] {
        let calls_per_minute = 600.0 * load;
        let stall = Stall {
            calls_per_minute,
            load,
            budget,
            ..stall
        };
        assert_eq!(stall.run().1, None, "{load}");
    }
}

/// Rows of the table in the docs of `Budget`: calls a minute, and for each load the amplification
/// during an outage of 10 s and the seconds until all is well again, within the noise of a seed.
#[test]
fn fleets_of_rare_callers_recover_from_an_outage() {
    for seed in 1..3 {
        for (calls_per_minute, amplifications, loads) in [
            (1.0, 2.5..3.2, [(0.5, 50..=100), (0.7, 110..=200)]),
            (6.0, 2.4..3.0, [(0.5, 10..=24), (0.7, 20..=40)]),
        ] {
            for (load, seconds) in loads {
                let fleet = Stall {
                    calls_per_minute,
                    load,
                    seed,
                    ..FLEET
                };
                let (amplification, recovery) = fleet.run();
                let seen = format!("{calls_per_minute} {load}: {amplification} {recovery:?}");
                assert!(amplifications.contains(&amplification), "{seen}");
                assert!(recovery.is_some_and(|r| seconds.contains(&r)), "{seen}");
            }
        }
    }
    let many = Stall {
        clients: 10_000,
        ..FLEET
    };
    assert!(many.run().1.is_some_and(|r| (70..=150).contains(&r)));
    // Near its capacity it takes longer, how long is noise; and a long outage is well known when it
    // is over.
    let full = Stall {
        load: 0.9,
        patience: 900,
        ..FLEET
    };
    assert!(full.run().1.is_some());
    let long = Stall {
        load: 0.7,
        seconds: 300,
        ..FLEET
    };
    let (amplification, recovery) = long.run();
    assert!((1.0..1.2).contains(&amplification), "{amplification}");
    assert!(recovery.is_some_and(|seconds| seconds < 15), "{recovery:?}");
}

#[test]
fn fleets_of_frequent_callers_recover_from_an_outage() {
    for (load, seconds) in [(0.5, 3..=4), (0.7, 4..=6), (0.9, 12..=18)] {
        let calls_per_minute = 60.0;
        let fleet = Stall {
            calls_per_minute,
            load,
            patience: 40,
            ..FLEET
        };
        let (amplification, recovery) = fleet.run();
        assert!(
            (1.3..1.7).contains(&amplification),
            "{load} {amplification}"
        );
        assert!(
            recovery.is_some_and(|r| seconds.contains(&r)),
            "{load} {recovery:?}"
        );
    }
}

#[test]
#[ignore = "takes half a minute; as many clients as there are in the docs"]
fn a_large_fleet_of_frequent_callers_recovers_like_a_small_one() {
    for (load, seconds) in [(0.5, 3..=4), (0.7, 4..=6), (0.9, 12..=18)] {
        let fleet = Stall {
            clients: 10_000,
            calls_per_minute: 60.0,
            load,
            patience: 40,
            ..FLEET
        };
        let recovery = fleet.run().1;
        assert!(
            recovery.is_some_and(|r| seconds.contains(&r)),
            "{load} {recovery:?}"
        );
    }
}

#[test]
fn without_the_gate_fleets_stay_down_for_good() {
    for (calls_per_minute, load, patience) in [
        (1.0, 0.5, 900),
        (1.0, 0.7, 900),
        (1.0, 0.9, 900),
        (6.0, 0.5, 300),
        (6.0, 0.7, 300),
        (6.0, 0.9, 300),
        (60.0, 0.7, 60),
        (60.0, 0.9, 60),
    ] {
        let budget = without_gate;
        let fleet = Stall {
            calls_per_minute,
            load,
            patience,
            budget,
            ..FLEET
        };
        assert_eq!(fleet.run().1, None, "{calls_per_minute} {load}");
    }
    let half_full = Stall {
        calls_per_minute: 60.0,
        budget: without_gate,
        ..FLEET
    };
    let recovery = half_full.run().1;
    assert!(
        recovery.is_some_and(|r| (25..=60).contains(&r)),
        "{recovery:?}"
    );
}

#[test]
fn near_its_capacity_and_in_large_fleets_it_takes_longer_but_not_for_ever() {
    let near = Stall {
        load: 0.9,
        patience: 900,
        ..FLEET
    };
    for (clients, calls_per_minute, load, seconds) in [
        (1_000, 1.0, 0.9, 150..=500),
        (1_000, 6.0, 0.9, 40..=110),
        (10_000, 1.0, 0.7, 120..=270),
        (10_000, 1.0, 0.9, 150..=500),
    ] {
        let fleet = Stall {
            clients,
            calls_per_minute,
            load,
            ..near
        };
        let recovery = fleet.run().1;
        assert!(
            recovery.is_some_and(|r| seconds.contains(&r)),
            "{clients} {calls_per_minute} {load}: {recovery:?}"
        );
    }
}

#[test]
fn the_other_values_of_the_settings_cost_what_their_docs_say() {
    fn two_free() -> Budget {
        Budget::builder().free_per_second(2.0).build().unwrap()
    }
    fn three_lost() -> Budget {
        Budget::builder().stop_after(3).build().unwrap()
    }
    for seed in 1..3 {
        let (_, amplification) = overload(2.0, two_free, seed);
        assert!((1.14..1.17).contains(&amplification), "{amplification}");
        for (calls_per_minute, load) in [(1.0, 0.5), (1.0, 0.7), (6.0, 0.5), (6.0, 0.7)] {
            let fleet = Stall {
                calls_per_minute,
                load,
                seed,
                ..FLEET
            };
            let (_, two) = fleet.run();
            let budget = three_lost;
            let (_, three) = Stall { budget, ..fleet }.run();
            let times = three.unwrap() as f64 / two.unwrap() as f64;
            assert!((1.2..2.5).contains(&times), "{calls_per_minute} {load}");
        }
    }
}
