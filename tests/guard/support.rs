//! Guards that decide as they are told and write down what happens to them, and services to guard.

use buttress::{
    Guard, GuardBase, Now, Rejected, Time,
    guard::{Admission, End, Never, WaitProgress},
};
use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, Waker},
};
use tower::Service;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Event {
    Admit,
    Refuse,
    Wait,
    Suspend,
    Abandon,
    Unready,
    Settle(End),
    /// Of a service, not of a guard: its call was dropped.
    Dropped,
}
pub(crate) use Event::*;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum E {
    Rejected(Rejected),
    Boom,
}
impl From<Rejected> for E {
    fn from(rejected: Rejected) -> Self {
        Self::Rejected(rejected)
    }
}

/// What happened, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<(&'static str, Event)>>>);

impl Log {
    pub(crate) fn note(&self, name: &'static str, event: Event) {
        self.0.lock().unwrap().push((name, event));
    }
    /// All that has happened since the last time.
    pub(crate) fn take(&self) -> Vec<(&'static str, Event)> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

#[derive(Debug, Default)]
struct State {
    refusal: Option<Rejected>,
    refuses_all: bool,
    /// Closed: a waiting guard waits.
    closed: bool,
    until: Option<Time>,
    waker: Option<Waker>,
}

/// What a test holds of its guard.
#[derive(Clone, Debug)]
pub(crate) struct Told(&'static str, Log, Arc<Mutex<State>>);

impl Told {
    fn new(name: &'static str, log: &Log) -> Self {
        Self(name, log.clone(), Arc::default())
    }
    fn state(&self) -> MutexGuard<'_, State> {
        self.2.lock().unwrap()
    }
    fn note(&self, event: Event) {
        self.1.note(self.0, event);
    }
    pub(crate) fn refuse(&self, rejected: impl Into<Option<Rejected>>) {
        self.state().refusal = rejected.into();
        self.wake();
    }
    pub(crate) fn refuse_all(&self, all: bool) {
        self.state().refuses_all = all;
        self.wake();
    }
    pub(crate) fn close(&self) {
        self.state().closed = true;
    }
    pub(crate) fn close_until(&self, time: Time) {
        let mut state = self.state();
        (state.closed, state.until) = (true, Some(time));
    }
    pub(crate) fn open(&self) {
        self.state().closed = false;
        self.wake();
    }
    fn wake(&self) {
        let waker = self.state().waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
    fn decide(&self) -> Result<(), Rejected> {
        match self.state().refusal {
            Some(rejected) => {
                self.note(Refuse);
                Err(rejected)
            }
            None => {
                self.note(Admit);
                Ok(())
            }
        }
    }
    fn refuses_all(&self, cx: &Context<'_>) -> bool {
        let mut state = self.state();
        state.waker = Some(cx.waker().clone());
        state.refuses_all
    }
}

/// The permit knows its guard, to see that none is handed to another one.
#[derive(Debug, PartialEq)]
pub(crate) struct Permit(&'static str);

/// Decides at once.
#[derive(Clone, Debug)]
pub(crate) struct Spy(pub(crate) Told);

impl Spy {
    pub(crate) fn new(name: &'static str, log: &Log) -> Self {
        Self(Told::new(name, log))
    }
}

impl GuardBase for Spy {
    type Permit = Permit;
    type Wait = Never;
    fn settle(&self, permit: Permit, end: End, _: &Now) {
        assert_eq!(permit.0, self.0.0);
        self.0.note(Settle(end));
    }
    fn on_pending(&self, _: &mut Permit, _: &Now) {
        self.0.note(Suspend);
    }
    fn poll_closed(&self, cx: &mut Context<'_>, _: &Now) -> bool {
        self.0.refuses_all(cx)
    }
    fn ready_failed(&self, _: &Now) {
        self.0.note(Unready);
    }
}

impl<Req> Guard<Req> for Spy {
    fn admit(&self, _: &Req, _: &Now) -> Admission<Permit> {
        match self.0.decide() {
            Ok(()) => Admission::Admitted(Permit(self.0.0)),
            Err(rejected) => Admission::Refused(rejected),
        }
    }
}

/// Waits while it is closed.
#[derive(Clone, Debug)]
pub(crate) struct Gate(pub(crate) Told);

impl Gate {
    pub(crate) fn new(name: &'static str, log: &Log) -> Self {
        Self(Told::new(name, log))
    }
}

impl GuardBase for Gate {
    type Permit = Permit;
    type Wait = Permit;
    fn settle(&self, permit: Permit, end: End, _: &Now) {
        assert_eq!(permit.0, self.0.0);
        self.0.note(Settle(end));
    }
    fn abandon(&self, wait: Permit, _: &Now) {
        assert_eq!(wait.0, self.0.0);
        self.0.note(Abandon);
    }
    fn ready_failed(&self, _: &Now) {
        self.0.note(Unready);
    }
}

impl<Req> Guard<Req> for Gate {
    fn admit(&self, _: &Req, _: &Now) -> Admission<Permit, Permit> {
        if self.0.state().closed {
            self.0.note(Wait);
            return Admission::Wait(Permit(self.0.0));
        }
        match self.0.decide() {
            Ok(()) => Admission::Admitted(Permit(self.0.0)),
            Err(rejected) => Admission::Refused(rejected),
        }
    }
    fn poll_wait(
        &self,
        wait: &mut Permit,
        _: &Req,
        cx: &mut Context<'_>,
        now: &Now,
    ) -> WaitProgress<Permit> {
        assert_eq!(wait.0, self.0.0);
        let mut state = self.0.state();
        state.waker = Some(cx.waker().clone());
        let over = state.until.is_some_and(|until| now.get() >= until);
        if state.closed && state.refusal.is_none() && !over {
            return WaitProgress::Pending(state.until);
        }
        drop(state);
        match self.0.decide() {
            Ok(()) => WaitProgress::Admitted(Permit(self.0.0)),
            Err(rejected) => WaitProgress::Refused(rejected),
        }
    }
}

/// Answers a number with itself after that many polls, and 0 with an error at once.
#[derive(Clone, Debug)]
pub(crate) struct Steps(pub(crate) Log);

impl Service<usize> for Steps {
    type Response = usize;
    type Error = E;
    type Future = StepsFuture;
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), E>> {
        Poll::Ready(Ok(()))
    }
    fn call(&mut self, answer: usize) -> StepsFuture {
        StepsFuture {
            answer,
            left: answer,
            log: self.0.clone(),
        }
    }
}

pub(crate) struct StepsFuture {
    answer: usize,
    left: usize,
    log: Log,
}

impl Future for StepsFuture {
    type Output = Result<usize, E>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.left > 1 {
            self.left -= 1;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(match self.answer {
            0 => Err(E::Boom),
            answer => Ok(answer),
        })
    }
}

impl Drop for StepsFuture {
    fn drop(&mut self) {
        self.log.note("call", Dropped);
    }
}

pub(crate) fn overloaded() -> Rejected {
    Rejected::new(buttress::Kind::Overloaded, "spy")
}
