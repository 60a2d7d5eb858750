//! Virtual time, finer than tokio's.
//!
//! Tokio's timers tick in milliseconds: a service time of 10 ms would become 10.5 ms on average.
//! So what belongs to the simulated world (arrivals, hops, work) keeps an agenda of its own, on a
//! grid of 20 µs, and moves tokio's paused clock from one of its events to the next. The layers
//! under test read that clock and use tokio's timers as they always do.
//!
//! Runs with the same seed are equal to the last bit. For that, tokio's ticks and the layers' time
//! must lie the same way on the grid in every process: see [`run`].

use buttress::Time;
use std::{
    cell::RefCell,
    cmp::Reverse,
    collections::BinaryHeap,
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

/// A time or a length of time, in steps of the grid.
pub(crate) type Steps = u64;

const STEP_NANOS: u64 = 20_000;
/// Tokio's timers fire at whole ones of these.
const TICK: Steps = 1_000_000 / STEP_NANOS;
pub(crate) const SECOND: Steps = 1_000 * TICK;

thread_local!(static AGENDA: RefCell<Agenda> = RefCell::default());

#[derive(Default)]
struct Agenda {
    now: Steps,
    events: BinaryHeap<Reverse<Event>>,
    count: u64,
}

/// Ordered by time, then by when it was put down.
struct Event {
    at: Steps,
    number: u64,
    waker: Waker,
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}
impl Eq for Event {}
impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Event {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// The time since the simulation began.
pub(crate) fn now() -> Steps {
    AGENDA.with_borrow(|agenda| agenda.now)
}

pub(crate) fn steps(seconds: f64) -> Steps {
    (seconds * SECOND as f64).round() as Steps
}

pub(crate) fn seconds(steps: Steps) -> f64 {
    steps as f64 / SECOND as f64
}

/// Waits for so long.
pub(crate) fn delay(steps: Steps) -> Delay {
    Delay {
        until: now() + steps,
        known: false,
    }
}

/// Waits until then.
pub(crate) fn delay_until(until: Steps) -> Delay {
    Delay {
        until,
        known: false,
    }
}

pub(crate) struct Delay {
    until: Steps,
    known: bool,
}

impl Future for Delay {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        AGENDA.with_borrow_mut(|agenda| {
            if agenda.now >= self.until {
                return Poll::Ready(());
            }
            // A task's waker never changes, and these futures never change tasks.
            if !self.known {
                self.known = true;
                agenda.count += 1;
                agenda.events.push(Reverse(Event {
                    at: self.until,
                    number: agenda.count,
                    waker: cx.waker().clone(),
                }));
            }
            Poll::Pending
        })
    }
}

/// Runs what `begin` spawns, in virtual time, for so long.
pub(crate) fn run<T>(length: Steps, begin: impl FnOnce() -> T) -> T {
    AGENDA.set(Agenda::default());
    let runtime = aligned();
    runtime.block_on(async {
        // Far enough for any process to be younger.
        let beginning = Time::from_nanos(200_000 * 1_000_000_000);
        let ticks = beginning.since(Time::now()).as_micros().div_ceil(1_000);
        tokio::time::advance(Duration::from_millis(ticks as u64)).await;
        let world = begin();
        tokio::task::yield_now().await;
        drive(length).await;
        world
    })
}

async fn drive(length: Steps) {
    loop {
        let (from, to) = AGENDA.with_borrow_mut(|agenda| {
            let from = agenda.now;
            let tick = (from / TICK + 1) * TICK;
            let next = agenda.events.peek().map_or(tick, |event| event.0.at);
            agenda.now = next.min(tick).max(from);
            (from, agenda.now)
        });
        if to >= length {
            return;
        }
        while let Some(waker) = AGENDA.with_borrow_mut(|agenda| {
            let due = agenda.events.peek().is_some_and(|event| event.0.at <= to);
            due.then(|| agenda.events.pop())
                .flatten()
                .map(|event| event.0.waker)
        }) {
            waker.wake();
        }
        // Every task runs until all are idle, then tokio's timers, and then this one.
        tokio::time::advance(Duration::from_nanos((to - from) * STEP_NANOS)).await;
        if to % TICK == 0 {
            // Those that the timers have woken.
            tokio::task::yield_now().await;
        }
    }
}

/// A runtime whose clock stands at a whole millisecond of the layers' time, but for less than a
/// step. Then whatever happens on the grid is on the same side of every whole millisecond, be it
/// tokio's or the layers', in every process.
fn aligned() -> tokio::runtime::Runtime {
    loop {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            // The driver comes back when nothing else can run, not sooner.
            .event_interval(u32::MAX)
            .build()
            .expect("a runtime");
        let entered = runtime.enter();
        let off = Time::now().as_nanos() % 1_000_000;
        drop(entered);
        if off < STEP_NANOS {
            return runtime;
        }
    }
}
