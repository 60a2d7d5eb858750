//! Answers in memory that are asked for again and again.

use crate::support::*;
use buttress::{
    Error,
    cache::{Cache, KeyRef, MemoryStore, Mode},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread,
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
    assert_eq!(cache.snapshot().loads, 1);
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
            let kept = cache.invalidate_with(key(), Mode::Keep);
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
    assert_eq!(cache.snapshot().loads, 3_001);
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
                    _ => cache.invalidate_with(key(), Mode::Keep).await.unwrap(),
                }
                acked.store(write, SeqCst);
                // Until it is at hand again, if nobody has failed.
                let hits = cache.snapshot().fresh;
                while cache.snapshot().fresh < hits + 30 {
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
