//! What the defaults promise under overload, in outages and for fleets: simulations of clients,
//! each with a budget of its own, that call one server. Time is a number. The retries are made by
//! this crate's own `Attempts` and `Budget`; nothing of their rules is repeated here.

use super::super::{Budget, Core, Hint, Retry, attempts::Attempts};
use crate::{
    clock::{Now, Time},
    rng::Dice,
};
use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    mem,
    ops::Range,
};

const SECOND: u64 = 1_000_000_000;
const MS: u64 = 1_000_000;

/// How long a client waits for an attempt.
const TIMEOUT: u64 = 500 * MS;

/// Clients whose calls together come at `calls_per_second`, and a server of known capacity.
struct World {
    clients: u32,
    calls_per_second: f64,
    /// How many calls it works on at once, each for so long.
    workers: usize,
    work: u64,
    /// How many wait at most.
    queue: usize,
    /// What it costs to refuse a call, of the work of one.
    refusal: f64,
    /// When it does no work.
    stall: Range<u64>,
    until: u64,
    budget: fn() -> Budget,
    seed: u64,
}

/// A second of the simulation.
#[derive(Clone, Copy, Default)]
struct Second {
    calls: f64,
    attempts: f64,
    /// Calls that began in it and succeeded some time.
    successes: f64,
    /// Calls that succeeded in it.
    good: f64,
}

#[derive(Clone, Copy, Eq, Ord, PartialEq, PartialOrd)]
enum Event {
    Call(u32),
    Attempt(usize),
    Refused(usize),
    /// The client of this attempt waits no longer.
    TimedOut(usize, u32),
    /// A worker is done.
    Done(usize, u32),
    Resume,
}

struct Call {
    client: u32,
    began: u64,
    attempts: Attempts,
}

struct Run {
    world: World,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    sequence: u64,
    retries: Vec<Retry>,
    /// By their number; `None` once they are over.
    calls: Vec<Option<Call>>,
    waiting: VecDeque<(usize, u32)>,
    busy: usize,
    /// Work that refusals cost, and that a worker has yet to do.
    debt: u64,
    dice: Dice,
    seconds: Vec<Second>,
}

impl World {
    fn run(self) -> Vec<Second> {
        let retry = |client| {
            let retry = Retry::builder("client").budget((self.budget)());
            let seed = self.seed * 1_000_000 + u64::from(client);
            retry.seed(seed).build().unwrap()
        };
        let seconds = vec![Second::default(); (self.until / SECOND) as usize + 1];
        let mut run = Run {
            events: BinaryHeap::new(),
            sequence: 0,
            retries: (0..self.clients).map(retry).collect(),
            calls: Vec::new(),
            waiting: VecDeque::new(),
            busy: 0,
            debt: 0,
            dice: Dice::new(Some(self.seed)),
            seconds,
            world: self,
        };
        for client in 0..run.world.clients {
            let first = run.dice.unit() * run.pause() as f64;
            run.at(first as u64, Event::Call(client));
        }
        run.at(run.world.stall.end, Event::Resume);
        while let Some(Reverse((now, _, event))) = run.events.pop() {
            if now >= run.world.until {
                break;
            }
            run.happens(now, event);
        }
        run.seconds
    }
}

impl Run {
    fn at(&mut self, when: u64, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((when, self.sequence, event)));
    }

    /// The mean time between two calls of one client.
    fn pause(&self) -> u64 {
        let each = self.world.calls_per_second / f64::from(self.world.clients);
        (SECOND as f64 / each) as u64
    }

    fn happens(&mut self, now: u64, event: Event) {
        match event {
            Event::Call(client) => {
                let mean = self.pause() as f64;
                let next = -(1.0 - self.dice.unit()).ln() * mean;
                self.at(now + next as u64, Event::Call(client));
                self.seconds[(now / SECOND) as usize].calls += 1.0;
                let id = self.calls.len();
                let (began, attempts) = (now, Attempts::new());
                let call = Call {
                    client,
                    began,
                    attempts,
                };
                self.calls.push(Some(call));
                self.attempt(now, id);
            }
            Event::Attempt(id) => self.attempt(now, id),
            Event::Refused(id) => self.failed(now, id),
            Event::TimedOut(id, number) => {
                if self.is_awaited(id, number) {
                    self.failed(now, id);
                }
            }
            Event::Done(id, number) => {
                self.busy -= 1;
                if self.is_awaited(id, number) {
                    self.succeeded(now, id);
                }
                self.work(now);
            }
            Event::Resume => self.work(now),
        }
    }

    fn is_awaited(&self, id: usize, number: u32) -> bool {
        self.calls[id]
            .as_ref()
            .is_some_and(|call| call.attempts.number == number)
    }

    fn attempt(&mut self, now: u64, id: usize) {
        self.seconds[(now / SECOND) as usize].attempts += 1.0;
        let call = self.calls[id].as_mut().unwrap();
        call.attempts.start(&self.retries[call.client as usize].0);
        let number = call.attempts.number;
        if self.waiting.len() < self.world.queue {
            self.waiting.push_back((id, number));
            self.at(now + TIMEOUT, Event::TimedOut(id, number));
            self.work(now);
        } else {
            self.debt += (self.world.refusal * self.world.work as f64) as u64;
            self.at(now + MS, Event::Refused(id));
        }
    }

    fn work(&mut self, now: u64) {
        while self.busy < self.world.workers && !self.world.stall.contains(&now) {
            let Some((id, number)) = self.waiting.pop_front() else {
                return;
            };
            self.busy += 1;
            let debt = mem::take(&mut self.debt);
            self.at(now + self.world.work + debt, Event::Done(id, number));
        }
    }

    fn succeeded(&mut self, now: u64, id: usize) {
        let call = self.calls[id].take().unwrap();
        self.core(call.client).budget.record_success();
        self.seconds[(now / SECOND) as usize].good += 1.0;
        self.seconds[(call.began / SECOND) as usize].successes += 1.0;
    }

    fn failed(&mut self, now: u64, id: usize) {
        let call = self.calls[id].as_mut().unwrap();
        let core = &*self.retries[call.client as usize].0;
        let wait = call
            .attempts
            .next_wait(core, Hint::None, &Now::at(Time(now)));
        match wait {
            Some(wait) => self.at(now + wait.as_nanos() as u64, Event::Attempt(id)),
            None => self.calls[id] = None,
        }
    }

    fn core(&self, client: u32) -> &Core {
        &self.retries[client as usize].0
    }
}

fn sum(seconds: &[Second], of: fn(&Second) -> f64) -> f64 {
    seconds.iter().map(of).sum()
}

fn amplification(seconds: &[Second]) -> f64 {
    sum(seconds, |s| s.attempts) / sum(seconds, |s| s.calls)
}

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
        until: 10 * SECOND,
        budget,
        seed,
    };
    let seconds = world.run();
    let steady = &seconds[3..10];
    (sum(steady, |s| s.good) / 7_000.0, amplification(steady))
}

/// A server that does no work for a time, while its queue of two seconds fills; it neither sheds nor
/// drops work that nobody waits for.
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
        let seconds = world.run();
        // Of a short one all of it; of a long one what it has come to.
        let last = if self.seconds > 10 {
            self.seconds / 5
        } else {
            self.seconds
        };
        let (length, share) = self.well;
        let is_well = |s: &[Second]| sum(s, |s| s.successes) >= share * sum(s, |s| s.calls);
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
fn without_the_gate_fleets_stay_down_for_good() {
    for (calls_per_minute, patience) in [(1.0, 900), (6.0, 300), (60.0, 100)] {
        let budget = without_gate;
        let fleet = Stall {
            calls_per_minute,
            load: 0.7,
            patience,
            budget,
            ..FLEET
        };
        assert_eq!(fleet.run().1, None, "{calls_per_minute}");
    }
}
