//! What is measured: a call that can be made again and again, on any number of threads.

use futures::executor::block_on;
use std::{
    future::{Future, Ready, poll_fn, ready},
    hint::black_box,
    pin::{Pin, pin},
    sync::Mutex,
    task::{Context, Poll, Waker},
};
use tower::Service;

/// The error of the bare service.
pub type Error = buttress::Error<std::num::ParseIntError>;

/// What a call came to.
#[derive(Clone, Copy)]
pub enum Answer {
    Right,
    Wrong,
    /// It was right, but had to sleep for it.
    Slept,
}

impl From<bool> for Answer {
    fn from(right: bool) -> Self {
        if right { Self::Right } else { Self::Wrong }
    }
}

/// A number of calls that were made.
#[derive(Clone, Copy, Default)]
pub struct Calls {
    pub made: u32,
    pub wrong: u32,
    pub slept: u32,
}

/// Makes up to so many calls on the thread that it belongs to: fewer if one of them sleeps.
pub type Job = Box<dyn FnMut(u32) -> Calls>;

/// A line of the table.
pub struct Row {
    pub name: &'static str,
    job: Box<dyn Fn() -> Job + Send + Sync>,
}

impl Row {
    /// `make` makes, on each thread, what is called there.
    pub fn new<C: FnMut() -> Answer + 'static>(
        name: &'static str,
        make: impl Fn() -> C + Send + Sync + 'static,
    ) -> Self {
        let job = move || -> Job {
            let mut call = make();
            Box::new(move |upto| {
                let mut calls = Calls::default();
                while calls.made < upto && calls.slept == 0 {
                    calls.made += 1;
                    match call() {
                        Answer::Right => {}
                        Answer::Wrong => calls.wrong += 1,
                        Answer::Slept => calls.slept += 1,
                    }
                }
                calls
            })
        };
        Self {
            name,
            job: Box::new(job),
        }
    }

    /// A service that each thread has one clone of.
    pub fn service<S>(name: &'static str, service: S, right: Right<S>) -> Self
    where
        S: Service<u64> + Clone + Send + 'static,
    {
        let service = Mutex::new(service);
        Self::new(name, move || {
            let mut service = service.lock().unwrap().clone();
            let mut keys = Keys::default();
            move || call(&mut service, keys.draw(), right)
        })
    }

    /// A service whose calls have ended at their second poll: what arms a timer has armed it.
    pub fn pending_once<S>(name: &'static str, service: S, right: Right<S>) -> Self
    where
        S: Service<u64> + Clone + Send + 'static,
    {
        let service = Mutex::new(service);
        Self::new(name, move || {
            let mut service = service.lock().unwrap().clone();
            let mut keys = Keys::default();
            move || call_twice_polled(&mut service, keys.draw(), right)
        })
    }

    /// A service whose calls are dropped after their first poll, which must not end them.
    pub fn cancelled<S>(name: &'static str, service: S) -> Self
    where
        S: Service<u64> + Clone + Send + 'static,
    {
        let service = Mutex::new(service);
        Self::new(name, move || {
            let mut service = service.lock().unwrap().clone();
            let mut keys = Keys::default();
            let mut cx = Context::from_waker(Waker::noop());
            move || {
                let ready = service.poll_ready(&mut cx).is_ready();
                let call = pin!(service.call(black_box(keys.draw())));
                Answer::from(ready && call.poll(&mut cx).is_pending())
            }
        })
    }

    /// A service that is cloned for each call, as axum does.
    pub fn cloned<S>(name: &'static str, service: S, right: Right<S>) -> Self
    where
        S: Service<u64> + Clone + Send + 'static,
    {
        let service = Mutex::new(service);
        Self::new(name, move || {
            let service = service.lock().unwrap().clone();
            let mut keys = Keys::default();
            move || call(&mut service.clone(), keys.draw(), right)
        })
    }

    /// The job of the calling thread.
    pub fn job(&self) -> Job {
        (self.job)()
    }
}

type Right<S> = fn(&Result<<S as Service<u64>>::Response, <S as Service<u64>>::Error>) -> bool;

/// One call of a service: made ready, called, and polled once.
#[inline]
pub fn call<S, Req>(
    service: &mut S,
    req: Req,
    right: fn(&Result<S::Response, S::Error>) -> bool,
) -> Answer
where
    S: Service<Req>,
{
    let cx = &mut Context::from_waker(Waker::noop());
    let mut slept = false;
    let is_ready = match service.poll_ready(cx) {
        Poll::Ready(result) => result,
        Poll::Pending => {
            slept = true;
            block_on(poll_fn(|cx| service.poll_ready(cx)))
        }
    };
    if is_ready.is_err() {
        return Answer::Wrong;
    }
    let answer = once(service.call(black_box(req)), right);
    match answer {
        Answer::Right if slept => Answer::Slept,
        answer => answer,
    }
}

/// One call of a service that is always ready, polled twice.
#[inline]
fn call_twice_polled<S, Req>(
    service: &mut S,
    req: Req,
    right: fn(&Result<S::Response, S::Error>) -> bool,
) -> Answer
where
    S: Service<Req>,
{
    let cx = &mut Context::from_waker(Waker::noop());
    if !matches!(service.poll_ready(cx), Poll::Ready(Ok(()))) {
        return Answer::Wrong;
    }
    let mut call = pin!(service.call(black_box(req)));
    if call.as_mut().poll(cx).is_ready() {
        return Answer::Wrong;
    }
    once(call, right)
}

/// Polls a call once, and sleeps until it has ended if that was not enough.
#[inline]
pub fn once<F: Future>(call: F, right: fn(&F::Output) -> bool) -> Answer {
    let mut call = pin!(call);
    match call.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => right(&black_box(result)).into(),
        Poll::Pending => match right(&block_on(call)) {
            true => Answer::Slept,
            false => Answer::Wrong,
        },
    }
}

/// Answers with what it is asked.
#[derive(Clone, Debug)]
pub struct Bare;

impl Service<u64> for Bare {
    type Response = u64;
    type Error = Error;
    type Future = Ready<Result<u64, Error>>;

    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }
    #[inline]
    fn call(&mut self, req: u64) -> Self::Future {
        ready(Ok(req))
    }
}

/// Answers with what it is asked, at the second poll.
#[derive(Clone, Debug)]
pub struct PendingOnce;

impl Service<u64> for PendingOnce {
    type Response = u64;
    type Error = Error;
    type Future = SecondPoll;

    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }
    #[inline]
    fn call(&mut self, answer: u64) -> Self::Future {
        let pending = true;
        SecondPoll { answer, pending }
    }
}

/// A call that ends at its second poll.
#[derive(Debug)]
pub struct SecondPoll {
    answer: u64,
    pending: bool,
}

impl Future for SecondPoll {
    type Output = Result<u64, Error>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        match std::mem::take(&mut self.pending) {
            true => Poll::Pending,
            false => Poll::Ready(Ok(self.answer)),
        }
    }
}

/// How many keys the keyed rows use.
pub const KEYS: u64 = 100_000;

/// Requests whose keys come in no order that a cache could guess.
#[derive(Default)]
pub struct Keys(u64);

impl Keys {
    #[inline]
    pub fn draw(&mut self) -> u64 {
        // Knuth's MMIX generator; its upper bits, scaled to the number of keys.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 32) * KEYS) >> 32
    }
}
