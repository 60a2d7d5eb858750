//! What happens when the answer is not at hand: the reader's half of the protocol.
//!
//! See [`store`](super::store) for what the store promises, and `single_flight` for who loads.

use super::{
    background,
    core::Core,
    key::EntryKey,
    loaded::{Answered, Load, LoadEnd, Loaded, Verdict},
    run_load::{Lead, run_load},
    single_flight::{Joined, Stage, Told},
    status::{Cached, LoadReason, Served},
    store::{AcquireOptions, Acquired, Store},
};
use crate::{
    clock::Time,
    context,
    error::{refuse, waiting},
    shared::Shared,
};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// Answers a call for this key: from the store, by sharing another call's load, or by loading.
pub(super) async fn answer<V, St, L>(
    core: Shared<Core<V, St>>,
    key: EntryKey,
    load: L,
) -> LoadEnd<V, L>
where
    V: Clone + Send + Sync + 'static,
    St: Store<V>,
    L: Load<V>,
{
    let now = Time::now();
    if core.failure_memory.is_uncacheable(&key, now) {
        return alone(&core, &key, load).await;
    }
    // Since when it has waited for the loads of others.
    let mut since = None;
    loop {
        let follower = match core.single_flight.join(&key) {
            Joined::Lead(leader) => return lead(core, key, leader, since, load).await,
            Joined::Follow(follower) => follower,
        };
        // Whoever loads for longer than its lease is not waited for: it may never come back.
        let left = core.patience(*since.get_or_insert(now), Time::now());
        match waiting(timeout(left, follower)).await {
            Ok(Some(Told::Shared(Verdict::Answer(cached)))) => {
                core.counters.add(|c| &c.collapsed);
                core.count(cached.status.served);
                let status = cached.status.shared();
                return Ok(Answered::Cached(Cached { status, ..cached }));
            }
            Ok(Some(Told::Shared(Verdict::Failed(kept)))) => {
                core.counters.add(|c| &c.collapsed);
                return Err(kept.refuse());
            }
            Ok(Some(Told::Lead(leader))) => return lead(core, key, leader, since, load).await,
            Ok(Some(Told::Shared(Verdict::Alone))) | Err(_) => {
                return alone(&core, &key, load).await;
            }
            // Nobody was told: copying the answer panicked.
            Ok(None) => {}
        }
    }
}

/// Refreshes an entry that is fresh, or stale and just answered with, unless somebody is at it.
pub(super) async fn refresh<V, St, L>(core: Shared<Core<V, St>>, key: EntryKey, load: L)
where
    V: Clone + Send + Sync + 'static,
    St: Store<V>,
    L: Load<V>,
{
    let Some(leader) = core.single_flight.lead(&key) else {
        return;
    };
    leader.enters(Stage::Acquire);
    let ask = AcquireOptions::new(core.lease).early();
    if let Ok(Acquired::Leased { lease, known }) = core.acquire(&key, ask).await {
        let held = core.store_client.guard(&key, lease, known);
        core.counters.add(|c| &c.refreshes);
        let _ = run_load(&core, &key, Some(leader), Ok(held), load).await;
    }
}

/// Loads for this caller only: nothing is stored, and nothing is shared.
async fn alone<V, St, L>(core: &Core<V, St>, key: &EntryKey, load: L) -> LoadEnd<V, L>
where
    V: Clone + Send + Sync + 'static,
    St: Store<V>,
    L: Load<V>,
{
    core.counters.add(|c| &c.loads);
    let reason = LoadReason::Bypass;
    let served = Served::Loaded {
        stored: false,
        reason,
    };
    let status = core.status(served, Duration::ZERO, Duration::ZERO);
    let (loaded, kept) = load.load().await;
    if !matches!(loaded, Loaded::Failed(_)) {
        core.failure_memory.source_succeeded();
    }
    match loaded {
        Loaded::Answer(value, freshness) => {
            core.counters.add(|c| &c.not_stored);
            if freshness.is_some() {
                // The next one to ask may store it, and others may wait for that.
                core.failure_memory.mark_cacheable(key);
            }
            Ok(Answered::Cached(Cached { value, status }))
        }
        Loaded::Fallback(value, _) => {
            core.counters.add(|c| &c.not_stored);
            Ok(Answered::Cached(Cached { value, status }))
        }
        Loaded::Uncacheable(response) => Ok(Answered::Uncacheable(response)),
        Loaded::Failed(failure) => {
            core.counters.add(|c| &c.load_failures);
            let unwell = failure.is_unwell();
            // Something may have been stored before its answers were for nobody else.
            if unwell
                && let Ok(Some(entry)) = core.look(key).await
                && let Some(cached) = core.stale_on_error(entry)
            {
                let now = Time::now();
                if core.failure_memory.is_uncacheable(key, now) {
                    // Then one call now and then is enough to see whether the source is back.
                    core.failure_memory.source_failed(now);
                    core.failure_memory.failed(key, core.dice.unit(), now);
                }
                core.count(cached.status.served);
                return Ok(Answered::Cached(cached));
            }
            failure.end(status, kept)
        }
    }
}

/// The lease of another instance that is waited for.
#[derive(Default)]
struct Awaited {
    /// When it ends, at the latest.
    ends: Option<Time>,
}

impl Awaited {
    /// Whether it is not the one that was waited for before: that has ended, and this one was
    /// granted later, so it ends later. What was asked at one time and answered at another says for
    /// how long it lasts.
    fn is_another(&mut self, asked: Time, answered: Time, lasts: Duration) -> bool {
        // A store may tell whole milliseconds.
        let latest = answered.after(lasts.saturating_add(Duration::from_millis(1)));
        let another = self.ends.is_some_and(|ends| ends < asked.after(lasts));
        self.ends = Some(self.ends.unwrap_or(latest).min(latest));
        another
    }
}

/// Asks the store as the leader, and loads if that has no answer. The call has waited for the loads
/// of others `since` then, if it has.
async fn lead<V, St, L>(
    core: Shared<Core<V, St>>,
    key: EntryKey,
    mut leader: Lead<V, St>,
    mut since: Option<Time>,
    load: L,
) -> LoadEnd<V, L>
where
    V: Clone + Send + Sync + 'static,
    St: Store<V>,
    L: Load<V>,
{
    let held = match leader.lease.take() {
        Some(mut held) => {
            // What the leader before knew may have been invalidated since, and this caller may have
            // asked after that. The lease would not stand then; what is stale has to be asked for.
            if held.known.take().is_some() {
                leader.enters(Stage::Acquire);
                held.known = core.look(&key).await.ok().flatten();
            }
            Ok(held)
        }
        None => {
            leader.enters(Stage::Acquire);
            let mut pause = Duration::from_millis(2);
            let mut awaited = Awaited::default();
            loop {
                let asked = Time::now();
                match core.acquire(&key, AcquireOptions::new(core.lease)).await {
                    Err(()) => break Err(LoadReason::StoreUnavailable),
                    Ok(Acquired::Fresh(entry)) => {
                        let cached = core.cached(entry, Served::Fresh);
                        core.count(Served::Fresh);
                        leader.finish(Stage::Acquire, Verdict::Answer(cached.clone()));
                        return Ok(Answered::Cached(cached));
                    }
                    Ok(Acquired::Leased { lease, known }) => {
                        break Ok(core.store_client.guard(&key, lease, known));
                    }
                    Ok(Acquired::Busy { lasts, known }) => {
                        let now = Time::now();
                        let reason = known
                            .as_ref()
                            .map_or(LoadReason::Missing, |_| LoadReason::Stale);
                        if let Some(entry) = known
                            && let Some(cached) = core.stale_while_loading(&key, entry, now)
                        {
                            core.count(cached.status.served);
                            leader.finish(Stage::Acquire, Verdict::Answer(cached.clone()));
                            return Ok(Answered::Cached(cached));
                        }
                        // The one that was waited for has brought nothing that others may have:
                        // if that goes on, instances would load one after the other.
                        let another = awaited.is_another(asked, now, lasts);
                        if another && L::may_pass_by() {
                            break Err(reason);
                        }
                        // Others hold it, one after the other, and none of them comes back.
                        let left = core.patience(*since.get_or_insert(now), now);
                        if left.is_zero() {
                            break Err(reason);
                        }
                        // Another instance is at it.
                        let wait = pause.min(lasts).max(Duration::from_millis(1));
                        let context = context::current();
                        if context.deadline.is_some_and(|at| at <= now.after(wait)) {
                            return Err(refuse(context.deadline_exceeded(core.name)));
                        }
                        waiting(sleep(wait.mul_f64(0.75 + core.dice.unit() / 2.0))).await;
                        pause = (pause * 2).min(Duration::from_millis(50));
                        leader.asks_again();
                    }
                }
            }
        }
    };
    let now = Time::now();
    let known = held.as_ref().ok().and_then(|held| held.known.clone());
    if let Some(entry) = known
        && let Some(cached) = core.stale_while_loading(&key, entry, now)
    {
        core.count(cached.status.served);
        leader.finish(Stage::Acquire, Verdict::Answer(cached.clone()));
        if !core.failure_memory.backing_off(&key, now)
            && let Ok(held) = held
        {
            core.counters.add(|c| &c.refreshes);
            background::spawn(async move {
                let _ = run_load(&core, &key, None, Ok(held), load).await;
            });
        }
        return Ok(Answered::Cached(cached));
    }
    run_load(&core, &key, Some(leader), held, load).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_that_ends_later_is_another() {
        let ms = Duration::from_millis;
        let at = |n| Time(0).after(ms(n));
        let mut awaited = Awaited::default();
        // How long the answers take, or that they tell whole milliseconds, makes no other of it.
        for (asked, answered, lasts) in [(0, 9, 100), (20, 21, 85), (30, 39, 71), (50, 50, 51)] {
            assert!(!awaited.is_another(at(asked), at(answered), ms(lasts)));
        }
        assert!(awaited.is_another(at(60), at(69), ms(100)));
        assert!(!Awaited::default().is_another(at(60), at(60), Duration::MAX));
    }
}
