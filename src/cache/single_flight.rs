//! One load for all who want the same entry at the same time.
//!
//! The first to ask leads: it asks the store and loads. The others follow, and sleep until it is
//! done. A follower must not get an answer that was read before it asked, since a write may have
//! been acknowledged in between; so the leader tells what it is about to send, and each follower
//! is remembered with the stage at which it joined. Those who may share the answer get it. If any
//! are left, the first of them becomes the leader of all the others: they have all asked before it
//! begins. So nobody waits for more than two loads whose leaders stay, the one under way and the
//! next, and a crowd never loads one by one.
//!
//! An answer that may not be stored for others is not one to share, either: then each of the
//! followers has a load of its own after that, all of them at once.
//!
//! A leader that is dropped before it is done, cancelled or panicking, hands over to the first
//! follower, and with the lead its lease. What it knew to be stored is not handed on: that may have
//! been invalidated before the follower asked.

use super::key::EntryKey;
use crate::shared::{Padded, stripes};
use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    fmt,
    hash::{BuildHasher, RandomState},
    mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};
use tokio::sync::oneshot;

/// What a leader has sent. Followers remember the stage at which they joined.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Stage {
    /// Nothing yet.
    Joining,
    /// The question to the store.
    Acquire,
    /// The load.
    Read,
    /// The answer, to the store.
    Fill,
    /// All of it: everybody joined before this.
    Finished,
}

/// Loads under way. `R` is what is shared, `L` what a leader hands over if it is dropped.
///
/// # Invariants
/// 1. A key is here exactly as long as somebody leads it: a [`Leader`], or a follower that the lead
///    is on its way to.
/// 2. A follower that still waits is told exactly once: the answer, or to lead. (Unless copying the
///    answer panics, which drops the rest of those who would have shared it: they ask again.)
/// 3. No follower has joined at a later stage than the leader is in.
/// 4. Answers and leases are copied and dropped under no lock.
pub(super) struct SingleFlight<R, L> {
    shards: Box<[Padded<Shard<R, L>>]>,
    hasher: RandomState,
}

type Shard<R, L> = Mutex<HashMap<EntryKey, Flight<R, L>>>;

struct Flight<R, L> {
    stage: Stage,
    followers: VecDeque<Waiting<R, L>>,
    /// When to let go of followers that have left.
    prune_at: usize,
}

struct Waiting<R, L> {
    joined: Stage,
    tell: oneshot::Sender<Told<R, L>>,
}

/// What a follower wakes up to.
pub(super) enum Told<R, L> {
    /// The answer.
    Shared(R),
    /// The lead.
    Lead(Leader<R, L>),
}

/// Who loads.
pub(super) enum Joined<R, L> {
    /// You.
    Lead(Leader<R, L>),
    /// Another.
    Follow(Follower<R, L>),
}

impl<R, L> SingleFlight<R, L> {
    pub(super) fn new() -> Arc<Self> {
        debug_assert!(stripes().is_power_of_two(), "{} shards", stripes());
        Arc::new(Self {
            shards: (0..stripes()).map(|_| Padded(Mutex::default())).collect(),
            hasher: RandomState::new(),
        })
    }

    fn shard(&self, key: &EntryKey) -> MutexGuard<'_, HashMap<EntryKey, Flight<R, L>>> {
        let shard = self.hasher.hash_one(key) as usize & (self.shards.len() - 1);
        let shard = &self.shards[shard].0;
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the lead, or follows who has it.
    pub(super) fn join(self: &Arc<Self>, key: &EntryKey) -> Joined<R, L> {
        match self.shard(key).entry(key.clone()) {
            Entry::Vacant(vacant) => {
                vacant.insert(Flight {
                    stage: Stage::Joining,
                    followers: VecDeque::new(),
                    prune_at: 64,
                });
                Joined::Lead(Leader {
                    single_flight: Arc::clone(self),
                    key: key.clone(),
                    lease: None,
                    leads: true,
                })
            }
            Entry::Occupied(mut flight) => Joined::Follow(flight.get_mut().follow()),
        }
    }

    /// Takes the lead if nobody has it.
    pub(super) fn lead(self: &Arc<Self>, key: &EntryKey) -> Option<Leader<R, L>> {
        if self.shard(key).contains_key(key) {
            return None;
        }
        match self.join(key) {
            Joined::Lead(leader) => Some(leader),
            // Somebody was quicker.
            Joined::Follow(_) => None,
        }
    }

    /// Returns how many loads are under way.
    pub(super) fn len(&self) -> usize {
        let len = |shard: &Padded<Shard<R, L>>| {
            let shard = shard.0.lock().unwrap_or_else(PoisonError::into_inner);
            shard.len()
        };
        self.shards.iter().map(len).sum()
    }
}

impl<R, L> Flight<R, L> {
    fn follow(&mut self) -> Follower<R, L> {
        if self.followers.len() >= self.prune_at {
            self.followers.retain(|waiting| !waiting.tell.is_closed());
            self.prune_at = (2 * self.followers.len()).max(64);
        }
        let (tell, told) = oneshot::channel();
        self.followers.push_back(Waiting {
            joined: self.stage,
            tell,
        });
        Follower(told)
    }

    /// Starts over: everybody who is here has asked before what is sent next.
    fn begin_again(&mut self) {
        self.stage = Stage::Joining;
        for waiting in &mut self.followers {
            waiting.joined = Stage::Joining;
        }
    }
}

/// The one who loads, for all who follow.
pub(super) struct Leader<R, L> {
    single_flight: Arc<SingleFlight<R, L>>,
    key: EntryKey,
    /// Handed over with the lead.
    pub(super) lease: Option<L>,
    leads: bool,
}

impl<R, L> Leader<R, L> {
    /// Begins a stage. To be called before anything is sent: whoever joins from now on did not ask
    /// before it.
    pub(super) fn enters(&self, stage: Stage) {
        self.with_flight(|flight| {
            debug_assert!(flight.stage <= stage, "{stage:?} after {:?}", flight.stage);
            flight.stage = stage;
        });
    }

    /// Says that the store is about to be asked once more: its answer to that will hold for all who
    /// have joined by now.
    pub(super) fn asks_again(&self) {
        self.with_flight(|flight| {
            flight.begin_again();
            flight.stage = Stage::Acquire;
        });
    }

    fn with_flight(&self, f: impl FnOnce(&mut Flight<R, L>)) {
        let mut shard = self.single_flight.shard(&self.key);
        let flight = shard.get_mut(&self.key);
        debug_assert!(flight.is_some(), "a leader of nothing");
        if let Some(flight) = flight {
            f(flight);
        }
    }

    /// Ends the load: those who joined before this stage share the answer, and the first of the
    /// others leads.
    pub(super) fn finish(mut self, before: Stage, answer: R)
    where
        R: Clone,
    {
        let mut sharing = VecDeque::new();
        self.with_flight(|flight| {
            let all = mem::take(&mut flight.followers);
            debug_assert!(all.iter().all(|waiting| waiting.joined <= flight.stage));
            let (may, not): (VecDeque<_>, VecDeque<_>) =
                all.into_iter().partition(|waiting| waiting.joined < before);
            (sharing, flight.followers) = (may, not);
        });
        // The lease has been used, or was given back; it is not for others.
        self.lease = None;
        for waiting in sharing {
            let _ = waiting.tell.send(Told::Shared(answer.clone()));
        }
        drop(self);
    }
}

impl<R, L> Drop for Leader<R, L> {
    /// Hands over to the first follower who is still there.
    fn drop(&mut self) {
        if !mem::take(&mut self.leads) {
            return;
        }
        let mut next = Self {
            single_flight: Arc::clone(&self.single_flight),
            key: self.key.clone(),
            lease: self.lease.take(),
            leads: false,
        };
        loop {
            let first = {
                let mut shard = self.single_flight.shard(&self.key);
                let Some(flight) = shard.get_mut(&self.key) else {
                    debug_assert!(false, "a leader of nothing");
                    return;
                };
                flight.begin_again();
                let Some(first) = flight.followers.pop_front() else {
                    shard.remove(&self.key);
                    // Not under the lock: a lease is given back when it is dropped.
                    drop(shard);
                    return;
                };
                first
            };
            next.leads = true;
            match first.tell.send(Told::Lead(next)) {
                Ok(()) => return,
                Err(Told::Lead(back)) => next = back,
                Err(Told::Shared(_)) => {
                    debug_assert!(false, "an answer came back in place of the lead");
                    return;
                }
            }
            next.leads = false;
        }
    }
}

/// One who waits for another's load. Dropped, it does not wait any more.
pub(super) struct Follower<R, L>(oneshot::Receiver<Told<R, L>>);

impl<R, L> Future for Follower<R, L> {
    /// `None` if the answer panicked while it was copied for the followers: then ask again.
    type Output = Option<Told<R, L>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(Result::ok)
    }
}

impl<R, L> fmt::Debug for SingleFlight<R, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SingleFlight")
            .field("loads", &self.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::KeyRef;

    type TestFlight = Arc<SingleFlight<u32, &'static str>>;

    fn key() -> EntryKey {
        KeyRef::new("7").to_owned()
    }

    fn lead(single_flight: &TestFlight) -> Leader<u32, &'static str> {
        single_flight.lead(&key()).expect("nobody leads")
    }

    fn follow(single_flight: &TestFlight) -> Follower<u32, &'static str> {
        match single_flight.join(&key()) {
            Joined::Follow(follower) => follower,
            Joined::Lead(_) => panic!("somebody should lead"),
        }
    }

    async fn shared(follower: Follower<u32, &'static str>) -> u32 {
        match follower.await {
            Some(Told::Shared(answer)) => answer,
            _ => panic!("should have been told"),
        }
    }

    async fn led(follower: Follower<u32, &'static str>) -> Leader<u32, &'static str> {
        match follower.await {
            Some(Told::Lead(leader)) => leader,
            _ => panic!("should lead"),
        }
    }

    #[tokio::test]
    async fn those_who_asked_before_the_load_share_it_and_the_others_share_the_next() {
        let single_flight = SingleFlight::new();
        let leader = lead(&single_flight);
        let early = [follow(&single_flight), follow(&single_flight)];
        leader.enters(Stage::Read);
        let late = follow(&single_flight);
        let later = follow(&single_flight);
        leader.finish(Stage::Read, 1);
        for follower in early {
            assert_eq!(shared(follower).await, 1);
        }
        let leader = led(late).await;
        // One who comes now did not ask later than the others, either.
        let last = follow(&single_flight);
        leader.enters(Stage::Read);
        leader.finish(Stage::Read, 2);
        assert_eq!((shared(later).await, shared(last).await), (2, 2));
        assert_eq!(single_flight.len(), 0);
    }

    #[tokio::test]
    async fn what_was_stored_is_shared_by_all_who_asked_before_it_was() {
        let single_flight = SingleFlight::new();
        let leader = lead(&single_flight);
        leader.enters(Stage::Read);
        let late = follow(&single_flight);
        leader.enters(Stage::Fill);
        let too_late = follow(&single_flight);
        leader.finish(Stage::Fill, 1);
        assert_eq!(shared(late).await, 1);
        drop(led(too_late).await);
        assert_eq!(single_flight.len(), 0);
    }

    #[tokio::test]
    async fn a_question_that_is_asked_again_holds_for_all_who_are_there() {
        let single_flight = SingleFlight::new();
        let leader = lead(&single_flight);
        leader.enters(Stage::Acquire);
        let late = follow(&single_flight);
        leader.asks_again();
        leader.finish(Stage::Acquire, 1);
        assert_eq!(shared(late).await, 1);
    }

    #[tokio::test]
    async fn the_lead_and_its_lease_go_to_the_first_who_is_still_there() {
        let single_flight = SingleFlight::new();
        let mut leader = lead(&single_flight);
        let mut followers: Vec<_> = (0..1_000).map(|_| follow(&single_flight)).collect();
        let last = followers.pop().unwrap();
        leader.lease = Some("lease");
        leader.enters(Stage::Fill);
        drop(followers);
        drop(leader);
        let leader = led(last).await;
        assert_eq!(leader.lease, Some("lease"));
        // Handed over, but never taken up.
        let (unlucky, lucky) = (follow(&single_flight), follow(&single_flight));
        drop(leader);
        drop(unlucky);
        assert_eq!(led(lucky).await.lease, Some("lease"));
        assert_eq!(single_flight.len(), 0);
    }

    #[test]
    fn followers_that_left_are_let_go_of() {
        let single_flight = SingleFlight::new();
        let _leader = lead(&single_flight);
        for _ in 0..10_000 {
            drop(follow(&single_flight));
        }
        let shard = single_flight.shard(&key());
        assert!(shard[&key()].followers.len() <= 64);
    }
}
