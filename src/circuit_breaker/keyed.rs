//! One breaker per key.

use super::{
    breaker::Breaker,
    config::{CircuitBreakerBuilder, Config},
    map::Map,
    permit::Permit,
    snapshot::{Snapshot, State},
};
use crate::{
    InvalidConfig, Outcome,
    clock::{Now, Time},
    guard::{Admission, End, Guard, GuardBase, GuardLayer, Never},
    key::{Key, KeyHash},
};
use std::{fmt, sync::Arc, time::Duration};

/// The settings of a [`KeyedCircuitBreaker`], begun by [`CircuitBreakerBuilder::keyed`]: those of
/// each breaker, and how many breakers there may be.
#[derive(Clone, Debug)]
pub struct KeyedCircuitBreakerBuilder<K> {
    each: CircuitBreakerBuilder,
    key: K,
    max_keys: usize,
}

impl<K> KeyedCircuitBreakerBuilder<K> {
    pub(super) fn new(each: CircuitBreakerBuilder, key: K) -> Self {
        Self {
            each,
            key,
            max_keys: 10_000,
        }
    }

    /// Sets how many breakers are kept at most. At least 1. The default is 10 000: more than most
    /// services have hosts or shards, and 18 MB when all are taken.
    ///
    /// When all are taken, a new key takes the place of a key in the same part of the map. It looks
    /// at 128 of them at most, and takes one whose breaker is closed and idle, if there is one. A
    /// breaker that is not closed is forgotten only if all of these are so, and that is
    /// [counted](KeyedSnapshot::evicted_open_total).
    #[must_use]
    pub fn max_keys(mut self, keys: usize) -> Self {
        self.max_keys = keys;
        self
    }

    /// Builds the keyed breaker. The breaker of a key is made by the first call with that key.
    ///
    /// # Errors
    /// [`InvalidConfig`] if a setting is out of its range.
    pub fn build(self) -> Result<KeyedCircuitBreaker<K>, InvalidConfig> {
        self.each.check()?;
        let max = self.max_keys;
        let valid = (1..=u32::MAX as usize).contains(&max);
        InvalidConfig::check(
            valid,
            "circuit breaker",
            "max_keys",
            max,
            "1 to 4 294 967 295",
        )
        .map_err(|invalid| invalid.named(self.each.name()))?;
        Ok(KeyedCircuitBreaker(Arc::new(Inner {
            key: self.key,
            map: Map::new(max),
            cfg: Arc::new(self.each.config()),
        })))
    }
}

/// A circuit breaker for each key, so that one host that is down does not keep calls from others.
///
/// It is a handle: clones, and all layers made from them, share all breakers. Each key has the
/// equivalent of a [`CircuitBreaker`](super::CircuitBreaker).
///
/// ```
/// use buttress::{CircuitBreaker, Error, Rejected, circuit_breaker::State};
///
/// struct Query { shard: u8 }
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), buttress::InvalidConfig> {
/// let breakers = CircuitBreaker::builder("store").keyed(|query: &Query| query.shard).build()?;
/// let (up, down) = (Query { shard: 1 }, Query { shard: 2 });
/// for _ in 0..5 {
///     let _ = breakers.run_for(&down, async || Err::<(), _>(Error::Service("refused"))).await;
/// }
/// let answer = breakers.run_for(&down, async || Ok::<_, Error<&str>>("row")).await;
/// match answer {
///     Err(Error::Rejected(rejected)) => println!("shard 2: {rejected}"),
///     other => panic!("{other:?}"),
/// }
/// assert_eq!(breakers.run_for(&up, async || Ok::<_, Error<&str>>("row")).await, Ok("row"));
/// assert_eq!(breakers.state(&down), State::Open);
/// # Ok(())
/// # }
/// ```
///
/// # Memory and locks
///
/// A key that has been seen costs up to 1 750 bytes, 128 more with a slow-call rate, and one more
/// for each call of a window of calls. Finding a key's breaker takes a short lock. All threads that
/// call with one key write the same counters, other than with a single breaker.
pub struct KeyedCircuitBreaker<K>(Arc<Inner<K>>);

struct Inner<K> {
    key: K,
    map: Map,
    cfg: Arc<Config>,
}

/// What a call that the breaker of its key has admitted holds until it ends.
#[derive(Debug)]
pub struct KeyedPermit {
    breaker: Arc<Breaker>,
    permit: Permit,
}

/// What the breakers of all keys have done so far.
///
/// [`KeyedCircuitBreaker::snapshot`] takes it. With the `registry` feature it can be serialised,
/// and the metrics in the [module's table](super#metrics) are made from it.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "registry", derive(serde::Serialize))]
#[non_exhaustive]
pub struct KeyedSnapshot {
    /// The breakers' name.
    pub name: &'static str,
    /// How many keys are known.
    pub keys: usize,
    /// How many keys are open.
    pub open: usize,
    /// How many keys are half-open.
    pub half_open: usize,
    /// Breakers that were forgotten to make room.
    pub evicted_total: u64,
    /// Breakers that were forgotten though they were not closed. If there are any, `max_keys` is
    /// too small.
    pub evicted_open_total: u64,
    /// Calls rejected since the breakers were made.
    pub rejected_total: u64,
    /// Calls that breakers would have rejected if they did not [only
    /// observe](CircuitBreakerBuilder::observe_only).
    pub would_reject_total: u64,
    /// Calls that succeeded since the breakers were made.
    pub successes_total: u64,
    /// Calls that failed since the breakers were made.
    pub failures_total: u64,
    /// Calls that were slow since the breakers were made.
    pub slow_calls_total: u64,
    /// How often breakers have opened by themselves, after failed probes too.
    pub trips_total: u64,
}

impl<K> KeyedCircuitBreaker<K> {
    /// Returns the name that rejections by these breakers carry.
    pub fn name(&self) -> &'static str {
        self.0.cfg.name
    }

    /// Returns a tower layer, which still has to be told what a failure looks like: by `.http()`,
    /// `.grpc()` or [`GuardLayer::classify`]. All layers of this handle and of its clones share all
    /// breakers.
    pub fn layer(&self) -> GuardLayer<Self>
    where
        K: Send + Sync + 'static,
    {
        GuardLayer::new(self.clone())
    }

    guard_runs!();
    guard_runs!(classify);

    /// Returns the state that the next call with this request's key would find. A key that is not
    /// known is `Closed`.
    pub fn state<Req>(&self, req: &Req) -> State
    where
        K: Key<Req>,
    {
        let now = Time::now();
        self.find(req)
            .map_or(State::Closed, |breaker| breaker.circuit.state(now))
    }

    /// Opens the breaker of this request's key until it is reset or forced closed.
    pub fn force_open<Req>(&self, req: &Req)
    where
        K: Key<Req>,
    {
        self.obtain(req, &Now::lazy()).force_open();
    }

    /// Closes the breaker of this request's key until it is reset or forced open.
    pub fn force_closed<Req>(&self, req: &Req)
    where
        K: Key<Req>,
    {
        self.obtain(req, &Now::lazy()).force_closed();
    }

    /// Closes the breaker of this request's key, and lets the rules decide again.
    pub fn reset<Req>(&self, req: &Req)
    where
        K: Key<Req>,
    {
        if let Some(breaker) = self.find(req) {
            breaker.reset();
        }
    }

    /// Returns a snapshot of the breaker of this request's key, or `None` if there is none yet.
    pub fn snapshot_of<Req>(&self, req: &Req) -> Option<Snapshot>
    where
        K: Key<Req>,
    {
        self.find(req).map(|breaker| breaker.snapshot(Time::now()))
    }

    /// Returns what all breakers together have done so far. Looks at every key.
    pub fn snapshot(&self) -> KeyedSnapshot {
        let (mut keys, mut open, mut half_open) = (0, 0, 0);
        let totals = self.0.map.each(Time::now(), |one| {
            keys += 1;
            open += usize::from(one.state == State::Open);
            half_open += usize::from(one.state == State::HalfOpen);
        });
        KeyedSnapshot {
            name: self.name(),
            keys,
            open,
            half_open,
            evicted_total: totals.evicted,
            evicted_open_total: totals.evicted_open,
            rejected_total: totals.rejected,
            would_reject_total: totals.would_reject,
            successes_total: totals.successes,
            failures_total: totals.failures,
            slow_calls_total: totals.slow_calls,
            trips_total: totals.trips,
        }
    }

    fn find<Req>(&self, req: &Req) -> Option<Arc<Breaker>>
    where
        K: Key<Req>,
    {
        self.0.map.find(KeyHash::of(&self.0.key, req))
    }

    fn obtain<Req>(&self, req: &Req, now: &Now) -> Arc<Breaker>
    where
        K: Key<Req>,
    {
        let Inner { key, map, cfg } = &*self.0;
        map.obtain(KeyHash::of(key, req), cfg, || now.get())
    }
}

impl<K> Clone for KeyedCircuitBreaker<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K> fmt::Debug for KeyedCircuitBreaker<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedCircuitBreaker")
            .field("name", &self.name())
            .finish_non_exhaustive()
    }
}

impl<K> GuardBase for KeyedCircuitBreaker<K> {
    type Permit = KeyedPermit;
    type Wait = Never;

    fn settle(&self, KeyedPermit { breaker, permit }: KeyedPermit, end: End, now: &Now) {
        breaker.settle(permit, end, now);
    }
    fn on_pending(&self, KeyedPermit { breaker, permit }: &mut KeyedPermit, now: &Now) {
        breaker.on_pending(permit, now);
    }
    fn on_wait_begin(&self, permit: &mut KeyedPermit, now: &Now) {
        permit.breaker.on_wait_begin(&mut permit.permit, now);
    }
    fn on_wait_end(&self, permit: &mut KeyedPermit, waited: Duration, now: &Now) {
        permit.breaker.on_wait_end(&mut permit.permit, waited, now);
    }
    fn on_answer(&self, permit: &mut KeyedPermit, outcome: Outcome, now: &Now) {
        permit.breaker.on_answer(&mut permit.permit, outcome, now);
    }
}

impl<Req, K: Key<Req>> Guard<Req> for KeyedCircuitBreaker<K> {
    fn admit(&self, req: &Req, now: &Now) -> Admission<KeyedPermit, Never> {
        let breaker = self.obtain(req, now);
        match breaker.admit(now) {
            Ok(permit) => Admission::Admitted(KeyedPermit { breaker, permit }),
            Err(rejected) => Admission::Refused(rejected),
        }
    }
}
