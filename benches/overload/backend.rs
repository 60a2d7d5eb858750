//! The bottleneck: so many workers, and a first-in-first-out queue that nobody outside can see.

use crate::{
    clock::{self, Steps},
    dice,
    net::{Fault, Request},
};
use std::{
    collections::{HashMap, VecDeque},
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};
use tower::Service;

/// Seconds of a worker's time that a request costs on average.
pub(crate) const WORK: f64 = 0.010;
/// The same for one that is refused while all workers are busy.
const REFUSAL: f64 = 0.000_1;

/// How long requests take.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Times {
    /// Lognormal, with this coefficient of variation.
    Lognormal(f64),
    /// One in ten takes 55 ms, the others 5 ms.
    Bimodal,
}

impl Times {
    fn draw(self) -> f64 {
        match self {
            Self::Lognormal(cv) => {
                let variance = (1.0 + cv * cv).ln();
                let (u, v) = (1.0 - dice::unit(), dice::unit());
                let normal = (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos();
                WORK * (normal * variance.sqrt() - variance / 2.0).exp()
            }
            Self::Bimodal => match dice::unit() < 0.1 {
                true => 0.055,
                false => 0.005,
            },
        }
    }
}

/// The workers and their queue. As a service it answers when the work is done. It does not notice
/// when a caller has gone: what was queued will be worked on.
#[derive(Clone)]
pub(crate) struct Backend(Arc<Mutex<State>>);

struct State {
    times: Times,
    /// How many times slower everything is now.
    slowdown: f64,
    workers: usize,
    busy: usize,
    queue: VecDeque<u64>,
    /// Work for refusals that has not been charged to a worker yet.
    debt: f64,
    waiting: HashMap<u64, Option<Waker>>,
    next: u64,
}

impl Backend {
    pub(crate) fn new(workers: usize, times: Times) -> Self {
        Self(Arc::new(Mutex::new(State {
            times,
            slowdown: 1.0,
            workers,
            busy: 0,
            queue: VecDeque::new(),
            debt: 0.0,
            waiting: HashMap::new(),
            next: 0,
        })))
    }

    pub(crate) fn slow_down(&self, times: f64) {
        self.state(|state| state.slowdown = times);
    }

    pub(crate) fn set_workers(&self, workers: usize) {
        self.state(|state| state.workers = workers);
        self.set_to_work();
    }

    /// Something in front of the workers has refused a request.
    pub(crate) fn refused(&self) {
        self.state(|state| {
            if state.busy >= state.workers {
                state.debt += REFUSAL;
            }
        });
    }

    fn set_to_work(&self) {
        while let Some((number, time)) = self.state(State::begin) {
            let backend = self.clone();
            tokio::spawn(async move {
                clock::delay(time).await;
                let waker = backend.state(|state| {
                    state.busy -= 1;
                    state.waiting.remove(&number).flatten()
                });
                if let Some(waker) = waker {
                    waker.wake();
                }
                backend.set_to_work();
            });
        }
    }

    fn state<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.0.lock().expect("no panics"))
    }
}

impl State {
    /// A worker takes up a request.
    fn begin(&mut self) -> Option<(u64, Steps)> {
        if self.busy >= self.workers {
            return None;
        }
        let number = self.queue.pop_front()?;
        self.busy += 1;
        let work = self.times.draw() * self.slowdown + std::mem::take(&mut self.debt);
        Some((number, clock::steps(work).max(1)))
    }
}

impl Service<Request> for Backend {
    type Response = ();
    type Error = Fault;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request) -> Answer {
        let number = self.state(|state| {
            state.next += 1;
            state.queue.push_back(state.next);
            state.waiting.insert(state.next, None);
            state.next
        });
        self.set_to_work();
        Answer {
            backend: self.clone(),
            number,
        }
    }
}

/// The answer to one request.
pub(crate) struct Answer {
    backend: Backend,
    number: u64,
}

impl Future for Answer {
    type Output = Result<(), Fault>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.backend
            .state(|state| match state.waiting.get_mut(&self.number) {
                None => Poll::Ready(Ok(())),
                Some(waker) => {
                    *waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            })
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        let left = self
            .backend
            .state(|state| state.waiting.remove(&self.number));
        drop(left);
    }
}
