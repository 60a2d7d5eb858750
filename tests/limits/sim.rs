//! A service of `workers` with a queue of its own that nobody outside sees, behind a limit with a
//! queue, behind ten relays that time out, retry within a budget and throttle themselves.
//!
//! A caller's timeout gives its permit back while the service works on. All times in seconds.

use super::{
    event::{Event, What},
    relay::Relay,
    rng::Rng,
};
use buttress::{
    Time,
    load_shed::limit::{Limit, NextWindow, SampleWindow, WindowProgress},
};
use std::{
    collections::{BinaryHeap, VecDeque},
    time::Duration,
};

#[derive(Clone, Copy, Debug)]
pub(crate) enum Service {
    Lognormal(f64),
    /// One call in twenty takes ten times the mean.
    Bimodal,
}

/// A stretch of time in which nothing changes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Phase {
    pub(crate) seconds: f64,
    /// Requests per second.
    pub(crate) rate: f64,
    pub(crate) workers: usize,
    /// The mean service time.
    pub(crate) mean: f64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) seed: u64,
    pub(crate) service: Service,
    pub(crate) throttle: bool,
    /// Tell the limit the share of arrivals that found no permit, and not the share of time.
    pub(crate) by_arrivals: bool,
}

/// What was seen in one second.
#[derive(Clone, Debug, Default)]
pub(crate) struct Second {
    pub(crate) offered: u32,
    pub(crate) served: u32,
    pub(crate) shed: u32,
    pub(crate) limit: f64,
    pub(crate) latencies: Vec<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Queued,
    InFlight,
    Over,
}

#[derive(Clone, Debug)]
struct Attempt {
    relay: usize,
    number: u32,
    born: f64,
    sent: f64,
    admitted: f64,
    state: State,
}

const TIMEOUT: f64 = 0.5;
const REJECT_COST: f64 = 0.0001;

#[derive(Debug)]
pub(crate) struct Sim<L> {
    setup: Setup,
    rng: Rng,
    events: BinaryHeap<Event>,
    order: u64,
    now: f64,
    phase: Phase,
    attempts: Vec<Attempt>,
    relays: Vec<Relay>,
    // The layer.
    limit: L,
    permits: usize,
    in_flight: usize,
    queue: VecDeque<usize>,
    last_empty: f64,
    window: SampleWindow,
    opened: f64,
    close: NextWindow,
    touched: f64,
    full_for: f64,
    arrived: u32,
    arrived_full: u32,
    // The service.
    busy: usize,
    hidden: VecDeque<usize>,
    debt: f64,
    pub(crate) seconds: Vec<Second>,
}

impl<L: Limit> Sim<L> {
    pub(crate) fn new(limit: L, setup: Setup) -> Self {
        let permits = limit.initial().max(1);
        Self {
            setup,
            rng: Rng::new(setup.seed),
            events: BinaryHeap::new(),
            order: 0,
            now: 0.0,
            phase: Phase {
                seconds: 0.0,
                rate: 0.0,
                workers: 1,
                mean: 1.0,
            },
            attempts: Vec::new(),
            relays: vec![Relay::new(); 10],
            close: limit.close(),
            limit,
            permits,
            in_flight: 0,
            queue: VecDeque::new(),
            last_empty: 0.0,
            window: SampleWindow::starting(time(0.0), permits),
            opened: 0.0,
            touched: 0.0,
            full_for: 0.0,
            arrived: 0,
            arrived_full: 0,
            busy: 0,
            hidden: VecDeque::new(),
            debt: 0.0,
            seconds: Vec::new(),
        }
    }

    pub(crate) fn run(mut self, phases: &[Phase]) -> Vec<Second> {
        let mut end = 0.0;
        for (i, phase) in phases.iter().enumerate() {
            self.at(end, What::Phase(i));
            end += phase.seconds;
        }
        self.seconds = vec![Second::default(); end as usize];
        while let Some(event) = self.events.pop() {
            if event.at >= end {
                break;
            }
            self.now = event.at;
            match event.what {
                What::Phase(i) => self.begin(phases[i], i == 0),
                What::Arrival => self.arrival(),
                What::Attempt(id) => self.attempt(id),
                What::Done(id) => self.done(id),
                What::TimedOut(id) => self.timed_out(id),
            }
        }
        self.seconds
    }

    fn at(&mut self, at: f64, what: What) {
        self.order += 1;
        let order = self.order;
        self.events.push(Event { at, order, what });
    }

    fn begin(&mut self, phase: Phase, first: bool) {
        self.phase = phase;
        if first {
            self.at(self.now, What::Arrival);
        }
        self.work();
    }

    fn second(&mut self) -> &mut Second {
        let last = self.seconds.len() - 1;
        let second = &mut self.seconds[(self.now as usize).min(last)];
        second.limit = self.permits as f64;
        second
    }

    fn arrival(&mut self) {
        self.second().offered += 1;
        let relay = self.rng.below(10);
        let id = self.attempts.len();
        self.attempts.push(Attempt {
            relay,
            number: 1,
            born: self.now,
            sent: self.now,
            admitted: 0.0,
            state: State::Over,
        });
        self.attempt(id);
        let next = self.now + self.rng.exp(1.0 / self.phase.rate);
        self.at(next, What::Arrival);
    }

    // The relay.

    fn attempt(&mut self, id: usize) {
        let (now, relay) = (self.now, self.attempts[id].relay);
        let p = self.relays[relay].probability(now);
        if self.setup.throttle && self.rng.unit() < p {
            self.relays[relay].count(now, 1.0, 0.0);
            return;
        }
        self.attempts[id].sent = now;
        self.at(now + TIMEOUT, What::TimedOut(id));
        self.enter(id);
    }

    fn failed(&mut self, id: usize, overloaded: bool) {
        let (now, relay, n) = (self.now, self.attempts[id].relay, self.attempts[id].number);
        self.attempts[id].state = State::Over;
        let accepted = if overloaded { 0.0 } else { 1.0 };
        let relay = &mut self.relays[relay];
        relay.count(now, 1.0, accepted);
        let backoff = self.rng.unit() * 0.02 * f64::from(1 << (n - 1));
        if n < 3 && relay.budget >= 1.0 && now + backoff < self.attempts[id].born + 2.0 {
            relay.budget -= 1.0;
            let again = Attempt {
                number: n + 1,
                ..self.attempts[id].clone()
            };
            self.attempts.push(again);
            self.at(now + backoff, What::Attempt(self.attempts.len() - 1));
        }
    }

    fn succeeded(&mut self, id: usize) {
        let (now, latency) = (self.now, self.now - self.attempts[id].born);
        let relay = &mut self.relays[self.attempts[id].relay];
        relay.count(now, 1.0, 1.0);
        relay.budget = (relay.budget + 0.1).min(10.0);
        let second = self.second();
        second.served += 1;
        second.latencies.push(latency);
    }

    fn timed_out(&mut self, id: usize) {
        match self.attempts[id].state {
            State::Over => {}
            State::Queued => {
                self.queue.retain(|waiting| *waiting != id);
                if self.queue.is_empty() {
                    self.last_empty = self.now;
                }
                self.failed(id, false);
            }
            State::InFlight => {
                self.failed(id, false);
                self.leave(id, false);
            }
        }
    }

    // The layer: a queue of 20 and 100 ms, newest first under standing overload.

    fn enter(&mut self, id: usize) {
        self.arrived += 1;
        if self.in_flight < self.permits && self.queue.is_empty() {
            self.admit(id);
            return;
        }
        self.window.used = true;
        self.arrived_full += 1;
        self.attempts[id].state = State::Queued;
        if self.queue.is_empty() {
            self.last_empty = self.now;
        }
        self.queue.push_back(id);
        self.expire();
        if self.queue.len() > 1000 {
            self.queue.pop_back();
            self.shed(id);
        }
        self.look();
    }

    fn standing(&self) -> bool {
        self.last_empty < self.now - 0.1
    }

    fn expire(&mut self) {
        let bound = if self.standing() { 0.02 } else { 0.1 };
        while let Some(&oldest) = self.queue.front() {
            if self.now - self.attempts[oldest].sent <= bound {
                break;
            }
            self.queue.pop_front();
            self.shed(oldest);
        }
        if self.queue.is_empty() {
            self.last_empty = self.now;
        }
    }

    fn shed(&mut self, id: usize) {
        self.second().shed += 1;
        if self.busy >= self.phase.workers {
            self.debt += REJECT_COST;
        }
        self.failed(id, true);
    }

    fn touch(&mut self) {
        let dt = self.now - self.touched;
        self.window.in_flight_integral += self.in_flight as f64 * dt;
        if self.in_flight >= self.permits {
            self.full_for += dt;
        }
        self.touched = self.now;
    }

    fn admit(&mut self, id: usize) {
        self.touch();
        self.in_flight += 1;
        self.window.peak_in_flight = self.window.peak_in_flight.max(self.in_flight);
        self.attempts[id].state = State::InFlight;
        self.attempts[id].admitted = self.now;
        self.hidden.push_back(id);
        self.work();
    }

    fn hand_over(&mut self) {
        while self.in_flight < self.permits {
            self.expire();
            let next = match self.standing() {
                true => self.queue.pop_back(),
                false => self.queue.pop_front(),
            };
            let Some(next) = next else { break };
            if self.queue.is_empty() {
                self.last_empty = self.now;
            }
            self.admit(next);
        }
    }

    fn leave(&mut self, id: usize, completed: bool) {
        self.touch();
        self.in_flight -= 1;
        let latency = self.now - self.attempts[id].admitted;
        let window = &mut self.window;
        if completed {
            window.completions += 1;
            window.latency_sum += latency;
            window.latency_squares += latency * latency;
            window.latency_min = window.latency_min.min(latency);
        } else if latency < self.close.short.as_secs_f64() {
            window.in_flight_integral -= latency;
        } else {
            window.lost += 1;
        }
        self.look();
        self.hand_over();
    }

    fn look(&mut self) {
        let so_far = WindowProgress {
            elapsed: Duration::from_secs_f64(self.now - self.opened),
            ends: self.window.ends(),
            in_flight: self.in_flight,
            peak_in_flight: self.window.peak_in_flight,
            limit: self.permits,
        };
        if !self.close.is_over(&so_far) {
            return;
        }
        self.touch();
        let now = time(self.now);
        self.window.ended = now;
        let (full, all) = match self.setup.by_arrivals {
            true => (self.arrived_full.into(), self.arrived.into()),
            false => (self.full_for, self.now - self.opened),
        };
        self.window.saturated_share = if all > 0.0 { full / all } else { 0.0 };
        self.permits = self.limit.on_window(&self.window, now).max(1);
        self.close = self.limit.close();
        self.window = SampleWindow::starting(now, self.permits);
        self.window.peak_in_flight = self.in_flight;
        self.window.used = !self.queue.is_empty();
        self.opened = self.now;
        self.full_for = 0.0;
        (self.arrived, self.arrived_full) = (0, 0);
        self.hand_over();
    }

    // The service.

    fn work(&mut self) {
        while self.busy < self.phase.workers {
            let Some(id) = self.hidden.pop_front() else {
                break;
            };
            self.busy += 1;
            let mean = self.phase.mean;
            let takes = match self.setup.service {
                Service::Lognormal(cv) => self.rng.lognormal(mean, cv),
                Service::Bimodal if self.rng.unit() < 0.05 => 10.0 * mean,
                Service::Bimodal => mean * 0.5 / 0.95,
            };
            let takes = takes + std::mem::take(&mut self.debt);
            self.at(self.now + takes, What::Done(id));
        }
    }

    fn done(&mut self, id: usize) {
        self.busy -= 1;
        if self.attempts[id].state == State::InFlight {
            self.attempts[id].state = State::Over;
            self.succeeded(id);
            self.leave(id, true);
        }
        self.work();
    }
}

fn time(seconds: f64) -> Time {
    Time::from_nanos((seconds * 1e9) as u64)
}
