//! What happens when the answer is not at hand: the reader's half of the protocol.
//!
//! See [`store`](super::store) for what the store promises, and `flight` for who loads.

use super::{
    core::{Background, Core},
    flight::{Joined, Leader, Stage, Told},
    freshness::{Entry, Freshness, Worth},
    key::EntryKey,
    status::{CacheStatus, Cached, Served, Why},
    store::{Acquired, Ask, Fill, Store},
};
use crate::{
    clock::Time,
    context,
    error::{FromRejected, Kind, Rejected, note, refuse},
    shared::Shared,
};
use std::{future::Future, time::Duration};
use tokio::time::{sleep, timeout};

/// How a load ended. `T` is what only the caller can have, such as a response whose body is not
/// kept; `E` the service's error.
#[derive(Debug)]
pub enum Loaded<V, T, E> {
    /// With an answer, to be stored if it says for how long it is good.
    Answer(V, Option<Freshness>),
    /// With an answer that only this caller can have.
    Through(T),
    /// Not with an answer.
    Failed(Failure<V, T, E>),
}

/// What a load failed with.
#[derive(Debug)]
pub enum Failure<V, T, E> {
    /// An answer that says that the service is unwell: a stale one is better.
    Answer(V),
    /// The same, but one that only this caller can have.
    Through(T),
    /// An error.
    Error {
        /// The error.
        error: E,
        /// Whether the service is unwell, and a stale answer better than the error.
        unwell: bool,
        /// The rejection that it was made from, if a policy below made it.
        rejected: Option<Rejected>,
    },
}

/// Something that can be loaded, once.
pub(super) trait Load<V>: Send + 'static {
    type Through: Send + 'static;
    type Error: FromRejected + Send + 'static;
    fn load(self) -> impl Future<Output = Loaded<V, Self::Through, Self::Error>> + Send;
}

/// What a caller gets.
pub(super) enum Answered<V, T> {
    Cached(Cached<V>),
    Through(T),
}

/// What a leader shares with its followers.
#[derive(Clone)]
pub(super) enum Verdict<V> {
    Answer(Cached<V>),
    Failed(Rejected),
    /// Nothing: each on its own.
    Alone,
}

type End<V, L> = Result<Answered<V, <L as Load<V>>::Through>, <L as Load<V>>::Error>;

/// A lease, and what the store had when it was granted. Dropped, it is given back.
pub(super) struct Held<V, St>
where
    V: Clone + Send + Sync + 'static,
    St: Store<V>,
{
    core: Shared<Core<V, St>>,
    key: EntryKey,
    lease: Option<St::Lease>,
    known: Option<Entry<V>>,
}

impl<V, St> Drop for Held<V, St>
where
    V: Clone + Send + Sync + 'static,
    St: Store<V>,
{
    fn drop(&mut self) {
        // Without this, others would wait until the lease has run out.
        if let Some(lease) = self.lease.take()
            && let Err(lease) = self.core.guest.store.release_now(&self.key, lease)
        {
            let (core, key) = (self.core.clone(), self.key.clone());
            Background::spawn(async move { core.release(&key, lease).await });
        }
    }
}

type Lead<V, St> = Leader<Verdict<V>, Held<V, St>>;

/// Answers a call for this key: from the store, by sharing another call's load, or by loading.
pub(super) async fn answer<V, St, L>(core: Shared<Core<V, St>>, key: EntryKey, load: L) -> End<V, L>
where
    V: Clone + Send + Sync + 'static,
    St: Store<V>,
    L: Load<V>,
{
    if core.notes.alone(&key, Time::now()) {
        return alone(&core, load).await;
    }
    loop {
        let follower = match core.flights.join(&key) {
            Joined::Lead(leader) => return lead(core, key, leader, load).await,
            Joined::Follow(follower) => follower,
        };
        // Whoever loads for longer than its lease is not waited for: it may never come back.
        match timeout(core.lease, follower).await {
            Ok(Some(Told::Shared(Verdict::Answer(cached)))) => {
                core.tally.add(|t| &t.collapsed);
                core.count(cached.status.served);
                let status = cached.status.shared();
                return Ok(Answered::Cached(Cached { status, ..cached }));
            }
            Ok(Some(Told::Shared(Verdict::Failed(rejected)))) => {
                core.tally.add(|t| &t.collapsed);
                return Err(refuse(rejected));
            }
            Ok(Some(Told::Lead(leader))) => return lead(core, key, leader, load).await,
            Ok(Some(Told::Shared(Verdict::Alone))) | Err(_) => return alone(&core, load).await,
            // The leader vanished without a word, which its drop does not let happen.
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
    let Some(leader) = core.flights.lead(&key) else {
        return;
    };
    leader.sends(Stage::Acquire);
    let ask = Ask::new(core.lease).early();
    if let Ok(Acquired::Leased { lease, known }) = core.acquire(&key, ask).await {
        let held = Held {
            core: core.clone(),
            key: key.clone(),
            lease: Some(lease),
            known,
        };
        core.tally.add(|t| &t.refreshes);
        let _ = fly(&core, &key, Some(leader), Some(held), load).await;
    }
}

/// Loads for this caller only: nothing is stored, and nothing is shared.
async fn alone<V, St, L>(core: &Core<V, St>, load: L) -> End<V, L>
where
    V: Clone + Send + Sync + 'static,
    St: Store<V>,
    L: Load<V>,
{
    core.tally.add(|t| &t.loads);
    let why = Why::Bypass;
    let served = Served::Loaded { stored: false, why };
    let status = core.status(served, Duration::ZERO, Duration::ZERO);
    match load.load().await {
        Loaded::Answer(value, _) => {
            core.tally.add(|t| &t.not_stored);
            Ok(Answered::Cached(Cached { value, status }))
        }
        Loaded::Through(through) => Ok(Answered::Through(through)),
        Loaded::Failed(failure) => {
            core.tally.add(|t| &t.load_failures);
            fail(failure, status)
        }
    }
}

/// What the caller whose load failed gets.
fn fail<V, T, E>(failure: Failure<V, T, E>, status: CacheStatus) -> Result<Answered<V, T>, E> {
    match failure {
        Failure::Answer(value) => Ok(Answered::Cached(Cached { value, status })),
        Failure::Through(through) => Ok(Answered::Through(through)),
        Failure::Error {
            error, rejected, ..
        } => {
            if let Some(rejected) = rejected {
                note(rejected);
            }
            Err(error)
        }
    }
}

/// The leader asks the store, and loads if it has to.
async fn lead<V, St, L>(
    core: Shared<Core<V, St>>,
    key: EntryKey,
    mut leader: Lead<V, St>,
    load: L,
) -> End<V, L>
where
    V: Clone + Send + Sync + 'static,
    St: Store<V>,
    L: Load<V>,
{
    let held = match leader.lease.take() {
        Some(held) => Some(held),
        None => {
            leader.sends(Stage::Acquire);
            let mut pause = Duration::from_millis(2);
            loop {
                match core.acquire(&key, Ask::new(core.lease)).await {
                    Err(()) => break None,
                    Ok(Acquired::Fresh(entry)) => {
                        let cached = core.cached(entry, Served::Fresh);
                        core.count(Served::Fresh);
                        leader.land(Stage::Acquire, Verdict::Answer(cached.clone()));
                        return Ok(Answered::Cached(cached));
                    }
                    Ok(Acquired::Leased { lease, known }) => {
                        break Some(Held {
                            core: core.clone(),
                            key: key.clone(),
                            lease: Some(lease),
                            known,
                        });
                    }
                    Ok(Acquired::Busy { lasts, known }) => {
                        let now = Time::now();
                        if let Some(entry) = known
                            && let Some(cached) = core.meanwhile(&key, entry, now)
                        {
                            core.count(cached.status.served);
                            leader.land(Stage::Acquire, Verdict::Answer(cached.clone()));
                            return Ok(Answered::Cached(cached));
                        }
                        // Another instance is at it.
                        let wait = pause.min(lasts).max(Duration::from_millis(1));
                        if context::current()
                            .deadline
                            .is_some_and(|at| at <= now.after(wait))
                        {
                            return Err(refuse(Rejected::new(Kind::DeadlineExceeded, core.name)));
                        }
                        sleep(wait.mul_f64(0.75 + core.dice.unit() / 2.0)).await;
                        pause = (pause * 2).min(Duration::from_millis(50));
                        leader.asks_again();
                    }
                }
            }
        }
    };
    let now = Time::now();
    let known = held.as_ref().and_then(|held| held.known.clone());
    if let Some(entry) = known
        && let Some(cached) = core.meanwhile(&key, entry, now)
    {
        core.count(cached.status.served);
        let revalidate = cached.status.served == Served::Revalidating;
        leader.land(Stage::Acquire, Verdict::Answer(cached.clone()));
        if revalidate
            && !core.notes.failing(&key, now)
            && let Some(held) = held
        {
            core.tally.add(|t| &t.refreshes);
            Background::spawn(async move {
                let _ = fly(&core, &key, None, Some(held), load).await;
            });
        }
        return Ok(Answered::Cached(cached));
    }
    fly(&core, &key, Some(leader), held, load).await
}

/// A load under way: dropped, it goes over to who follows, or the lease is given back.
struct Flying<V, St>
where
    V: Clone + Send + Sync + 'static,
    St: Store<V>,
{
    leader: Option<Lead<V, St>>,
    held: Option<Held<V, St>>,
}

impl<V, St> Drop for Flying<V, St>
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

impl<V, St> Flying<V, St>
where
    V: Clone + Send + Sync + 'static,
    St: Store<V>,
{
    fn sends(&self, stage: Stage) {
        if let Some(leader) = &self.leader {
            leader.sends(stage);
        }
    }

    fn lease(&mut self) -> Option<St::Lease> {
        self.held.as_mut().and_then(|held| held.lease.take())
    }

    fn land(mut self, before: Stage, verdict: Verdict<V>) {
        if let Some(leader) = self.leader.take() {
            leader.land(before, verdict);
        }
    }

    async fn give_back(&mut self, core: &Core<V, St>, key: &EntryKey) {
        if let Some(lease) = self.lease() {
            core.release(key, lease).await;
        }
    }

    /// What there is instead of the answer that could not be loaded, and for whom. The store is
    /// asked once more: another load may have succeeded meanwhile, or an invalidation removed what
    /// was known.
    async fn stale(&self, core: &Core<V, St>, key: &EntryKey) -> Option<(Cached<V>, Stage)> {
        self.sends(Stage::Fill);
        let (entry, before) = match core.look(key).await {
            Ok(entry) => (entry?, Stage::Fill),
            Err(()) => (self.held.as_ref()?.known.clone()?, Stage::Acquire),
        };
        let served = match entry.worth_at(Time::now()) {
            Worth::Gone => return None,
            Worth::Fresh => Served::Fresh,
            Worth::Revalidate | Worth::IfError => Served::IfError,
        };
        Some((core.cached(entry, served), before))
    }
}

/// Loads, stores, and tells those who follow.
async fn fly<V, St, L>(
    core: &Shared<Core<V, St>>,
    key: &EntryKey,
    leader: Option<Lead<V, St>>,
    held: Option<Held<V, St>>,
    load: L,
) -> End<V, L>
where
    V: Clone + Send + Sync + 'static,
    St: Store<V>,
    L: Load<V>,
{
    let why = match &held {
        None => Why::StoreUnavailable,
        Some(held) if held.known.is_some() => Why::Stale,
        Some(_) => Why::Missing,
    };
    let loaded_as = |stored| Served::Loaded { stored, why };
    let mut flying = Flying { leader, held };
    flying.sends(Stage::Read);
    core.tally.add(|t| &t.loads);
    let began = Time::now();
    match load.load().await {
        Loaded::Answer(value, freshness) => {
            let cost = Time::now().since(began);
            core.notes.succeeded(key);
            let mut stored = false;
            match (freshness, flying.lease()) {
                (Some(freshness), Some(lease)) => {
                    flying.sends(Stage::Fill);
                    let fill = Fill::new(value.clone(), core.jittered(freshness), cost);
                    stored = core.fill(key, lease, fill).await;
                }
                (None, Some(lease)) => core.release(key, lease).await,
                (_, None) => {}
            }
            let fresh = freshness.map_or(Duration::ZERO, |f| f.fresh);
            let status = core.status(loaded_as(stored), Duration::ZERO, fresh);
            let cached = Cached { value, status };
            // Once it is stored, everybody who asks gets it, so those who joined late may as well.
            let before = if stored { Stage::Fill } else { Stage::Read };
            flying.land(before, Verdict::Answer(cached.clone()));
            Ok(Answered::Cached(cached))
        }
        Loaded::Through(through) => {
            flying.give_back(core, key).await;
            core.notes.not_for_a_cache(key, Time::now());
            flying.land(Stage::Landed, Verdict::Alone);
            Ok(Answered::Through(through))
        }
        Loaded::Failed(failure) => {
            core.tally.add(|t| &t.load_failures);
            let unwell = !matches!(failure, Failure::Error { unwell: false, .. });
            let stale = match unwell {
                true => flying.stale(core, key).await,
                false => None,
            };
            if let Some((cached, before)) = stale {
                core.notes.failed(key, core.dice.unit(), Time::now());
                flying.give_back(core, key).await;
                core.count(cached.status.served);
                flying.land(before, Verdict::Answer(cached.clone()));
                return Ok(Answered::Cached(cached));
            }
            let status = core.status(loaded_as(false), Duration::ZERO, Duration::ZERO);
            let verdict = match &failure {
                Failure::Answer(value) => {
                    let value = value.clone();
                    Verdict::Answer(Cached { value, status })
                }
                Failure::Through(_) => Verdict::Failed(core.load_failed(None)),
                // It was this caller who had no more time. The others may have.
                Failure::Error {
                    rejected: Some(r), ..
                } if r.kind() == Kind::DeadlineExceeded => {
                    return fail(failure, status);
                }
                Failure::Error { rejected, .. } => Verdict::Failed(core.load_failed(*rejected)),
            };
            flying.give_back(core, key).await;
            // That a service is unwell is nothing that a write may have changed meanwhile.
            flying.land(if unwell { Stage::Landed } else { Stage::Read }, verdict);
            fail(failure, status)
        }
    }
}
