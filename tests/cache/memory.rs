//! Answers in memory that are asked for again and again.

use crate::support::*;
use buttress::{
    Error, Now,
    cache::{Cache, Freshness, InvalidationMode, KeyRef, MemoryStore, Store},
};
use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};
use tokio::runtime::{Builder, Runtime};

type Answers = Cache<Arc<u64>>;

fn answers(entries: usize) -> Answers {
    let store = MemoryStore::entries(entries).unwrap();
    terms().store(store).build().unwrap()
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn key() -> KeyRef<'static> {
    KeyRef::new("hot").tagged("all")
}

async fn ask(cache: &Answers, key: KeyRef<'_>, answer: &Arc<u64>) -> Arc<u64> {
    let answer = Arc::clone(answer);
    let load = || async move { Ok::<_, Error<Broken>>(answer) };
    cache.run(key, load).await.unwrap().value
}

/// Has two threads ask for it again and again.
fn make_hot(cache: &Answers, answer: &Arc<u64>) {
    for _ in 0..2 {
        thread::scope(|scope| {
            scope.spawn(|| {
                runtime().block_on(async {
                    for _ in 0..20 {
                        ask(cache, key(), answer).await;
                    }
                });
            });
        });
    }
    assert_eq!(cache.snapshot().loads_total, 1);
}

#[test]
fn what_is_not_kept_any_more_is_let_go_of_at_once() {
    type End = fn(&Answers, &Runtime);
    let ends: [(&str, End); 4] = [
        ("invalidated", |cache, runtime| {
            runtime.block_on(cache.invalidate(key())).unwrap();
        }),
        ("cleared", |cache, _| cache.store().clear()),
        ("replaced", |cache, runtime| {
            let kept = cache.invalidate_with(key(), InvalidationMode::Keep);
            runtime.block_on(kept).unwrap();
            runtime.block_on(ask(cache, key(), &Arc::new(2)));
        }),
        ("evicted", |cache, runtime| {
            for other in 0..1_000_u64 {
                let name = other.to_string();
                // Asked for once, they would give way to what is asked for more.
                for _ in 0..4 {
                    runtime.block_on(ask(cache, KeyRef::new(&name), &Arc::new(other)));
                }
            }
        }),
    ];
    for (what, end) in ends {
        let (cache, runtime, answer) = (answers(8), runtime(), Arc::new(1));
        make_hot(&cache, &answer);
        assert!(Arc::strong_count(&answer) > 1, "{what}");
        end(&cache, &runtime);
        assert_eq!(Arc::strong_count(&answer), 1, "{what}");
    }
}

#[test]
fn what_is_asked_for_most_is_not_evicted_for_what_is_asked_for_less() {
    let (cache, answer) = (answers(100), Arc::new(1));
    runtime().block_on(async {
        for other in 0..3_000_u64 {
            let name = other.to_string();
            for _ in 0..4 {
                ask(&cache, KeyRef::new(&name), &Arc::new(other)).await;
                for _ in 0..5 {
                    ask(&cache, key(), &answer).await;
                }
            }
        }
    });
    assert_eq!(cache.snapshot().loads_total, 3_001);
}

#[test]
fn nobody_finds_at_hand_what_was_invalidated() {
    const WRITES: u64 = 300;
    let (cache, truth) = (answers(100), Arc::new(AtomicU64::new(0)));
    let (acked, done) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let reader = || {
            runtime().block_on(async {
                while !done.load(SeqCst) {
                    let (before, truth) = (acked.load(SeqCst), truth.clone());
                    let load =
                        || async move { Ok::<_, Error<Broken>>(Arc::new(truth.load(SeqCst))) };
                    let read = *cache.run(key(), load).await.unwrap().value;
                    assert!(
                        read >= before,
                        "read {read} after {before} was acknowledged"
                    );
                }
            });
        };
        let readers = [(); 3].map(|()| scope.spawn(reader));
        runtime().block_on(async {
            for write in 1..=WRITES {
                truth.store(write, SeqCst);
                match write % 3 {
                    0 => cache.invalidate_tag("all").await.unwrap(),
                    1 => cache.invalidate(key()).await.unwrap(),
                    _ => cache
                        .invalidate_with(key(), InvalidationMode::Keep)
                        .await
                        .unwrap(),
                }
                acked.store(write, SeqCst);
                // Until it is at hand again, if nobody has failed.
                let hits = cache.snapshot().fresh_total;
                while cache.snapshot().fresh_total < hits + 30 {
                    if readers.iter().any(|reader| reader.is_finished()) {
                        return;
                    }
                    thread::yield_now();
                }
            }
        });
        done.store(true, SeqCst);
    });
    assert_eq!(acked.load(SeqCst), WRITES);
}

/// Fails instead of hanging if two wait for each other.
fn in_time(work: impl FnOnce() + Send + 'static) {
    let (done, is_done) = std::sync::mpsc::channel();
    thread::spawn(move || {
        work();
        done.send(())
    });
    is_done.recv_timeout(30 * SECOND).unwrap();
}

/// Clears the store it was in when it is let go of.
struct Clears(OnceLock<Cache<Arc<Self>>>);

impl Drop for Clears {
    fn drop(&mut self) {
        if let Some(cache) = self.0.get() {
            cache.store().clear();
        }
    }
}

#[test]
fn what_is_not_kept_any_more_may_use_the_store_when_it_is_dropped() {
    let keys: [&[&str]; 2] = [&["replaced"], &["evicted", "by another"]];
    for keys in keys {
        in_time(move || {
            let store = MemoryStore::entries(1).unwrap();
            // Nothing is fresh, so all is loaded again.
            let terms = terms().freshness(Freshness {
                fresh: Duration::ZERO,
                ..TERMS
            });
            let cache: Cache<Arc<Clears>> = terms.store(store).build().unwrap();
            runtime().block_on(async {
                for key in keys.iter().cycle().take(4) {
                    let answer = Arc::new(Clears(OnceLock::from(cache.clone())));
                    let load = || async move { Ok::<_, Error<Broken>>(answer) };
                    cache.run(*key, load).await.unwrap();
                    settle().await;
                }
            });
        });
    }
}

/// Does something when it is copied.
struct Copied(Arc<dyn Fn() + Send + Sync>);

impl Clone for Copied {
    fn clone(&self) -> Self {
        (self.0)();
        Self(Arc::clone(&self.0))
    }
}

#[test]
fn an_answer_may_look_for_another_while_it_is_copied_and_evicted() {
    in_time(|| {
        let store = MemoryStore::entries(1).unwrap();
        let cache: Cache<Copied> = terms().store(store).build().unwrap();
        let (armed, copying) = (AtomicBool::new(false), AtomicBool::new(false));
        let flags = Arc::new((armed, copying));
        let answer = {
            let (cache, flags) = (cache.clone(), Arc::clone(&flags));
            Copied(Arc::new(move || {
                if flags.0.swap(false, SeqCst) {
                    flags.1.store(true, SeqCst);
                    let other = || cache.store().peek(KeyRef::new("other"), &Now::lazy());
                    while other().is_none() {
                        thread::yield_now();
                    }
                }
            }))
        };
        let ask = async |key: &str| {
            let answer = Copied(Arc::clone(&answer.0));
            let load = || async move { Ok::<_, Error<Broken>>(answer) };
            cache.run(key, load).await.unwrap();
        };
        let paused = || {
            let mut runtime = Builder::new_current_thread();
            runtime.enable_all().start_paused(true).build().unwrap()
        };
        thread::scope(|scope| {
            scope.spawn(|| {
                while !flags.1.load(SeqCst) {
                    thread::yield_now();
                }
                paused().block_on(ask("other"));
            });
            paused().block_on(async {
                for _ in 0..5 {
                    ask("hot").await;
                }
                flags.0.store(true, SeqCst);
                ask("hot").await;
            });
        });
        assert_eq!(cache.snapshot().loads_total, 2);
    });
}

#[test]
fn an_answer_that_grows_does_not_upset_the_count() {
    let store = MemoryStore::weighed(1 << 20, |size: &Arc<AtomicUsize>| size.load(SeqCst));
    let cache: Cache<Arc<AtomicUsize>> = terms().store(store.unwrap()).build().unwrap();
    let size = Arc::new(AtomicUsize::new(1_000));
    runtime().block_on(async {
        let answer = Arc::clone(&size);
        let load = || async move { Ok::<_, Error<Broken>>(answer) };
        cache.run("7", load).await.unwrap();
        assert!(cache.store().weight() >= 1_000);
        size.store(9_000, SeqCst);
        cache.invalidate("7").await.unwrap();
    });
    assert_eq!(cache.store().weight(), 0);
}

#[test]
fn an_answer_that_there_is_no_room_for_does_not_count_as_stored() {
    let store = MemoryStore::weighed(1 << 10, |_: &Arc<u64>| 9_000).unwrap();
    let cache: Answers = terms().store(store).build().unwrap();
    runtime().block_on(async {
        let load = || async { Ok::<_, Error<Broken>>(Arc::new(1)) };
        let status = cache.run("7", load).await.unwrap().status;
        assert_eq!(status.to_string(), "items; fwd=uri-miss");
    });
    assert!(cache.store().is_empty());
    let snapshot = cache.snapshot();
    assert_eq!((snapshot.stored_total, snapshot.not_stored_total), (0, 1));
}

#[test]
fn what_it_keeps_is_dropped_with_the_cache() {
    let (cache, answer) = (answers(16), Arc::new(7));
    make_hot(&cache, &answer);
    assert!(Arc::strong_count(&answer) > 1);
    drop(cache);
    // Another test's thread may be at it.
    while Arc::strong_count(&answer) > 1 {
        thread::yield_now();
    }
}
