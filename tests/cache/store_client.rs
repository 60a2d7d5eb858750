//! Stores that do not do what they should.

use crate::support::*;
use buttress::{
    CircuitBreaker, Error, Now,
    cache::{
        AcquireOptions, Acquired, Cache, Entry, EntryKey, Fill, Hit, InvalidationMode, KeyRef,
        MemoryStore, Store, StoreError,
    },
    timeout::{Deadline, Timeout},
};
use futures::future::join_all;
use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::{
    sync::oneshot,
    time::{Instant, advance, timeout},
};

/// A store in memory that can hang or fail.
#[derive(Clone)]
struct Ailing(Arc<(MemoryStore<u32>, AtomicU8, AtomicU32)>);

const WELL: u8 = 0;
const HANGS: u8 = 1;
const FAILS: u8 = 2;
const CANNOT_WRITE: u8 = 3;
/// Others hold the lease, one after the other.
const BUSY: u8 = 4;
const SLOW: u8 = 5;

impl Ailing {
    fn new() -> Self {
        let memory = MemoryStore::entries(100).unwrap();
        Self(Arc::new((memory, AtomicU8::new(WELL), AtomicU32::new(0))))
    }

    fn be(&self, how: u8) {
        self.0.1.store(how, SeqCst);
    }

    fn asked(&self) -> u32 {
        self.0.2.load(SeqCst)
    }

    async fn ask(&self) -> Result<&MemoryStore<u32>, StoreError> {
        self.0.2.fetch_add(1, SeqCst);
        match self.0.1.load(SeqCst) {
            WELL | BUSY => Ok(&self.0.0),
            HANGS => pending().await,
            SLOW => {
                tokio::time::sleep(60 * MS).await;
                Ok(&self.0.0)
            }
            CANNOT_WRITE => Err(StoreError::Codec("too strange".into())),
            _ => Err(StoreError::Unavailable("gone".into())),
        }
    }
}

impl Store<u32> for Ailing {
    type Lease = <MemoryStore<u32> as Store<u32>>::Lease;

    fn peek(&self, _: KeyRef<'_>, _: &Now) -> Option<Hit<u32>> {
        None
    }
    async fn acquire(
        &self,
        key: &EntryKey,
        ask: AcquireOptions,
    ) -> Result<Acquired<u32, Self::Lease>, StoreError> {
        let memory = self.ask().await?;
        if self.0.1.load(SeqCst) == BUSY {
            let (lasts, known) = (ask.lease, None);
            return Ok(Acquired::Busy { lasts, known });
        }
        memory.acquire(key, ask).await
    }
    async fn fill(
        &self,
        key: &EntryKey,
        lease: &Self::Lease,
        fill: Fill<u32>,
    ) -> Result<bool, StoreError> {
        self.ask().await?.fill(key, lease, fill).await
    }
    async fn release(&self, key: &EntryKey, lease: Self::Lease) -> Result<(), StoreError> {
        Store::<u32>::release(self.ask().await?, key, lease).await
    }
    async fn look(&self, key: &EntryKey) -> Result<Option<Entry<u32>>, StoreError> {
        self.ask().await?.look(key).await
    }
    async fn invalidate(&self, key: &EntryKey, mode: InvalidationMode) -> Result<(), StoreError> {
        Store::<u32>::invalidate(self.ask().await?, key, mode).await
    }
    async fn invalidate_tag(&self, tag: &str, mode: InvalidationMode) -> Result<(), StoreError> {
        Store::<u32>::invalidate_tag(self.ask().await?, tag, mode).await
    }
}

fn ailing() -> (Ailing, Cache<u32, Ailing>, Source) {
    let store = Ailing::new();
    let cache = terms().store(store.clone()).build().unwrap();
    (store, cache, Source::new())
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_is_a_miss_and_soon_costs_nothing() {
    let (store, cache, source) = ailing();
    store.be(FAILS);
    for load in 1..=20 {
        let (answer, status) = source.ask(&cache).await;
        assert_eq!(answer, Ok(load));
        assert_eq!(status, "items; fwd=uri-miss; detail=store-unavailable");
    }
    let asked = store.asked();
    assert!(asked <= 20, "its breaker keeps it out: {asked}");
    let snapshot = cache.snapshot();
    assert!(!snapshot.store_up);
    assert_eq!(snapshot.store_failures_total, 20);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_costs_its_timeout_at_first_and_then_nothing() {
    let (store, cache, source) = ailing();
    store.be(HANGS);
    let took = async || {
        let start = Instant::now();
        assert!(source.ask(&cache).await.0.is_ok());
        start.elapsed()
    };
    for _ in 0..5 {
        assert!(took().await <= 102 * MS);
    }
    for _ in 0..600 {
        // Whether it is back is found out in the background.
        assert!(took().await.is_zero());
        advance(100 * MS).await;
    }
    assert!(store.asked() > 30, "it is asked about once a second");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_takes_no_more_than_half_of_the_time_that_a_call_has() {
    let (store, cache, source) = ailing();
    store.be(HANGS);
    // Less than the store's own timeout, so that no question of theirs ever runs into that.
    for _ in 0..20 {
        let start = Instant::now();
        let asked = Deadline::within(60 * MS).scope(source.ask(&cache)).await;
        assert!(asked.0.is_ok(), "{asked:?}");
        assert!(start.elapsed() <= 31 * MS, "{:?}", start.elapsed());
    }
    assert!(
        !cache.snapshot().store_up,
        "by now it is known that it hangs"
    );
    assert!(store.asked() < 20, "{}", store.asked());
}

#[tokio::test(start_paused = true)]
async fn a_store_is_not_out_because_calls_had_no_time_for_it() {
    let (store, cache, source) = ailing();
    store.be(HANGS);
    for _ in 0..20 {
        let asked = Deadline::within(10 * MS).scope(source.ask(&cache)).await;
        assert!(asked.0.is_ok(), "{asked:?}");
    }
    assert!(cache.snapshot().store_up);
    assert_eq!(store.asked(), 20);
}

#[tokio::test(start_paused = true)]
async fn that_a_caller_has_no_more_time_is_no_failure_of_the_store() {
    let (store, cache, source) = ailing();
    // Cut off in its load, after which the store would be asked for something stale.
    let timeout = Timeout::new("source", SECOND);
    let load = timeout.clone();
    let load = move || async move { load.run(async || pending().await).await };
    let late = Deadline::within(50 * MS).scope(cache.run("7", load)).await;
    let answer: Result<_, Error<Broken>> = late;
    assert!(answer.is_err());
    assert_eq!(timeout.snapshot().deadline_exceeded_total, 1);
    assert_eq!(store.asked(), 1);
    // Late already when it comes.
    let _ = Deadline::within(Duration::ZERO)
        .scope(source.ask(&cache))
        .await;
    assert_eq!(store.asked(), 1);
    assert_eq!(cache.snapshot().store_failures_total, 0);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_back_is_used_again_within_two_seconds() {
    let (store, cache, source) = ailing();
    store.be(HANGS);
    for _ in 0..600 {
        let _ = source.ask(&cache).await;
        advance(100 * MS).await;
    }
    store.be(WELL);
    let back = Instant::now();
    while !source.ask(&cache).await.1.contains("hit") {
        advance(50 * MS).await;
        assert!(back.elapsed() < 2 * SECOND);
    }
    assert!(cache.snapshot().store_up);
}

// I11
#[tokio::test(start_paused = true)]
async fn an_invalidation_that_did_not_reach_the_store_says_so() {
    let (store, cache, source) = ailing();
    let _ = source.ask(&cache).await;
    for how in [FAILS, HANGS] {
        store.be(how);
        let start = Instant::now();
        let pending = cache.invalidate("7").await.unwrap_err();
        assert!(start.elapsed() <= 102 * MS, "{:?}", start.elapsed());
        assert!(
            pending
                .to_string()
                .starts_with("the invalidation is pending: ")
        );
        assert!(cache.invalidate_tag("t").await.is_err());
    }
    assert_eq!(
        (
            cache.snapshot().invalidations_pending_total,
            cache.snapshot().invalidations_total
        ),
        (4, 4)
    );
    store.be(WELL);
    advance(2 * SECOND).await;
    assert_eq!(
        source.ask(&cache).await.0,
        Ok(1),
        "it was pending, and says so"
    );
    cache.invalidate("7").await.unwrap();
    assert_eq!(source.ask(&cache).await.0, Ok(2));
}

#[tokio::test(start_paused = true)]
async fn a_crowd_before_a_dead_store_is_one_load() {
    let (store, cache, _) = ailing();
    let source = Source::taking(SECOND);
    store.be(FAILS);
    let answers = join_all((0..1_000).map(|_| source.ask(&cache))).await;
    assert!(answers.iter().all(|(answer, _)| answer.is_ok()));
    assert_eq!(source.loads(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_fails_while_the_store_hangs_is_answered_with_what_was_known() {
    let (store, cache, _) = ailing();
    let source = Source::new();
    let _ = source.ask(&cache).await;
    advance(50 * SECOND).await;
    source.broken(true);
    source.hold_up();
    let hang = async {
        settle().await;
        store.be(HANGS);
        source.let_go(1);
    };
    let ((answer, status), ()) = futures::future::join(source.ask(&cache), hang).await;
    assert_eq!(answer, Ok(1));
    assert!(status.ends_with("detail=sie"), "{status}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_cannot_be_written_is_not_the_stores_fault() {
    let (store, cache, source) = ailing();
    store.be(CANNOT_WRITE);
    for load in 1..=20 {
        assert_eq!(source.ask(&cache).await.0, Ok(load));
    }
    assert!(cache.snapshot().store_up);
}

#[tokio::test(start_paused = true)]
async fn what_was_dropped_is_not_the_answer_when_the_store_fails_after_its_leader_went_away() {
    let (store, cache, source) = ailing();
    assert_eq!(source.ask(&cache).await.0, Ok(1));
    advance(25 * SECOND).await;
    source.hold_up();
    let ask = || {
        let (cache, source) = (cache.clone(), source.clone());
        tokio::spawn(async move { source.ask(&cache).await.0 })
    };
    let leader = ask();
    settle().await;
    cache.invalidate("7").await.unwrap();
    let after = ask();
    settle().await;
    leader.abort();
    settle().await;
    store.be(FAILS);
    source.broken(true);
    source.let_go(1);
    assert_eq!(after.await.unwrap(), Err(Error::Service(Broken)));
}

/// The longest pause between two questions of a call that waits for another instance.
const PAUSE: Duration = Duration::from_millis(63);

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_the_loads_of_other_instances_longer_than_a_lease_in_all() {
    const LEASE: Duration = Duration::from_secs(5);
    let store = Ailing::new();
    let began = Instant::now();
    let loads: Vec<_> = (0..5)
        .map(|_| {
            let cache = terms().lease(LEASE).store(store.clone()).build::<u32>();
            let (cache, (tell, told)) = (cache.unwrap(), oneshot::channel());
            let load = async move || {
                tell.send(began.elapsed()).unwrap();
                pending::<Answer>().await
            };
            tokio::spawn(async move { cache.run("7", load).await.map(drop) });
            told
        })
        .collect();
    let loads = timeout(60 * SECOND, join_all(loads)).await.unwrap();
    let mut begin = loads.into_iter().map(Result::unwrap);
    assert_eq!(begin.next(), Some(Duration::ZERO));
    for begins in begin {
        assert!(LEASE <= begins && begins <= LEASE + PAUSE, "{begins:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn nor_does_a_call_that_has_followed_before_it_led() {
    const LEASE: Duration = Duration::from_secs(5);
    let (store, cache, source) = ailing();
    store.be(BUSY);
    let ask = || {
        let (source, cache) = (source.clone(), cache.clone());
        tokio::spawn(async move { source.ask(&cache).await })
    };
    let leader = ask();
    tokio::time::sleep(SECOND).await;
    let (follower, began) = (ask(), Instant::now());
    tokio::time::sleep(3 * SECOND).await;
    leader.abort();
    let answer = timeout(60 * SECOND, follower).await.unwrap();
    let (answer, status) = answer.unwrap();
    assert_eq!((answer, &*status), (Ok(1), "items; fwd=uri-miss"));
    let waited = began.elapsed();
    assert!(LEASE <= waited && waited <= LEASE + PAUSE, "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_call_asks_the_store_once_twice_if_it_loads_and_three_times_if_its_load_fails() {
    let (store, cache, source) = ailing();
    let mut before = 0;
    let mut asked = async || {
        let _ = source.ask(&cache).await;
        let asked = store.asked() - before;
        before += asked;
        asked
    };
    assert_eq!((asked().await, asked().await), (2, 1));
    source.broken(true);
    advance(21 * SECOND).await;
    assert_eq!(asked().await, 3, "a stale answer is better");
    advance(200 * SECOND).await;
    assert_eq!(asked().await, 3, "there is none");
}

#[tokio::test(start_paused = true)]
async fn whose_limit_cut_a_load_off_is_known_however_long_the_store_takes_to_hear_of_it() {
    let (store, cache, _) = ailing();
    let (breaker, limit) = (CircuitBreaker::new("db"), Timeout::new("db", SECOND));
    // Cuts off while the store is told: what had less than half of this one did not hang.
    let other = Timeout::new("other", 60 * SECOND);
    let other = other.run(pending::<Answer>);
    let load = move || async move {
        store.be(SLOW);
        limit.run(pending::<Answer>).await
    };
    let call = async {
        tokio::time::sleep(59 * SECOND - 50 * MS).await;
        breaker
            .run(|| cache.run(KeyRef::new("7"), load))
            .await
            .map(drop)
    };
    let (ended, other) = futures::join!(call, other);
    assert!(matches!(ended, Err(Error::Rejected(rejected)) if rejected.policy() == "db"));
    assert!(other.is_err());
    assert_eq!(breaker.snapshot().failures, 1);
}
