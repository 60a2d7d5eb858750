//! Rate limits: how much may start within any window of time.

mod config;
mod cost;
mod forecast;
mod gcra;
mod global;
mod keyed;
mod status;
mod wait;

pub use config::{Algorithm, RateLimiterBuilder};
pub use cost::{Cost, One};
pub use status::{QuotaStatus, Snapshot};

use crate::{
    Global, InvalidConfig, Key, Kind, Name, Rejected,
    clock::{Now, Time, nanos},
    error::FromRejected,
    guard::{self, Admission, End, Guard, GuardLayer, Never, Policy, Step},
    key::KeyHash,
    shared::{Padded, slot},
};
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::Context,
    time::Duration,
};
use wait::Lines;

/// A limit on how much may start within any window of time.
///
/// A cheap handle: clones, and all layers made from them, share one limit. See the
/// [module](self) for the decision it takes.
pub struct RateLimiter<K = Global, C = One>(Arc<Inner<K, C>>);

struct Inner<K, C> {
    name: Name,
    window: Duration,
    key: K,
    cost: C,
    state: State,
    lines: Lines,
    rejected: Box<[Padded<AtomicU64>]>,
}

// There is one per limiter, and it is read on every call: no further pointer to save its padding.
#[allow(clippy::large_enum_variant)]
#[derive(Debug)]
enum State {
    Global(global::State),
    Keyed(keyed::Keyed),
}

/// What an admitted call has taken from its quota.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    key: u64,
    /// Time, sub-window or arrival time: whatever the core needs to find it again.
    at: u64,
    cost: u32,
}

impl RateLimiter {
    /// A limit of `quota` per `window` for all requests together, with the default settings.
    ///
    /// # Errors
    /// If the quota is 0 or the window is not between 1 ms and 366 days.
    pub fn new(name: impl Into<Name>, quota: u32, window: Duration) -> Result<Self, InvalidConfig> {
        Self::builder(name, quota, window).build()
    }

    /// Starts the configuration of a limit of `quota` per `window`.
    pub fn builder(name: impl Into<Name>, quota: u32, window: Duration) -> RateLimiterBuilder {
        RateLimiterBuilder::new(name.into(), quota, window)
    }
}

impl<C> RateLimiter<Global, C> {
    /// Changes the quota. What has been admitted stays admitted; calls that wait are let in as soon
    /// as the new quota allows it.
    ///
    /// The limiter keeps the form of counting it was built with (an exact log up to 1024): an exact
    /// log that is raised takes 16 bytes for each admission of the last window.
    ///
    /// # Errors
    /// If the quota is 0.
    pub fn set_quota(&self, quota: u32) -> Result<(), InvalidConfig> {
        config::check_quota(quota)?;
        if let State::Global(state) = &self.0.state {
            state.set_quota(quota, nanos(self.0.window));
        }
        Ok(())
    }
}

impl<K, C> RateLimiter<K, C> {
    /// The limiter's name.
    pub fn name(&self) -> &'static str {
        self.0.name.as_str()
    }

    /// What has been done so far.
    pub fn snapshot(&self) -> Snapshot {
        let inner = &*self.0;
        let (quota, allowed, remaining, keys) = match &inner.state {
            State::Global(state) => {
                let status = state.level(Time::now().0).status(inner.window);
                (status.quota, state.allowed(), Some(status.remaining), None)
            }
            State::Keyed(keyed) => {
                let (allowed, keys) = keyed.totals();
                (keyed.quota(), allowed, None, Some(keys))
            }
        };
        Snapshot {
            name: self.name(),
            quota,
            window: inner.window,
            allowed,
            rejected: inner.rejected.iter().map(|n| n.0.load(Relaxed)).sum(),
            waiting: inner.lines.waiting(),
            remaining,
            keys,
        }
    }

    /// What is left of the quota that this request belongs to. Takes nothing.
    pub fn status<Req>(&self, req: &Req) -> QuotaStatus
    where
        K: Key<Req>,
    {
        let (inner, now) = (&*self.0, Time::now().0);
        let level = match &inner.state {
            State::Global(state) => state.level(now),
            State::Keyed(keyed) => keyed.level(KeyHash::of(&inner.key, req).0, now),
        };
        level.status(inner.window)
    }

    /// Runs `op` if the limit allows it.
    ///
    /// # Errors
    /// A [`Rejected`] as `E`, or what `op` returned.
    pub async fn run<T, E>(&self, op: impl AsyncFnOnce() -> Result<T, E>) -> Result<T, E>
    where
        Self: Guard<()>,
        E: FromRejected,
    {
        guard::run(self, &(), op).await
    }
}

impl<K: Send + Sync + 'static, C: Send + Sync + 'static> RateLimiter<K, C> {
    /// A layer with this limit. All layers of one limiter, and of its clones, share it.
    pub fn layer(&self) -> GuardLayer<Self> {
        GuardLayer::new(self.clone())
    }
}

impl<K, C> Inner<K, C> {
    #[inline]
    fn take(&self, key: u64, cost: u32, now: Time) -> Result<u64, Option<u64>> {
        match &self.state {
            State::Global(state) => state.take(cost, now.0),
            State::Keyed(keyed) => keyed.take(key, cost, now.0),
        }
    }

    #[cold]
    fn give_back(&self, taken: Taken) {
        match &self.state {
            State::Global(state) => state.give_back(taken.at, taken.cost),
            State::Keyed(keyed) => keyed.give_back(taken.key, taken.at, taken.cost),
        }
    }

    #[inline]
    fn refused(&self, until: Option<u64>, now: Time) -> Rejected {
        self.rejected[slot() & (self.rejected.len() - 1)]
            .0
            .fetch_add(1, Relaxed);
        let rejected = Rejected::new(Kind::RateLimited, self.name.as_str());
        match until {
            Some(until) => rejected.with_retry_after(Time(until).since(now)),
            None => rejected,
        }
    }
}

impl<K, C> Policy for RateLimiter<K, C> {
    type Permit = Taken;
    type Wait = Never;

    #[inline]
    fn settle(&self, taken: Taken, end: End, _: &Now) {
        if end == End::NeverStarted && taken.cost > 0 {
            self.0.give_back(taken);
        }
    }

    fn abandon(&self, wait: Never, _: &Now) {
        match wait {}
    }

    /// Only for a global limit with nothing left: which key a call belongs to, and what it costs,
    /// is not known before its request is.
    fn poll_refuses_all(&self, _: &mut Context<'_>, now: &Now) -> bool {
        match &self.0.state {
            State::Global(state) => match state.full_until() {
                0 => false,
                until => now.get().0 < until,
            },
            State::Keyed(_) => false,
        }
    }
}

impl<Req, K: Key<Req>, C: Cost<Req>> Guard<Req> for RateLimiter<K, C> {
    #[inline]
    fn admit(&self, req: &Req, now: &Now) -> Admission<Taken, Never> {
        let inner = &*self.0;
        let cost = inner.cost.cost(req);
        let key = match &inner.state {
            State::Global(_) => 0,
            State::Keyed(_) => KeyHash::of(&inner.key, req).0,
        };
        if cost == 0 {
            return Admission::Admitted(Taken { key, at: 0, cost });
        }
        let now = now.get();
        match inner.take(key, cost, now) {
            Ok(at) => Admission::Admitted(Taken { key, at, cost }),
            Err(until) => Admission::Refused(inner.refused(until, now)),
        }
    }

    fn poll_wait(&self, wait: &mut Never, _: &Req, _: &mut Context<'_>, _: &Now) -> Step<Taken> {
        match *wait {}
    }
}

impl<K, C> Clone for RateLimiter<K, C> {
    #[inline]
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K, C> fmt::Debug for RateLimiter<K, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimiter")
            .field("name", &self.name())
            .field("window", &self.0.window)
            .finish_non_exhaustive()
    }
}
