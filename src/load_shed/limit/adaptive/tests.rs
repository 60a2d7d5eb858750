//! From every state, every constant input leads out.

use super::{super::Latencies, *};

/// A kind of traffic, in front of a service that works on so many calls at once.
#[derive(Clone, Copy, Debug)]
enum Input {
    /// Nothing ends, and calls find no permit.
    NothingEnds,
    /// Nothing comes.
    Silence,
    /// Callers leave before they are answered.
    Lost,
    /// Fewer calls come than the limit allows.
    Idle,
    /// More come than that, and latency grows with the limit above so many at once.
    Busy(f64),
    /// Everything fails at once.
    Fails,
}

const INPUTS: [Input; 8] = [
    Input::NothingEnds,
    Input::Silence,
    Input::Lost,
    Input::Idle,
    Input::Busy(1.0),
    Input::Busy(10.0),
    Input::Busy(300.0),
    Input::Fails,
];

const SECOND: Duration = Duration::from_secs(1);

/// What is seen of it under this limit in one second.
fn window(input: Input, limit: usize, now: Time) -> SampleWindow {
    let n = limit as f64;
    let (ends, in_flight, used) = match input {
        Input::NothingEnds => (0, n, true),
        Input::Silence => (0, 0.0, false),
        Input::Lost => (0, n, true),
        Input::Idle => (100, 1.0, false),
        Input::Busy(_) => (1_000, n, true),
        Input::Fails => (0, n, true),
    };
    let latency = match input {
        Input::Busy(parallelism) => 0.01 * (n / parallelism).max(1.0),
        _ => 0.01,
    };
    let mut window = SampleWindow::starting(now, limit);
    window.ended = now.after(SECOND);
    (window.completions, window.used) = (ends, used);
    window.saturated_share = if used { 1.0 } else { 0.0 };
    window.in_flight_integral = match ends {
        0 => in_flight,
        ends => ends as f64 * latency,
    };
    window.latency_sum = ends as f64 * latency;
    window.peak_in_flight = in_flight as usize;
    if ends > 0 {
        window.within = Latencies {
            count: ends,
            mean: latency,
            trimmed: latency,
            variation: 0.0,
        };
    }
    if used {
        window.at_limit = window.within;
    }
    match input {
        Input::Lost => window.lost = 100,
        Input::Fails => window.failures = 1_000,
        _ => {}
    }
    window
}

/// Lets it go on for so many windows, and returns the limits.
fn goes_on(rule: &mut Adaptive, input: Input, windows: usize, now: &mut Time) -> Vec<usize> {
    let mut limits = Vec::new();
    for _ in 0..windows {
        let seen = window(input, rule.limit(), *now);
        *now = now.after(SECOND);
        limits.push(rule.on_window(&seen, *now));
    }
    limits
}

/// Rules in every phase, led there by a few kinds of traffic, one after the other.
fn everywhere(mut with: impl FnMut(Adaptive, Time, &str)) {
    let mut phases = [0; 3];
    for first in INPUTS {
        for second in INPUTS {
            for (a, b) in [
                (0, 1),
                (1, 0),
                (1, 1),
                (2, 1),
                (3, 2),
                (9, 1),
                (9, 4),
                (30, 7),
            ] {
                let (mut rule, mut now) = (Adaptive::new(), Time::from_nanos(1));
                goes_on(&mut rule, first, a, &mut now);
                goes_on(&mut rule, second, b, &mut now);
                phases[match rule.phase {
                    Phase::Watching => 0,
                    Phase::Lowered { .. } => 1,
                    Phase::Raised { .. } => 2,
                }] += 1;
                with(rule, now, &format!("{a} of {first:?}, {b} of {second:?}"));
            }
        }
    }
    assert!(phases.iter().all(|times| *times > 5), "{phases:?}");
}

#[test]
fn a_service_that_answers_gets_its_limit_from_everywhere() {
    everywhere(|rule, now, from| {
        for parallelism in [1.0, 10.0, 300.0] {
            let (mut rule, mut now) = (rule.clone(), now);
            goes_on(&mut rule, Input::Busy(parallelism), 90, &mut now);
            let found = rule.parallelism;
            assert!(
                (0.7 * parallelism..1.5 * parallelism).contains(&found),
                "{found} and not {parallelism}, after {from}"
            );
            assert!(
                rule.n >= parallelism && rule.n < 2.0 * parallelism + 6.0,
                "{rule:?}"
            );
        }
    });
}

#[test]
fn no_try_goes_on_for_ever() {
    everywhere(|rule, now, from| {
        for input in INPUTS {
            let (mut rule, mut now) = (rule.clone(), now);
            let mut windows = 0;
            while windows == 0 || !matches!(rule.phase, Phase::Watching) {
                goes_on(&mut rule, input, 1, &mut now);
                windows += 1;
                assert!(windows < 30, "{:?} of {input:?} after {from}", rule.phase);
            }
        }
    });
}

#[test]
fn what_cannot_be_answered_comes_down_to_one_call_at_a_time() {
    everywhere(|mut rule, mut now, from| {
        goes_on(&mut rule, Input::Lost, 30, &mut now);
        assert_eq!(rule.limit(), 1, "after {from}");
    });
}

#[test]
fn where_nothing_is_wanted_or_nothing_ends_the_limit_does_not_grow() {
    everywhere(|rule, now, from| {
        for input in [Input::Silence, Input::NothingEnds, Input::Idle] {
            let (mut rule, mut now) = (rule.clone(), now);
            // A try that had begun ends first.
            goes_on(&mut rule, input, 2, &mut now);
            let limits = goes_on(&mut rule, input, 20, &mut now);
            assert!(
                limits.windows(2).all(|two| two[1] <= two[0]),
                "{limits:?}: {input:?} after {from}"
            );
        }
    });
}

#[test]
fn bounds_hold_in_every_phase() {
    everywhere(|rule, now, _| {
        let (mut rule, mut now) = (rule.within(5, 50).unwrap_or_default(), now);
        for input in [
            Input::Lost,
            Input::Busy(300.0),
            Input::Busy(1.0),
            Input::Fails,
        ] {
            for limit in goes_on(&mut rule, input, 40, &mut now) {
                assert!((5..=50).contains(&limit), "{limit}");
            }
        }
    });
}
