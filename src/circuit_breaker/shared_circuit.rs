//! A circuit that calls look at without a lock.
//!
//! Calls read one word, which is written on transitions only: reading it costs every thread
//! nothing. Transitions are rare, so they take a lock.

use super::{
    circuit::{Circuit, PendingTransition},
    config::Config,
    phase::{CircuitWord, Phase},
    snapshot::{State, Transition},
    wakers::Wakers,
};
use crate::{
    clock::{Now, Time},
    events::{self, Event},
    shared::{Padded, lock},
};
use std::{
    sync::{
        Mutex, OnceLock,
        atomic::{
            AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    task::Context,
};
use tokio::sync::watch;

/// # Invariants
/// 1. While nobody holds the lock, what is published is what the circuit says.
/// 2. Who sees a word sees `until` as it was written with it, or later.
/// 3. Nobody is told of anything, or woken, under the lock.
#[derive(Debug)]
pub(super) struct SharedCircuit {
    published: Padded<PublishedCircuit>,
    circuit: Mutex<Circuit>,
    /// Before this time the dependency does not want to be called. Written by calls, without the
    /// lock.
    not_before: AtomicU64,
    wakers: Wakers,
    name: &'static str,
    events: OnceLock<watch::Sender<Transition>>,
}

#[derive(Debug)]
struct PublishedCircuit {
    word: AtomicU64,
    /// When the phase ends, if it has an end. Written before the word.
    until: AtomicU64,
}

impl SharedCircuit {
    pub(super) fn new(cfg: &Config) -> Self {
        let circuit = Circuit::new(cfg);
        Self {
            published: Padded(PublishedCircuit {
                word: AtomicU64::new(circuit.word().bits()),
                until: AtomicU64::new(circuit.until().0),
            }),
            circuit: Mutex::new(circuit),
            not_before: AtomicU64::new(0),
            wakers: Wakers::default(),
            name: cfg.name,
            events: OnceLock::new(),
        }
    }

    #[inline]
    pub(super) fn word(&self) -> CircuitWord {
        CircuitWord::from_bits(self.published.0.word.load(Acquire))
    }

    pub(super) fn until(&self) -> Time {
        Time(self.published.0.until.load(Relaxed))
    }

    pub(super) fn not_before(&self) -> Time {
        Time(self.not_before.load(Relaxed))
    }

    /// Keeps the circuit open until this time, should it open.
    pub(super) fn set_not_before(&self, time: Time) {
        self.not_before.store(time.0, Relaxed);
    }

    /// Returns what the next call would find.
    pub(super) fn state(&self, now: Time) -> State {
        self.word().state(self.until(), now)
    }

    /// Reads what is not published, as it was at one moment.
    pub(super) fn read<T>(&self, look: impl FnOnce(&Circuit) -> T) -> T {
        look(&lock(&self.circuit))
    }

    /// Makes a transition. What `change` does besides has happened before any call sees it.
    pub(super) fn transition(&self, change: impl FnOnce(&mut Circuit) -> PendingTransition) {
        self.change(|circuit| ((), change(circuit)));
    }

    /// Makes a change that has an answer too.
    pub(super) fn change<T>(
        &self,
        change: impl FnOnce(&mut Circuit) -> (T, PendingTransition),
    ) -> T {
        let mut circuit = lock(&self.circuit);
        let (before, until_before) = (circuit.word(), circuit.until());
        debug_assert_eq!(self.word(), before, "another word is published");
        let (answer, pending) = change(&mut circuit);
        let (word, until) = (circuit.word(), circuit.until());
        // Not written in vain: every call reads them.
        if until != until_before {
            self.published.0.until.store(until.0, Relaxed);
        }
        if word != before {
            self.published.0.word.store(word.bits(), Release);
        }
        drop(circuit);
        self.tell(pending);
        // Whoever is parked behind a service that is not ready gets its rejection now: also when it
        // was open before, since past its deadline it refused nobody.
        if word != before && (word.is(Phase::Open) || word.is(Phase::ForcedOpen)) {
            self.wakers.wake_all();
        }
        // Last: the application's code may take its time.
        self.emit(pending);
        answer
    }

    #[inline]
    fn emit(&self, PendingTransition(transition): PendingTransition) {
        // A closed breaker that is reset stays what it was.
        if let Some(transition) = transition
            && transition.from != transition.to
        {
            let policy = self.name;
            events::emit(|| Event::StateChanged { policy, transition });
        }
    }

    fn tell(&self, PendingTransition(transition): PendingTransition) {
        if let Some(transition) = transition
            && let Some(events) = self.events.get()
        {
            // Two threads may get here in the wrong order; the earlier transition stays unsaid.
            events.send_if_modified(|last| {
                let later = transition.epoch > last.epoch;
                if later {
                    *last = transition;
                }
                later
            });
        }
    }

    pub(super) fn transitions(&self) -> watch::Receiver<Transition> {
        // Under the lock, so that no transition falls between the last one and the channel.
        let circuit = lock(&self.circuit);
        let events = self
            .events
            .get_or_init(|| watch::Sender::new(circuit.last()));
        events.subscribe()
    }

    #[inline]
    pub(super) fn poll_closed(&self, cx: &mut Context<'_>, now: &Now) -> bool {
        // Parked first, so that a trip between a look and the parking is not missed.
        self.refuses_all(now) || {
            self.wakers.park(cx.waker(), now);
            self.refuses_all(now)
        }
    }

    /// Returns `None` if a call would be let in. If it would not: until when, if that is known.
    pub(super) fn refused_until(&self, now: &Now) -> Option<Option<Time>> {
        let word = self.word();
        match word.phase() {
            Phase::ForcedOpen => Some(Some(Time(u64::MAX))),
            _ if word.is_observing() => None,
            Phase::Open => {
                let until = self.until();
                (now.get() < until).then_some(Some(until))
            }
            Phase::HalfOpen => {
                let now = now.get();
                self.read(|circuit| match circuit.retry_after(now) {
                    Some(wait) => Some(Some(now.after(wait))),
                    None => circuit.is_probed(now).then_some(None),
                })
            }
            Phase::Closed | Phase::ForcedClosed | Phase::Ramp => None,
        }
    }

    fn refuses_all(&self, now: &Now) -> bool {
        let word = self.word();
        match word.phase() {
            Phase::ForcedOpen => true,
            Phase::Open => !word.is_observing() && now.get() < self.until(),
            _ => false,
        }
    }
}
