//! Random histories.

use super::{Config, Model, Phase};
use buttress::{
    Guard, GuardBase, Now, Outcome, Time,
    circuit_breaker::Permit,
    guard::{Admission, End},
};
use proptest::{collection::vec, prelude::*};
use std::time::Duration;

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Start { polled: bool },
    End { which: usize, how: usize, hint: u64 },
    Reset,
    ForceOpen,
    ForceClosed,
    Observe(bool),
}

async fn run(config: Config, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let breaker = config.build();
    let mut model = Model::new(config);
    let mut permits: Vec<Permit> = Vec::new();
    for step in steps {
        let now = Time::now();
        match step {
            Step::Wait(millis) => tokio::time::advance(Duration::from_millis(millis)).await,
            Step::Start { polled } => {
                let expected = model.start(polled, now);
                match breaker.admit(&(), &Now::lazy()) {
                    Admission::Admitted(mut permit) => {
                        prop_assert_eq!(expected, Ok(()));
                        if polled {
                            breaker.on_pending(&mut permit, &Now::lazy());
                        }
                        permits.push(permit);
                    }
                    Admission::Refused(rejected) => prop_assert_eq!(expected, Err(rejected)),
                    Admission::Wait(wait) => match wait {},
                }
            }
            Step::End { which, how, hint } if !permits.is_empty() => {
                let retry_after = (hint > 0).then_some(Duration::from_millis(hint));
                let end = match how {
                    0..3 => End::Done(Outcome::Success),
                    3..6 => End::Done(Outcome::Failure),
                    6 => End::Cancelled,
                    7 => End::Panicked,
                    8 => End::NeverStarted,
                    9 => End::Done(Outcome::Overloaded { retry_after }),
                    10 => End::Done(Outcome::Refused),
                    11 => End::RequestFailed,
                    12 => End::TimedOut,
                    _ => End::Done(Outcome::Ignored),
                };
                let which = which % permits.len();
                model.end(which, end, now);
                breaker.settle(permits.remove(which), end, &Now::lazy());
            }
            Step::End { .. } => {}
            Step::Reset => {
                model.hint = Time::from_nanos(0);
                model.close(Phase::Closed);
                breaker.reset();
            }
            Step::ForceClosed => {
                model.hint = Time::from_nanos(0);
                model.close(Phase::ForcedClosed);
                breaker.force_closed();
            }
            Step::ForceOpen => {
                model.enter(Phase::ForcedOpen);
                breaker.force_open();
            }
            Step::Observe(only) => {
                model.observing = only;
                breaker.observe_only(only);
            }
        }
        model.compare(&breaker, Time::now())?;
    }
    Ok(())
}

fn config() -> impl Strategy<Value = Config> {
    let window = prop_oneof![
        2 => (50..1_500_u64).prop_map(|millis| Ok(Duration::from_millis(millis))),
        1 => (8..20_usize).prop_map(Err),
    ];
    let rate = || proptest::option::of(prop::sample::select(vec![0.2, 0.25, 0.5, 1.0]));
    let probes = (1..6_u32).prop_flat_map(|probes| (Just(probes), 1..=probes));
    let rules = (rate(), proptest::option::of(1..6_u32), rate());
    let rules = rules.prop_filter("no rule", |(a, b, c)| {
        a.is_some() || b.is_some() || c.is_some()
    });
    let rest = (1..9_u32, prop::sample::select(vec![1.0, 1.5, 2.0]), probes);
    (window, rules, rest, prop::bool::weighted(0.2)).prop_map(
        |(window, (failure_rate, consecutive, slow_rate), rest, observe)| Config {
            window,
            failure_rate,
            consecutive,
            slow_rate,
            minimum: rest.0,
            growth: rest.1,
            probes: rest.2.0,
            needed: rest.2.1,
            observe,
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let wait = prop_oneof![
        4 => 0..20_u64,
        3 => prop::sample::select(vec![10, 79, 80, 81, 199, 200, 201, 299, 300, 301, 600, 1_000]),
        1 => 0..5_000_u64,
    ];
    let hint = prop_oneof![2 => Just(0), 1 => 1..2_000_u64];
    prop_oneof![
        6 => wait.prop_map(Step::Wait),
        16 => any::<bool>().prop_map(|polled| Step::Start { polled }),
        16 => (0..50_usize, 0..14_usize, hint)
            .prop_map(|(which, how, hint)| Step::End { which, how, hint }),
        1 => prop_oneof![
            Just(Step::Reset),
            Just(Step::ForceOpen),
            Just(Step::ForceClosed),
            any::<bool>().prop_map(Step::Observe),
        ],
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 250,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_history_looks_like_the_model(config in config(), steps in vec(step(), 1..250)) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(run(config, steps))?;
    }
}

#[test]
fn what_has_left_the_window_when_an_era_begins_looks_like_the_model() {
    // With this window, the first era of a process begins between two and three seconds after it
    // has begun.
    let config = || Config {
        window: Ok(Duration::from_millis(824)),
        failure_rate: Some(0.2),
        consecutive: None,
        slow_rate: None,
        minimum: 3,
        growth: 1.0,
        probes: 1,
        needed: 1,
        observe: false,
    };
    let call = |how| {
        let start = Step::Start { polled: false };
        let (which, hint) = (0, 0);
        [start, Step::End { which, how, hint }]
    };
    for begin in (0..4_000).step_by(10) {
        let mut steps = vec![Step::Wait(begin)];
        steps.extend(call(0));
        steps.push(Step::Wait(817));
        steps.extend(call(0));
        steps.extend(call(3));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(run(config(), steps)).unwrap();
    }
}
