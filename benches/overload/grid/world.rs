//! A service with a queue that nobody outside sees, behind a real load shed, in virtual time.
//!
//! Callers come at random and leave after a while; the service works on for them, and their permit
//! comes back: the harsh case. Streams take a permit and keep it. The load shed is asked by its
//! guard, and told the time with each question, so nothing here depends on the machine.

use super::{
    cell::{Cell, Happens, Outcomes},
    random::Random,
};
use buttress::{
    Guard, GuardBase, LoadShed, Now, Outcome, Time,
    guard::{Admission, End, WaitProgress},
    load_shed::{Permit, QueueWait, Queued},
};
use std::{
    cmp::Ordering,
    collections::{BinaryHeap, VecDeque},
    sync::{Arc, Mutex},
    task::{Context, Wake, Waker},
};

#[derive(Debug)]
enum Stage {
    Waits(QueueWait),
    InFlight(Permit),
    Over,
}

#[derive(Debug)]
struct Call {
    came: f64,
    stage: Stage,
    stream: bool,
    waker: Option<Arc<CallWaker>>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum What {
    Arrival,
    Stream,
    Leaves(usize),
    /// A worker has done the work for this call.
    Done(usize),
    Fails(usize),
    /// A wait is over at the latest.
    Timer(usize),
    Begins,
    Ends,
}

#[derive(Debug)]
struct Event(f64, u64, What);

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Event {}
impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Event {
    /// The soonest is the greatest.
    fn cmp(&self, other: &Self) -> Ordering {
        other.0.total_cmp(&self.0).then(other.1.cmp(&self.1))
    }
}

type Woken = Arc<Mutex<Vec<usize>>>;

#[derive(Debug)]
struct CallWaker {
    call: usize,
    woken: Woken,
}

impl Wake for CallWaker {
    fn wake(self: Arc<Self>) {
        if let Ok(mut woken) = self.woken.lock() {
            woken.push(self.call);
        }
    }
}

#[derive(Debug)]
pub(crate) struct World {
    cell: Cell,
    shed: LoadShed,
    queued: Queued,
    random: Random,
    now: f64,
    order: u64,
    events: BinaryHeap<Event>,
    calls: Vec<Call>,
    woken: Woken,
    // The service.
    hidden: VecDeque<usize>,
    busy: usize,
    workers: usize,
    slower: f64,
    stands: bool,
    held: Vec<usize>,
    // What is seen.
    outcomes: Outcomes,
    latencies: Vec<f32>,
}

/// The first seconds, which are not judged: more if so many streams come in the first one that the
/// limit takes longer to learn of them.
fn not_judged(cell: &Cell) -> f64 {
    if cell.streams > 20 { 8.0 } else { 2.0 }
}

impl World {
    pub(crate) fn new(cell: Cell, shed: LoadShed) -> Self {
        Self {
            cell,
            queued: shed.queued(),
            shed,
            random: Random::new(cell.seed),
            now: 0.0,
            order: 0,
            events: BinaryHeap::new(),
            calls: Vec::new(),
            woken: Woken::default(),
            hidden: VecDeque::new(),
            busy: 0,
            workers: cell.workers,
            slower: 1.0,
            stands: false,
            held: Vec::new(),
            outcomes: Outcomes::default(),
            latencies: Vec::new(),
        }
    }

    pub(crate) fn run(mut self) -> Outcomes {
        for stream in 0..self.cell.streams {
            self.at(0.01 * stream as f64, What::Stream);
        }
        if let Happens::Pause(from, lasts)
        | Happens::Slow(from, lasts, _)
        | Happens::Workers(from, lasts, _) = self.cell.happens
        {
            self.at(from, What::Begins);
            self.at(from + lasts, What::Ends);
        }
        self.at(0.0, What::Arrival);
        while let Some(Event(at, _, what)) = self.events.pop() {
            if at > self.cell.seconds {
                break;
            }
            self.now = at;
            self.happens(what);
            self.poll_woken();
            if let What::Done(_) = what
                && self.order.is_multiple_of(16)
            {
                let limit = self.shed.snapshot().limit;
                self.outcomes.highest = self.outcomes.highest.max(limit);
            }
        }
        self.latencies.sort_by(f32::total_cmp);
        let snapshot = self.shed.snapshot();
        Outcomes {
            p99: (self.latencies.get(self.latencies.len() * 99 / 100))
                .map_or(9.9, |p| f64::from(*p)),
            limit: snapshot.limit,
            long_lived: snapshot.long_lived,
            ..self.outcomes
        }
    }

    fn at(&mut self, at: f64, what: What) {
        self.order += 1;
        self.events.push(Event(at, self.order, what));
    }

    fn time(&self) -> Now {
        Now::at(Time::from_nanos((self.now * 1e9) as u64 + 1))
    }

    fn is_judged(&self, came: f64) -> bool {
        came > not_judged(&self.cell)
    }

    fn happens(&mut self, what: What) {
        match what {
            What::Arrival => self.arrival(),
            What::Stream => self.stream(),
            What::Leaves(id) => self.leaves(id),
            What::Done(id) if self.stands => self.held.push(id),
            What::Done(id) => self.done(id),
            What::Fails(id) => self.end(id, End::Done(Outcome::Failure)),
            What::Timer(id) => self.poll(id),
            What::Begins | What::Ends => self.changes(what == What::Begins),
        }
    }

    fn changes(&mut self, begins: bool) {
        match self.cell.happens {
            Happens::Pause(..) => self.stands = begins,
            Happens::Slow(_, _, times) => self.slower = if begins { times } else { 1.0 },
            Happens::Workers(_, _, times) => {
                let workers = self.cell.workers as f64 * if begins { times } else { 1.0 };
                self.workers = (workers as usize).max(1);
            }
            Happens::Nothing | Happens::NoQueue | Happens::Hangs => {}
        }
        for id in std::mem::take(&mut self.held) {
            self.at(self.now, What::Done(id));
        }
        self.work();
    }

    fn call(&mut self, stream: bool) -> usize {
        self.calls.push(Call {
            came: self.now,
            stage: Stage::Over,
            stream,
            waker: None,
        });
        self.calls.len() - 1
    }

    fn arrival(&mut self) {
        let rate = self.cell.load * self.cell.workers as f64 / self.cell.mean;
        let next = self.now + self.random.exponential(1.0 / rate);
        self.at(next, What::Arrival);
        let id = self.call(false);
        self.outcomes.offered += u64::from(self.is_judged(self.now));
        if self.admit(id) {
            self.at(self.now + self.cell.patience, What::Leaves(id));
        } else {
            self.shed_one(id);
            // Nobody knows of it.
            self.calls.pop();
        }
    }

    fn shed_one(&mut self, id: usize) {
        let came = self.calls[id].came;
        self.outcomes.shed += u64::from(self.is_judged(came) && !self.calls[id].stream);
    }

    fn stream(&mut self) {
        let id = self.call(true);
        if !self.admit(id) {
            self.at(self.now + 0.1, What::Stream);
        }
    }

    /// Returns whether it was let in, or waits.
    fn admit(&mut self, id: usize) -> bool {
        let now = self.time();
        let admission = match self.cell.queued {
            true => self.queued.admit(&(), &now),
            false => match self.shed.admit(&(), &now) {
                Admission::Admitted(permit) => Admission::Admitted(permit),
                Admission::Refused(why) => Admission::Refused(why),
                Admission::Wait(never) => match never {},
            },
        };
        match admission {
            Admission::Admitted(permit) => self.begin(id, permit),
            Admission::Refused(_) => return false,
            Admission::Wait(wait) => {
                let woken = Arc::clone(&self.woken);
                self.calls[id].waker = Some(Arc::new(CallWaker { call: id, woken }));
                self.calls[id].stage = Stage::Waits(wait);
                self.poll(id);
            }
        }
        true
    }

    fn poll(&mut self, id: usize) {
        let now = self.time();
        let Call { stage, waker, .. } = &mut self.calls[id];
        let (Stage::Waits(wait), Some(waker)) = (stage, waker) else {
            return;
        };
        let waker = Waker::from(Arc::clone(waker));
        let progress = self
            .queued
            .poll_wait(wait, &(), &mut Context::from_waker(&waker), &now);
        match progress {
            WaitProgress::Admitted(permit) => self.begin(id, permit),
            WaitProgress::Refused(_) => {
                self.calls[id].stage = Stage::Over;
                self.shed_one(id);
                if self.calls[id].stream {
                    self.at(self.now + 0.1, What::Stream);
                }
            }
            WaitProgress::Pending(until) => {
                if let Some(until) = until {
                    let until = (until.as_nanos() - 1) as f64 * 1e-9;
                    self.at(until.max(self.now + 1e-6), What::Timer(id));
                }
            }
        }
    }

    fn poll_woken(&mut self) {
        loop {
            let woken = match self.woken.lock() {
                Ok(mut woken) => std::mem::take(&mut *woken),
                Err(_) => return,
            };
            if woken.is_empty() {
                return;
            }
            woken.into_iter().for_each(|id| self.poll(id));
        }
    }

    fn begin(&mut self, id: usize, mut permit: Permit) {
        self.shed.on_pending(&mut permit, &self.time());
        self.calls[id].stage = Stage::InFlight(permit);
        if self.calls[id].stream {
            return;
        }
        match self.cell.happens {
            Happens::NoQueue if self.busy >= self.workers => {
                self.at(self.now + 0.001, What::Fails(id));
            }
            Happens::Hangs if self.random.unit() < 1.0 / 7.0 => {}
            _ => {
                self.hidden.push_back(id);
                self.work();
            }
        }
    }

    fn work(&mut self) {
        while !self.stands && self.busy < self.workers {
            let Some(id) = self.hidden.pop_front() else {
                return;
            };
            self.busy += 1;
            let takes = self.random.time(self.cell.times, self.cell.mean) * self.slower;
            self.at(self.now + takes, What::Done(id));
        }
    }

    fn done(&mut self, id: usize) {
        self.busy -= 1;
        let Call {
            came, ref stage, ..
        } = self.calls[id];
        if let Stage::InFlight(_) = stage {
            if self.is_judged(came) {
                self.outcomes.served += 1;
            }
            if came > self.cell.seconds / 6.0 {
                self.latencies.push((self.now - came) as f32);
            }
            if let Some(over) = self.cell.happens.over() {
                let since = self.now - over;
                self.outcomes.back += u64::from((2.0..12.0).contains(&since));
            }
        }
        self.end(id, End::Done(Outcome::Success));
        self.work();
    }

    fn leaves(&mut self, id: usize) {
        match std::mem::replace(&mut self.calls[id].stage, Stage::Over) {
            Stage::Waits(wait) => {
                self.queued.abandon(wait, &self.time());
                self.shed_one(id);
            }
            Stage::InFlight(permit) => self.shed.settle(permit, End::Cancelled, &self.time()),
            Stage::Over => {}
        }
    }

    fn end(&mut self, id: usize, end: End) {
        if let Stage::InFlight(permit) = std::mem::replace(&mut self.calls[id].stage, Stage::Over) {
            self.shed.settle(permit, end, &self.time());
        }
    }
}
