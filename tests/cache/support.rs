//! A source that can be counted, held up and broken.

use buttress::{
    Error,
    cache::{Cache, CacheBuilder, Freshness, KeyRef},
};
use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::sync::Semaphore;

pub(crate) const MS: Duration = Duration::from_millis(1);
pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) type Answer = Result<u32, Error<Broken>>;

/// What the source fails with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Broken;

/// Fresh for 10 s, then answered while it is refreshed for 10 s, better than an error for 100 s.
pub(crate) const TERMS: Freshness = Freshness {
    fresh: Duration::from_secs(10),
    stale_while_revalidate: Duration::from_secs(10),
    stale_if_error: Duration::from_secs(100),
};

/// A cache of exact times.
pub(crate) fn terms() -> CacheBuilder {
    Cache::builder("items")
        .freshness(TERMS)
        .jitter(0.0)
        .early_refresh(0.0)
}

pub(crate) fn cache() -> Cache<u32> {
    terms().build().unwrap()
}

/// Answers with the number of the load.
#[derive(Clone)]
pub(crate) struct Source(Arc<State>);

struct State {
    loads: AtomicU32,
    broken: AtomicBool,
    gate: Semaphore,
    held_up: AtomicBool,
    takes: Duration,
}

impl Source {
    pub(crate) fn new() -> Self {
        Self::taking(Duration::ZERO)
    }

    pub(crate) fn taking(takes: Duration) -> Self {
        Self(Arc::new(State {
            loads: AtomicU32::new(0),
            broken: AtomicBool::new(false),
            gate: Semaphore::new(0),
            held_up: AtomicBool::new(false),
            takes,
        }))
    }

    pub(crate) fn loads(&self) -> u32 {
        self.0.loads.load(SeqCst)
    }

    pub(crate) fn broken(&self, broken: bool) {
        self.0.broken.store(broken, SeqCst);
    }

    /// From now on loads wait until they are let go, one by one.
    pub(crate) fn hold_up(&self) {
        self.0.held_up.store(true, SeqCst);
    }

    pub(crate) fn let_go(&self, loads: usize) {
        self.0.gate.add_permits(loads);
    }

    /// A load of it, as a cache wants it. Counts when it begins.
    pub(crate) fn load(&self) -> impl Future<Output = Answer> + Send + use<> {
        let state = self.0.clone();
        async move {
            let load = state.loads.fetch_add(1, SeqCst) + 1;
            if !state.takes.is_zero() {
                tokio::time::sleep(state.takes).await;
            }
            if state.held_up.load(SeqCst) {
                state.gate.acquire().await.unwrap().forget();
            }
            match state.broken.load(SeqCst) {
                true => Err(Error::Service(Broken)),
                false => Ok(load),
            }
        }
    }

    /// What the cache answers for the key "7", and how it came about.
    pub(crate) async fn ask<St>(&self, cache: &Cache<u32, St>) -> (Answer, String)
    where
        St: buttress::cache::Store<u32>,
    {
        self.ask_for(cache, KeyRef::new("7")).await
    }

    /// What the cache answers for this key, and how it came about.
    pub(crate) async fn ask_for<St>(
        &self,
        cache: &Cache<u32, St>,
        key: KeyRef<'_>,
    ) -> (Answer, String)
    where
        St: buttress::cache::Store<u32>,
    {
        let source = self.clone();
        match cache.run(key, move || source.load()).await {
            Ok(cached) => (Ok(cached.value), cached.status.to_string()),
            Err(error) => (Err(error), String::new()),
        }
    }
}

/// Lets everything that can go on go on, without moving the clock.
pub(crate) async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}
