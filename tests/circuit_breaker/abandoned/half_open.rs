//! Probes whose callers leave.

use super::simulation::{Course, Dice, Fate, NEVER, run};
use buttress::CircuitBreaker;

/// Ten callers a second, one probe at a time, open for 5 s and up to 60 s: runs that have opened.
fn runs(fate: fn(f64, &mut Dice) -> Fate, trip_at: f64) -> Vec<Course> {
    (0..10)
        .map(|seed| {
            let breaker = CircuitBreaker::builder("simulated").seed(seed).build();
            // It hangs for long enough to open, with callers who all leave.
            let course = run(
                &breaker.unwrap(),
                (10.0, 600.0, seed + 3),
                false,
                |at, dice| match at >= trip_at && at < trip_at + 20.0 {
                    true => Fate {
                        service: NEVER,
                        patience: 2.0,
                    },
                    false => fate(at, dice),
                },
            );
            assert!(course.opened.is_some(), "run {seed}");
            course
        })
        .collect()
}

#[test]
fn a_probe_whose_caller_leaves_hands_its_place_on() {
    // 300 ms is too early for a service of 2 s to say anything.
    let courses = runs(
        |_, dice| {
            let patience = if dice.chance(0.9) { 0.3 } else { NEVER };
            Fate {
                service: dice.service(0.3).max(0.31),
                patience,
            }
        },
        60.0,
    );
    for course in &courses {
        let waited = course.answered.unwrap() - course.opened.unwrap();
        assert!(waited <= 60.0, "{course:?}");
    }
}

#[test]
fn with_no_success_known_probes_that_are_left_say_nothing() {
    // The service answers after 2 s once it is back, and nine of ten leave after one.
    let courses = runs(
        |_, dice| {
            let patience = if dice.chance(0.9) { 1.0 } else { NEVER };
            Fate {
                service: 2.0,
                patience,
            }
        },
        0.0,
    );
    for course in &courses {
        let waited = course.answered.unwrap() - course.opened.unwrap();
        assert!(waited <= 60.0, "{course:?}");
    }
}

#[test]
fn the_third_late_probe_in_a_row_opens_it_again() {
    // It never comes back: 36 probes of one call at a time in 600 s, and not 541.
    let courses = runs(
        |at, dice| Fate {
            service: if at < 60.0 { dice.service(0.1) } else { NEVER },
            patience: 1.0,
        },
        60.0,
    );
    for course in &courses {
        assert_eq!(course.answered, None);
        let probes = course.let_in_after;
        assert!((20..=50).contains(&probes), "{probes}");
    }
}
