//! Every phase of a circuit with everything that can happen to it, and what builders leave open.

use super::{
    circuit::{Circuit, PendingTransition, ProbeAdmission},
    config::{CircuitBreakerBuilder, Config},
    phase::{CircuitWord, Phase},
    probes::ProbeEnd,
    snapshot::{Mode, Reason, State},
};
use crate::{CircuitBreaker, clock::Time};
use std::time::Duration;

const MILLI: u64 = 1_000_000;
const OPEN: u64 = 300 * MILLI;
const RAMP: u64 = 1_000 * MILLI;
const LEASE: u64 = 200 * MILLI;
const START: Time = Time(1_000 * MILLI);
/// When the dependency has not asked for anything.
const ANY: Time = Time(0);

fn builder() -> CircuitBreakerBuilder {
    CircuitBreaker::builder("t")
        .open_for(Duration::from_nanos(OPEN))
        .open_jitter(0.0)
        .slow_call_duration(Duration::from_millis(80))
        .probe_timeout(Duration::from_nanos(LEASE))
}

fn with_ramp() -> Config {
    builder().ramp(Duration::from_nanos(RAMP)).config()
}

fn later(time: Time, by: u64) -> Time {
    Time(time.0 + by)
}

fn lease(admission: ProbeAdmission) -> u64 {
    match admission {
        ProbeAdmission::Admitted { lease } => lease,
        other => panic!("{other:?}"),
    }
}

/// A circuit with a ramp that has just come to this phase, and the time; in `HalfOpen` without a
/// probe.
fn circuit_in(phase: Phase, cfg: &Config) -> (Circuit, Time) {
    let mut circuit = Circuit::new(cfg);
    let now = match phase {
        Phase::Closed => START,
        Phase::ForcedOpen => {
            let _ = circuit.force_open();
            START
        }
        Phase::ForcedClosed => {
            let _ = circuit.force_closed();
            START
        }
        Phase::Open => {
            let seen = circuit.word();
            let _ = circuit.trip(seen, Reason::FailureRate, ANY, cfg, START);
            START
        }
        Phase::HalfOpen | Phase::Ramp => {
            let (mut open, now) = circuit_in(Phase::Open, cfg);
            let now = later(now, OPEN);
            let (admission, _) = open.begin_probe(false, ANY, cfg, now);
            let probe = (open.word(), lease(admission));
            let end = match phase {
                Phase::Ramp => ProbeEnd::Well,
                _ => ProbeEnd::Nothing,
            };
            let _ = open.end_probe(probe, end, ANY, cfg, now);
            circuit = open;
            now
        }
    };
    assert_eq!(circuit.word().phase(), phase);
    (circuit, now)
}

const PHASES: [Phase; 6] = [
    Phase::Closed,
    Phase::Open,
    Phase::HalfOpen,
    Phase::ForcedOpen,
    Phase::ForcedClosed,
    Phase::Ramp,
];

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Event {
    /// A rule says that it should trip.
    Trip,
    /// A rule says so of calls of an earlier epoch.
    LateTrip,
    /// A call comes before any deadline is over.
    Call,
    /// A call comes after all deadlines.
    LaterCall,
    /// A call comes, is a probe if it can be, and ends.
    CallWell,
    CallUnwell,
    CallSaysNothing,
    /// A probe of an earlier epoch ends.
    LateProbe,
    RampOver,
    FailureInRamp,
    ForceOpen,
    ForceClosed,
    Reset,
    Observe(bool),
}

const EVENTS: [Event; 15] = [
    Event::Trip,
    Event::LateTrip,
    Event::Call,
    Event::LaterCall,
    Event::CallWell,
    Event::CallUnwell,
    Event::CallSaysNothing,
    Event::LateProbe,
    Event::RampOver,
    Event::FailureInRamp,
    Event::ForceOpen,
    Event::ForceClosed,
    Event::Reset,
    Event::Observe(true),
    Event::Observe(false),
];

/// Makes the event happen, and tells what there was to tell.
fn happen(circuit: &mut Circuit, event: Event, cfg: &Config, now: Time) -> PendingTransition {
    let seen = circuit.word();
    // Of the first epoch, in which none of them is any more.
    let early = Circuit::new(cfg).word();
    let early = (seen.epoch() > 0).then_some(early);
    match event {
        Event::Trip => circuit.trip(seen, Reason::FailureRate, ANY, cfg, now),
        Event::LateTrip => early.map_or(PendingTransition::NONE, |early| {
            circuit.trip(early, Reason::FailureRate, ANY, cfg, now)
        }),
        Event::Call => circuit.begin_probe(false, ANY, cfg, now).1,
        Event::LaterCall => circuit.begin_probe(false, ANY, cfg, later(now, RAMP)).1,
        Event::CallWell | Event::CallUnwell | Event::CallSaysNothing => {
            let (admission, began) = circuit.begin_probe(false, ANY, cfg, now);
            let ProbeAdmission::Admitted { lease } = admission else {
                return began;
            };
            let end = match event {
                Event::CallWell => ProbeEnd::Well,
                Event::CallUnwell => ProbeEnd::Unwell,
                _ => ProbeEnd::Nothing,
            };
            circuit.end_probe((circuit.word(), lease), end, ANY, cfg, now)
        }
        Event::LateProbe => early.map_or(PendingTransition::NONE, |early| {
            circuit.end_probe((early, 1), ProbeEnd::Unwell, ANY, cfg, now)
        }),
        Event::RampOver => circuit.end_ramp(seen),
        Event::FailureInRamp => {
            if seen.is(Phase::Ramp) {
                circuit.halve_share(seen, cfg, later(now, RAMP / 2));
            }
            PendingTransition::NONE
        }
        Event::ForceOpen => circuit.force_open(),
        Event::ForceClosed => circuit.force_closed(),
        Event::Reset => circuit.reset(),
        Event::Observe(only) => circuit.observe(only),
    }
}

/// Where a phase is left for, with what is told. `None` if it is not left.
fn expected(phase: Phase, event: Event) -> Option<(Phase, Reason)> {
    match (phase, event) {
        (Phase::Closed | Phase::Ramp, Event::Trip) => Some((Phase::Open, Reason::FailureRate)),
        (Phase::Open, Event::LaterCall) => Some((Phase::HalfOpen, Reason::WaitedOut)),
        (Phase::HalfOpen, Event::CallWell) => Some((Phase::Ramp, Reason::ProbesSucceeded)),
        (Phase::HalfOpen, Event::CallUnwell) => Some((Phase::Open, Reason::ProbesFailed)),
        (_, Event::ForceOpen) => Some((Phase::ForcedOpen, Reason::Forced)),
        (_, Event::ForceClosed) => Some((Phase::ForcedClosed, Reason::Forced)),
        (_, Event::Reset) => Some((Phase::Closed, Reason::Reset)),
        _ => None,
    }
}

#[test]
fn every_event_in_every_phase_leads_where_the_diagram_says() {
    let cfg = with_ramp();
    for phase in PHASES {
        for event in EVENTS {
            for observing in [false, true] {
                let what = format!("{event:?} in {phase:?}, observing: {observing}");
                let (mut circuit, now) = circuit_in(phase, &cfg);
                let _ = circuit.observe(observing);
                let before = circuit.word();
                let told = happen(&mut circuit, event, &cfg, now);
                let after = circuit.word();

                // The end of a ramp is the one change of phase that begins no epoch.
                let ends_ramp = (phase, event) == (Phase::Ramp, Event::RampOver);
                let stays = if ends_ramp { Phase::Closed } else { phase };
                let left = expected(phase, event);
                assert_eq!(after.phase(), left.map_or(stays, |(to, _)| to), "{what}");
                let epochs = u64::from(left.is_some());
                assert_eq!(after.epoch(), before.epoch() + epochs, "{what}");

                let (from, to) = (before.told_state(), after.told_state());
                assert_eq!(told.0.is_some(), from != to, "{what}");
                if let Some(told) = told.0 {
                    assert_eq!((told.from, told.to), (from, to), "{what}");
                    assert_eq!(Some(told.reason), left.map(|(_, reason)| reason), "{what}");
                    assert_eq!(told.epoch, after.epoch(), "{what}");
                    assert_eq!(circuit.last(), told, "{what}");
                }
                let observing = match event {
                    Event::Observe(only) => only,
                    _ => observing,
                };
                assert_eq!(after.is_observing(), observing, "{what}");
                let ends = after.is(Phase::Open) || after.is(Phase::Ramp);
                assert_eq!(circuit.until() > Time(0), ends, "{what}");
            }
        }
    }
}

#[test]
fn every_constant_input_leads_out_of_every_phase_that_nobody_forced() {
    for cfg in [with_ramp(), builder().config()] {
        for phase in PHASES {
            if phase == Phase::Ramp && cfg.ramp.is_none() {
                continue;
            }
            // Calls that succeed close it, and calls that fail open it, again and again.
            for (well, aim) in [(true, Phase::Closed), (false, Phase::Open)] {
                let forced = matches!(phase, Phase::ForcedOpen | Phase::ForcedClosed);
                let (mut circuit, mut now) = circuit_in(phase, &cfg);
                let mut reached = 0;
                for _ in 0..100 {
                    now = later(now, 100 * MILLI);
                    let word = circuit.word();
                    let _ = match word.phase() {
                        Phase::Closed | Phase::Ramp if !well => {
                            circuit.trip(word, Reason::ConsecutiveFailures, ANY, &cfg, now)
                        }
                        Phase::Ramp if now >= circuit.until() => circuit.end_ramp(word),
                        _ => {
                            let event = [Event::CallUnwell, Event::CallWell][usize::from(well)];
                            happen(&mut circuit, event, &cfg, now)
                        }
                    };
                    reached += u32::from(circuit.word().is(aim));
                }
                assert_eq!(reached > 0, !forced, "{well} in {phase:?}");
            }
        }
    }
}

#[test]
fn what_says_nothing_decides_nothing_and_keeps_nobody_from_being_the_next_probe() {
    let cfg = builder().config();
    let (mut circuit, mut now) = circuit_in(Phase::HalfOpen, &cfg);
    for _ in 0..100 {
        now = later(now, 250 * MILLI);
        let lease = lease(circuit.begin_probe(false, ANY, &cfg, now).0);
        let probe = (circuit.word(), lease);
        let told = circuit.end_probe(probe, ProbeEnd::Nothing, ANY, &cfg, now);
        assert_eq!(told, PendingTransition::NONE);
    }
    // Nor does one that hangs, once its lease is over.
    now = later(now, 250 * MILLI);
    for _ in 0..100 {
        let hanging = lease(circuit.begin_probe(false, ANY, &cfg, now).0);
        let (refused, _) = circuit.begin_probe(false, ANY, &cfg, later(now, 80 * MILLI));
        let retry_after = Duration::from_nanos(LEASE - 80 * MILLI);
        assert_eq!(refused, ProbeAdmission::Refused { retry_after });
        now = later(now, LEASE);
        let probe = (circuit.word(), hanging);
        let told = circuit.end_probe(probe, ProbeEnd::Unwell, ANY, &cfg, now);
        assert_eq!(told, PendingTransition::NONE);
        assert!(circuit.word().is(Phase::HalfOpen));
    }
}

#[test]
fn it_opens_for_longer_whenever_probes_fail_and_never_before_it_was_asked_for() {
    let cfg = builder().max_open_for(Duration::from_secs(1)).config();
    let (mut circuit, mut now) = circuit_in(Phase::Open, &cfg);
    for times in [1, 2, 3, 3] {
        let open = (OPEN << (times - 1)).min(1_000 * MILLI);
        assert_eq!(circuit.until(), later(now, open));
        assert_eq!(circuit.retry_after(now), Some(Duration::from_nanos(open)));
        now = circuit.until();
        assert_eq!(circuit.retry_after(now), None);
        let _ = happen(&mut circuit, Event::CallUnwell, &cfg, now);
    }
    assert_eq!(circuit.trips_total(), 5);
    let asked = later(now, 1 << 60);
    let _ = circuit.reset();
    let _ = circuit.trip(circuit.word(), Reason::FailureRate, asked, &cfg, now);
    assert_eq!(circuit.until(), asked);
    // Closed once, it begins at the beginning.
    let _ = happen(&mut circuit, Event::CallWell, &cfg, asked);
    let _ = circuit.trip(circuit.word(), Reason::FailureRate, ANY, &cfg, asked);
    assert_eq!(circuit.until(), later(asked, OPEN));
}

#[test]
fn a_ramp_lets_in_more_and_more_and_half_as_many_after_a_failure() {
    let cfg = with_ramp();
    let (mut circuit, now) = circuit_in(Phase::Ramp, &cfg);
    let share = |circuit: &Circuit, at| (circuit.admitted_share(&cfg, at) * 100.0).round();
    assert_eq!(share(&circuit, now), 10.0);
    let now = later(now, RAMP / 2);
    assert_eq!(share(&circuit, now), 60.0);
    let halves = [30.0, 15.0, 10.0];
    for half in halves {
        assert!(circuit.halve_share(circuit.word(), &cfg, now));
        assert_eq!(share(&circuit, now), half);
    }
    assert!(!circuit.halve_share(circuit.word(), &cfg, now));
    assert_eq!(share(&circuit, circuit.until()), 100.0);
}

#[test]
fn a_word_is_what_it_is_made_of() {
    for phase in PHASES {
        for (epoch, observing) in [(0, false), (1, true), (1 << 59, false)] {
            let word = CircuitWord::new(epoch, observing, phase);
            let word = CircuitWord::from_bits(word.bits());
            assert_eq!((word.phase(), word.epoch()), (phase, epoch));
            assert_eq!(word.is_observing(), observing);
            assert_eq!(PHASES.into_iter().filter(|p| word.is(*p)).count(), 1);
        }
    }
    let open = CircuitWord::new(3, true, Phase::Open);
    assert_eq!(open.mode(), Mode::ObserveOnly);
    assert_eq!(open.state(Time(5), Time(4)), State::Open);
    assert_eq!(open.state(Time(5), Time(5)), State::HalfOpen);
    let forced = CircuitWord::new(3, true, Phase::ForcedOpen);
    assert_eq!(forced.mode(), Mode::ForcedOpen);
    assert_eq!(forced.state(Time(5), Time(5)), State::Open);
}

#[test]
fn what_a_builder_leaves_open_follows_from_what_it_was_told() {
    let nanos = |seconds| Duration::from_secs(seconds).as_nanos() as u64;
    let cfg = CircuitBreaker::builder("t").config();
    assert_eq!((cfg.minimum, cfg.max_open_for), (20, nanos(60)));
    let builder = CircuitBreaker::builder("t").count_window(10);
    let cfg = builder.open_for(Duration::from_secs(90)).config();
    assert_eq!((cfg.minimum, cfg.max_open_for), (10, nanos(90)));
}
