//! A load under way, and what becomes of it.

use super::{
    core::Core,
    freshness::FreshnessState,
    key::EntryKey,
    lease_guard::LeaseGuard,
    loaded::{Answered, Failure, Load, LoadEnd, Loaded, Verdict},
    single_flight::{Leader, Stage},
    status::{Cached, LoadReason, Served},
    store::{Fill, Store},
};
use crate::{
    clock::Time,
    error::{KeptRefusal, Kind},
    shared::Shared,
};
use std::time::Duration;

pub(super) type Lead<V, St> = Leader<Verdict<V>, LeaseGuard<V, St>>;

/// A load under way: dropped, it goes over to who follows, or the lease is given back.
struct RunningLoad<V, St>
where
    V: Clone + Send + Sync + 'static,
    St: Store<V>,
{
    leader: Option<Lead<V, St>>,
    held: Option<LeaseGuard<V, St>>,
}

impl<V, St> Drop for RunningLoad<V, St>
where
    V: Clone + Send + Sync + 'static,
    St: Store<V>,
{
    fn drop(&mut self) {
        if let Some(leader) = &mut self.leader {
            leader.lease = self.held.take();
        }
    }
}

impl<V, St> RunningLoad<V, St>
where
    V: Clone + Send + Sync + 'static,
    St: Store<V>,
{
    fn enters(&self, stage: Stage) {
        if let Some(leader) = &self.leader {
            leader.enters(stage);
        }
    }

    fn lease(&mut self) -> Option<St::Lease> {
        self.held.as_mut().and_then(|held| held.lease.take())
    }

    fn finish(mut self, before: Stage, verdict: Verdict<V>) {
        if let Some(leader) = self.leader.take() {
            leader.finish(before, verdict);
        }
    }

    /// Offers an answer to the store, if there is a lease for it. Returns whether it was stored.
    async fn fill(
        &mut self,
        core: &Core<V, St>,
        key: &EntryKey,
        fill: impl FnOnce() -> Fill<V>,
    ) -> bool {
        let Some(held) = &mut self.held else {
            return false;
        };
        let Some(lease) = &held.lease else {
            return false;
        };
        if let Some(leader) = &self.leader {
            leader.enters(Stage::Fill);
        }
        let told = core.fill(key, lease, fill()).await;
        // An error does not say whether the lease still stands: then it is let go later.
        if told.is_ok() {
            held.lease = None;
        }
        told == Ok(true)
    }

    /// Ends a load whose answer is for nobody else: those who follow, and who come later, do not
    /// wait for another one's. But if what is stored is still fresh, as it is when it was refreshed
    /// early, they get that.
    fn finish_uncacheable(self, core: &Core<V, St>, key: &EntryKey) {
        let now = Time::now();
        let known = self.held.as_ref().and_then(|held| held.known.as_ref());
        if known.is_none_or(|entry| entry.state_at(now) != FreshnessState::Fresh) {
            core.failure_memory.mark_uncacheable(key, now);
        }
        self.finish(Stage::Finished, Verdict::Alone);
    }

    async fn give_back(&mut self, core: &Core<V, St>, key: &EntryKey) {
        if let Some(lease) = self.lease() {
            core.release(key, lease).await;
        }
    }

    /// Returns what there is instead of the answer that could not be loaded, and before which stage
    /// those joined who may share it. The store is asked once more: another load may have succeeded
    /// meanwhile, or an invalidation removed what was known.
    async fn stale(&self, core: &Core<V, St>, key: &EntryKey) -> Option<(Cached<V>, Stage)> {
        self.enters(Stage::Fill);
        let (entry, before) = match core.look(key).await {
            Ok(entry) => (entry?, Stage::Fill),
            Err(()) => (self.held.as_ref()?.known.clone()?, Stage::Acquire),
        };
        Some((core.stale_on_error(entry)?, before))
    }
}

/// Loads, stores, and tells those who follow. Without a lease, for the reason given, nothing is
/// stored.
pub(super) async fn run_load<V, St, L>(
    core: &Shared<Core<V, St>>,
    key: &EntryKey,
    leader: Option<Lead<V, St>>,
    held: Result<LeaseGuard<V, St>, LoadReason>,
    load: L,
) -> LoadEnd<V, L>
where
    V: Clone + Send + Sync + 'static,
    St: Store<V>,
    L: Load<V>,
{
    let reason = match &held {
        Err(reason) => *reason,
        Ok(held) if held.known.is_some() => LoadReason::Stale,
        Ok(_) => LoadReason::Missing,
    };
    let held = held.ok();
    let loaded_as = |stored| Served::Loaded { stored, reason };
    let mut running = RunningLoad { leader, held };
    running.enters(Stage::Read);
    core.counters.add(|c| &c.loads);
    let began = Time::now();
    let (loaded, kept) = load.load().await;
    match loaded {
        Loaded::Answer(value, freshness) => {
            let cost = Time::now().since(began);
            core.failure_memory.succeeded(key);
            let stored = match freshness {
                Some(freshness) => {
                    let fill = || Fill::new(value.clone(), core.jittered(freshness), cost);
                    running.fill(core, key, fill).await
                }
                None => {
                    running.give_back(core, key).await;
                    false
                }
            };
            let fresh = freshness.map_or(Duration::ZERO, |f| f.fresh);
            let status = core.status(loaded_as(stored), Duration::ZERO, fresh);
            let cached = Cached { value, status };
            // Once it is stored, everybody who asks gets it, so those who joined late may as well.
            let before = if stored { Stage::Fill } else { Stage::Read };
            running.finish(before, Verdict::Answer(cached.clone()));
            Ok(Answered::Cached(cached))
        }
        Loaded::Fallback(value, freshness) => {
            let cost = Time::now().since(began);
            core.failure_memory.succeeded(key);
            let fill = || Fill::new(value.clone(), core.jittered(freshness), cost);
            let stored = running.fill(core, key, fill).await;
            running.finish_uncacheable(core, key);
            let status = core.status(loaded_as(stored), Duration::ZERO, freshness.fresh);
            Ok(Answered::Cached(Cached { value, status }))
        }
        Loaded::Uncacheable(response) => {
            running.give_back(core, key).await;
            core.failure_memory.succeeded(key);
            running.finish_uncacheable(core, key);
            Ok(Answered::Uncacheable(response))
        }
        Loaded::Failed(failure) => {
            core.counters.add(|c| &c.load_failures);
            let unwell = failure.is_unwell();
            if unwell {
                core.failure_memory.source_failed(Time::now());
            }
            let stale = match unwell {
                true => running.stale(core, key).await,
                false => None,
            };
            if let Some((cached, before)) = stale {
                core.failure_memory
                    .failed(key, core.dice.unit(), Time::now());
                running.give_back(core, key).await;
                core.count(cached.status.served);
                running.finish(before, Verdict::Answer(cached.clone()));
                return Ok(Answered::Cached(cached));
            }
            let status = core.status(loaded_as(false), Duration::ZERO, Duration::ZERO);
            let verdict = match &failure {
                Failure::Answer(value) => {
                    let value = value.clone();
                    Verdict::Answer(Cached { value, status })
                }
                // Nor is this one for anybody else. The next to come may follow again: whoever
                // leads finds out whether the source is back.
                Failure::Uncacheable(_) => Verdict::Alone,
                // It was this caller who had no more time. The others may have.
                Failure::Error {
                    rejected: Some(r), ..
                } if r.kind() == Kind::DeadlineExceeded => {
                    return failure.end(status, kept);
                }
                Failure::Error { rejected, .. } => {
                    Verdict::Failed(KeptRefusal::of(core.load_failed(*rejected), kept))
                }
            };
            running.give_back(core, key).await;
            // That a service is unwell is nothing that a write may have changed meanwhile.
            running.finish(if unwell { Stage::Finished } else { Stage::Read }, verdict);
            failure.end(status, kept)
        }
    }
}
