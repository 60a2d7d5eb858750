//! From each phase, each end that repeats for ever: the review in ARCHITECTURE.md.

use super::*;
use buttress::{Time, circuit_breaker::State};

/// An end, and how long a call takes until it.
#[derive(Clone, Copy, Debug)]
struct Repeats {
    end: Option<End>,
    after: Duration,
    /// What becomes of a closed breaker, and of a half-open one: with a success known, and without.
    closed: [State; 2],
    half_open: [State; 2],
}

const CLOSED: [State; 2] = [State::Closed; 2];
const OPEN: [State; 2] = [State::Open; 2];
const HALF_OPEN: [State; 2] = [State::HalfOpen; 2];

fn repeats() -> Vec<Repeats> {
    let it = |end, after, closed, half_open| Repeats {
        end: Some(end),
        after,
        closed,
        half_open,
    };
    vec![
        it(WELL, MILLI, CLOSED, CLOSED),
        it(IGNORED, MILLI, CLOSED, CLOSED),
        it(UNWELL, MILLI, OPEN, OPEN),
        it(End::Panicked, MILLI, OPEN, OPEN),
        it(End::TimedOut, MILLI, OPEN, OPEN),
        it(overloaded(None), MILLI, CLOSED, CLOSED),
        it(overloaded(Some(30 * SECOND)), MILLI, CLOSED, CLOSED),
        it(End::Done(Outcome::Refused), MILLI, CLOSED, CLOSED),
        it(End::NeverStarted, Duration::ZERO, CLOSED, CLOSED),
        it(End::RequestFailed, MILLI, CLOSED, HALF_OPEN),
        // Callers who leave early, and limits of which the service had less than half.
        it(End::Cancelled, 100 * MILLI, CLOSED, HALF_OPEN),
        // Late: with none known it may be a slow service with impatient callers.
        it(End::Cancelled, SECOND, OPEN, [State::Open, State::HalfOpen]),
        // It hangs, and nobody gives up.
        Repeats {
            end: None,
            after: SECOND,
            closed: CLOSED,
            half_open: [State::Open, State::HalfOpen],
        },
    ]
}

/// A breaker and its clock.
struct Clocked {
    breaker: CircuitBreaker,
    now: Time,
}

impl Clocked {
    /// One that has seen a success of 100 ms, or none that was waited for.
    fn new(known: bool, ramp: bool) -> Self {
        let builder = plain().seed(1);
        let builder = match ramp {
            true => builder.ramp(20 * SECOND),
            false => builder,
        };
        let (breaker, now) = (builder.build().unwrap(), Time::from_nanos(1 << 40));
        let mut clocked = Self { breaker, now };
        if known {
            clocked.call(WELL, 100 * MILLI);
        }
        clocked
    }

    /// Lets a call in, if it may be, and says whether it has been polled.
    fn admit(&self, polled: bool) -> Option<Permit> {
        let now = Now::at(self.now);
        match self.breaker.admit(&(), &now) {
            Admission::Admitted(mut permit) => {
                if polled {
                    self.breaker.on_pending(&mut permit, &now);
                }
                Some(permit)
            }
            _ => None,
        }
    }

    fn call(&mut self, how: End, after: Duration) -> bool {
        let permit = self.admit(how != End::NeverStarted);
        let let_in = permit.is_some();
        if let Some(permit) = permit {
            self.now = self.now.after(after);
            self.breaker.settle(permit, how, &Now::at(self.now));
        }
        let_in
    }

    fn trip(&mut self) {
        (0..5).for_each(|_| assert!(self.call(UNWELL, Duration::ZERO)));
        self.now = self.now.after(5 * SECOND);
    }

    fn state(&self) -> State {
        self.breaker.transitions().borrow().to
    }

    /// Repeats the end for 200 s or more, a call at a time and 100 ms apart at least.
    fn repeat(&mut self, what: Repeats) -> Course {
        let (began, mut hung) = (self.now, Vec::new());
        let mut course = Course::default();
        for step in 0..2_000 {
            let next = self.now.after(100 * MILLI);
            let let_in = match what.end {
                Some(how) => self.call(how, what.after),
                None => {
                    let permit = self.admit(true);
                    let let_in = permit.is_some();
                    hung.extend(permit);
                    let_in
                }
            };
            self.now = self.now.max(next);
            course.let_in += u64::from(let_in);
            if step >= 1_000 {
                course.refused_late |= !let_in;
                if !course.states.contains(&self.state()) {
                    course.states.push(self.state());
                }
            }
        }
        course.seconds = self.now.since(began).as_secs();
        course
    }
}

/// What came of it.
#[derive(Debug, Default)]
struct Course {
    /// The states in the second half, and whether a call was refused in it.
    states: Vec<State>,
    refused_late: bool,
    let_in: u64,
    seconds: u64,
}

impl Course {
    fn visits(&self, aim: State) -> bool {
        match aim {
            // It is probed now and then.
            State::Open => {
                self.states.contains(&State::Open) && !self.states.contains(&State::Closed)
            }
            other => self.states == [other],
        }
    }
}

#[test]
fn a_half_open_breaker_leaves_that_state_or_has_a_reason_not_to() {
    for what in repeats() {
        for (known, aim) in [(true, what.half_open[0]), (false, what.half_open[1])] {
            let mut clocked = Clocked::new(known, false);
            clocked.trip();
            let course = clocked.repeat(what);
            assert!(course.visits(aim), "{what:?}, {known}: {course:?}");
            let bounded = course.let_in <= 12 + 4 * course.seconds;
            assert!(
                bounded || aim == State::Closed,
                "{what:?}, {known}: {course:?}"
            );
        }
    }
}

#[test]
fn a_closed_breaker_opens_or_has_a_reason_not_to() {
    for what in repeats() {
        for (known, aim) in [(true, what.closed[0]), (false, what.closed[1])] {
            let mut clocked = Clocked::new(known, false);
            clocked.repeat(what);
            let tripped = clocked.breaker.snapshot().trips_total > 0;
            assert_eq!(tripped, aim == State::Open, "{what:?}, {known}");
        }
    }
}

#[test]
fn a_ramp_ends_by_itself_or_by_a_rule() {
    for what in repeats() {
        let mut clocked = Clocked::new(true, true);
        clocked.trip();
        assert!(clocked.call(WELL, MILLI));
        assert_eq!(clocked.state(), State::Closed);
        let course = clocked.repeat(what);
        let opened = clocked.breaker.snapshot().trips_total > 1;
        assert_eq!(opened, what.closed[0] == State::Open, "{what:?}");
        assert_eq!(course.refused_late, opened, "{what:?}: {course:?}");
    }
}
