//! What a breaker makes of a call's waits for other policies, which are not the dependency's time.

use super::{breaker::Breaker, circuit::PendingTransition, permit::Permit, phase::Phase};
use crate::clock::{Now, Time};
use std::time::Duration;

impl Breaker {
    /// Counts a call no longer as running in the dependency, as long as it waits for another
    /// policy.
    #[cold]
    pub(super) fn on_wait_begin(&self, permit: &mut Permit, _now: &Now) {
        if permit.word.is(Phase::HalfOpen) {
            let probe = (permit.word, permit.place());
            self.circuit.transition(|circuit| {
                circuit.begin_wait_of_probe(probe);
                PendingTransition::NONE
            });
        } else if let Some(in_flight) = &self.in_flight
            && permit.word.can_trip()
            && let Some(index) = permit.counted_by()
        {
            in_flight.leave(index, permit.word.epoch(), Time(permit.began));
            permit.begin_wait();
        }
    }

    /// Counts it again after the wait, which is left out of its time.
    #[cold]
    pub(super) fn on_wait_end(&self, permit: &mut Permit, waited: Duration, now: &Now) {
        if permit.began == 0 {
            return;
        }
        let (before, now) = (permit.began, now.get());
        permit.began = Time(before).after(waited).0.min(now.0).max(before);
        if permit.word.is(Phase::HalfOpen) {
            if permit.is_answered() {
                return;
            }
            let probe = (permit.word, permit.place());
            self.circuit.transition(|circuit| {
                circuit.end_wait_of_probe(probe, waited, now);
                PendingTransition::NONE
            });
        } else if permit.end_wait()
            && let Some(in_flight) = &self.in_flight
        {
            let index = in_flight.enter(permit.word.epoch(), Time(permit.began), now);
            permit.set_place(index.map_or(0, |index| index as u64 + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        CircuitBreaker, Outcome,
        circuit_breaker::probes::{ProbeEnd, ProbeStart, ProbeVerdict, Probes},
        guard::End,
    };
    use proptest::prelude::*;
    use std::sync::Arc;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Admit,
        /// Of the call of this number, among those that have not ended.
        Pending(usize),
        WaitBegins(usize),
        WaitEnds(usize, u64),
        Answers(usize, bool),
        Ends(usize, usize),
        Time(u64),
        Steer(u8),
    }

    const ENDS: [End; 9] = [
        End::Done(Outcome::Success),
        End::Done(Outcome::Failure),
        End::Done(Outcome::Ignored),
        End::Done(Outcome::Overloaded { retry_after: None }),
        End::Cancelled,
        End::TimedOut,
        End::RequestFailed,
        End::Panicked,
        End::NeverStarted,
    ];

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let waited = prop_oneof![0_u64..1_000_000_000, Just(u64::MAX)];
        let step = prop_oneof![
            4 => Just(Step::Admit),
            3 => (0_usize..8).prop_map(Step::Pending),
            3 => (0_usize..8).prop_map(Step::WaitBegins),
            3 => ((0_usize..8), waited).prop_map(|(call, waited)| Step::WaitEnds(call, waited)),
            1 => ((0_usize..8), any::<bool>()).prop_map(|(call, well)| Step::Answers(call, well)),
            3 => ((0_usize..8), 0..ENDS.len()).prop_map(|(call, end)| Step::Ends(call, end)),
            2 => (0_u64..2_000_000_000).prop_map(Step::Time),
            1 => (0_u8..4).prop_map(Step::Steer),
        ];
        prop::collection::vec(step, 0..80)
    }

    /// A call, and what it was told of.
    struct Call {
        permit: Permit,
        pending: bool,
        waits: bool,
    }

    impl Call {
        /// Returns whether it is in the dependency, as far as the breaker can know, and counts.
        fn runs(&self, breaker: &Breaker) -> bool {
            let word = self.permit.word;
            let counts = word.can_trip() && word.epoch() == breaker.circuit.word().epoch();
            counts && self.pending && !self.waits
        }
    }

    fn breaker(probes: u32) -> Breaker {
        let builder = CircuitBreaker::builder("t")
            .slow_call_rate(1.0)
            .probe_timeout(Duration::from_secs(2))
            .probes(probes);
        let builder = builder
            .open_for(Duration::from_secs(1))
            .minimum_calls(1_000);
        let builder = builder.consecutive_failures(2);
        Breaker::new(Arc::new(builder.config()), 1)
    }

    fn take_step(breaker: &Breaker, calls: &mut Vec<Call>, step: Step, now: &Now) {
        let count = calls.len().max(1);
        let of = |call: usize| call % count;
        match step {
            Step::Admit => {
                calls.extend(breaker.admit(now).ok().map(|permit| Call {
                    permit,
                    pending: false,
                    waits: false,
                }));
            }
            Step::Time(_) => {}
            Step::Steer(0) => breaker.force_open(),
            Step::Steer(1) => breaker.force_closed(),
            Step::Steer(_) => breaker.reset(),
            _ if calls.is_empty() => {}
            Step::Pending(call) => {
                let call = &mut calls[of(call)];
                if call.pending || !call.waits {
                    breaker.on_pending(&mut call.permit, now);
                    call.pending = true;
                }
            }
            Step::WaitBegins(call) => {
                let call = &mut calls[of(call)];
                breaker.on_wait_begin(&mut call.permit, now);
                call.waits = true;
            }
            Step::WaitEnds(call, waited) => {
                let call = &mut calls[of(call)];
                breaker.on_wait_end(&mut call.permit, Duration::from_nanos(waited), now);
                call.waits = false;
            }
            Step::Answers(call, well) => {
                let call = &mut calls[of(call)];
                let outcome = [Outcome::Failure, Outcome::Success][usize::from(well)];
                let before = call.permit.word;
                breaker.on_answer(&mut call.permit, outcome, now);
                // A probe that closed the circuit is a call like any other from now on.
                call.pending &= call.permit.word == before;
            }
            Step::Ends(call, end) => {
                let call = calls.swap_remove(of(call));
                breaker.settle(call.permit, ENDS[end], now);
            }
        }
    }

    /// A probe that is in the dependency for so long, waits for another policy, and so on.
    struct Probe {
        id: u64,
        began: u64,
    }

    impl Probe {
        /// Goes on with what it does at this time.
        fn take_step(
            &self,
            probes: &mut Probes,
            course: &[(u64, u64)],
            end: ProbeEnd,
            now: u64,
        ) -> Option<ProbeVerdict> {
            let mut at = self.began;
            for (n, (runs, waits)) in course.iter().enumerate() {
                at += runs;
                if n + 1 == course.len() {
                    let is_over = now == at;
                    return is_over.then(|| probes.end(self.id, end, Time(now)))?;
                }
                if now == at {
                    probes.begin_wait(self.id);
                }
                at += waits;
                if now == at {
                    probes.end_wait(self.id, Duration::from_nanos(*waits), Time(now));
                }
            }
            None
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn probes_decide_when_the_first_of_them_are_answered_however_long_they_wait_in_between(
            (limit, needed) in (1_u32..5).prop_flat_map(|limit| (Just(limit), 1..=limit)),
            course in prop::collection::vec((1_u64..10, 1_u64..200), 1..5),
            gap in 1_u64..40,
            more in 1_u64..30,
            well in any::<bool>(),
        ) {
            let lease = course.iter().map(|(runs, _)| runs).sum::<u64>() + more;
            let waited = course.iter().map(|(_, waits)| waits).sum::<u64>();
            let mut probes = Probes::new(limit, needed, lease, u64::MAX);
            probes.restart(true);
            let (end, expected) = match well {
                true => (ProbeEnd::Well, ProbeVerdict::Well),
                false => (ProbeEnd::Unwell, ProbeVerdict::Unwell),
            };
            let (mut begun, mut verdict) = (Vec::new(), None);
            for now in 0..=lease + waited + u64::from(limit) * gap {
                for probe in &begun {
                    let probe: &Probe = probe;
                    verdict = verdict.or_else(|| probe.take_step(&mut probes, &course, end, now));
                }
                if verdict.is_some() {
                    break;
                }
                if now % gap == 0 {
                    match probes.begin(Time(now)) {
                        ProbeStart::Lease(id) => begun.push(Probe { id, began: now }),
                        ProbeStart::Enough { .. } => {}
                        other => prop_assert!(false, "{:?}", other),
                    }
                }
            }
            prop_assert_eq!(verdict, Some(expected));
        }

        #[test]
        fn whatever_calls_do_in_any_order_those_that_run_are_counted_and_none_is_left_behind(
            steps in steps(),
            probes in 1_u32..4,
        ) {
            let (breaker, mut calls) = (breaker(probes), Vec::new());
            let mut time = 1_000_000_000;
            let running = |breaker: &Breaker| {
                let in_flight = breaker.in_flight.as_ref().unwrap();
                in_flight.running(breaker.circuit.word().epoch())
            };
            for step in steps {
                if let Step::Time(more) = step {
                    time += more;
                }
                take_step(&breaker, &mut calls, step, &Now::at(Time(time)));
                let run = calls.iter().filter(|call| call.runs(&breaker)).count();
                prop_assert_eq!(running(&breaker), run as i64, "after {:?}", step);
            }
            let now = Now::at(Time(time));
            for (n, call) in calls.into_iter().enumerate() {
                breaker.settle(call.permit, ENDS[n % ENDS.len()], &now);
            }
            prop_assert_eq!(running(&breaker), 0);
            prop_assert_eq!(breaker.circuit.read(|circuit| circuit.running_probes()), 0);
        }
    }
}
