//! What the defaults promise under overload, in outages and for fleets: simulations of clients,
//! each with a budget of its own, that call one server. Time is a number. The retries are made by
//! this crate's own `Attempts` and `Budget`; nothing of their rules is repeated here.

mod outages;

use super::super::{
    Budget, Core, Hint, Retry,
    attempts::{Attempts, Failed},
};
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

/// No call takes as long, with all of its attempts.
const LONGEST_CALL: u64 = 10 * SECOND;

impl World {
    fn run(self) -> Vec<Second> {
        self.run_until(|_| false)
    }

    /// Runs to the end, or until the calls are over that had begun when this was so of the seconds
    /// that had passed.
    fn run_until(self, is_so: impl Fn(&[Second]) -> bool) -> Vec<Second> {
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
        let (mut passed, mut until) = (0, run.world.until);
        while let Some(Reverse((now, _, event))) = run.events.pop() {
            if now >= until {
                break;
            }
            let second = (now / SECOND) as usize;
            if second > passed && is_so(&run.seconds[..second]) {
                until = until.min(now + LONGEST_CALL);
            }
            passed = second;
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
        let wait =
            call.attempts
                .next_wait(core, Failed::default(), Hint::None, &Now::at(Time(now)));
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
