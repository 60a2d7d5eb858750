//! What an invalidation leaves behind.

use crate::support::*;
use buttress::{
    Error,
    cache::{Cache, InvalidationMode, KeyRef},
};
use futures::future::join;
use tokio::time::advance;

#[tokio::test(start_paused = true)]
async fn what_was_invalidated_is_loaded_again() {
    let (cache, source) = (cache(), Source::new());
    let _ = source.ask(&cache).await;
    cache.invalidate("7").await.unwrap();
    assert_eq!(
        source.ask(&cache).await,
        (Ok(2), "items; fwd=uri-miss; stored".into())
    );
    assert_eq!(cache.snapshot().invalidations_total, 1);
}

// I2, I3
#[tokio::test(start_paused = true)]
async fn a_load_that_raced_with_an_invalidation_is_not_stored() {
    let (cache, source) = (cache(), Source::taking(SECOND));
    let write = async {
        advance(500 * MS).await;
        cache.invalidate("7").await.unwrap();
    };
    let ((answer, status), ()) = join(source.ask(&cache), write).await;
    assert_eq!(
        (answer, &*status),
        (Ok(1), "items; fwd=uri-miss"),
        "its own answer is good"
    );
    assert_eq!(source.ask(&cache).await.0, Ok(2));
    assert_eq!(
        (
            cache.snapshot().stored_total,
            cache.snapshot().not_stored_total
        ),
        (1, 1)
    );
}

// I6
#[tokio::test(start_paused = true)]
async fn who_asks_after_an_invalidation_does_not_share_a_load_from_before_it() {
    let (cache, source) = (cache(), Source::taking(SECOND));
    let write_and_read = async {
        settle().await;
        assert_eq!(source.loads(), 1);
        cache.invalidate("7").await.unwrap();
        source.ask(&cache).await
    };
    let (first, second) = join(source.ask(&cache), write_and_read).await;
    assert_eq!((first.0, second.0), (Ok(1), Ok(2)));
}

#[tokio::test(start_paused = true)]
async fn dropped_is_gone_and_kept_is_better_than_an_error() {
    let (cache, source) = (cache(), Source::new());
    let _ = source.ask(&cache).await;
    cache
        .invalidate_with("7", InvalidationMode::Keep)
        .await
        .unwrap();
    source.broken(true);
    let (answer, status) = source.ask(&cache).await;
    assert_eq!(answer, Ok(1));
    assert!(status.ends_with("detail=sie"), "{status}");
    cache.invalidate("7").await.unwrap();
    assert_eq!(source.ask(&cache).await.0, Err(Error::Service(Broken)));
}

// I12
#[tokio::test(start_paused = true)]
async fn keeping_does_not_make_it_last_longer() {
    let (cache, source) = (cache(), Source::new());
    let _ = source.ask(&cache).await;
    source.broken(true);
    for _ in 0..10 {
        advance(11 * SECOND).await;
        cache
            .invalidate_with("7", InvalidationMode::Keep)
            .await
            .unwrap();
    }
    assert_eq!(source.ask(&cache).await.0, Err(Error::Service(Broken)));
}

#[tokio::test(start_paused = true)]
async fn kept_and_outdated_is_not_given_while_a_new_answer_is_looked_for() {
    let (cache, source) = (cache(), Source::new());
    let _ = source.ask(&cache).await;
    cache
        .invalidate_with("7", InvalidationMode::Keep)
        .await
        .unwrap();
    assert_eq!(source.ask(&cache).await.0, Ok(2));
}

#[tokio::test(start_paused = true)]
async fn a_tag_invalidates_all_its_entries_and_their_loads_and_no_others() {
    let cache = cache();
    let ask = async |key: &'static str, tag: &'static str, value: u32| {
        let load = move || async move {
            tokio::time::sleep(SECOND).await;
            Ok::<_, Error<Broken>>(value)
        };
        let cached = cache.run(KeyRef::new(key).tagged(tag), load).await.unwrap();
        cached.value
    };
    assert_eq!((ask("1", "a", 1).await, ask("2", "a", 1).await), (1, 1));
    assert_eq!(
        ask("1", "b", 1).await,
        1,
        "the tag is part of what identifies an entry"
    );
    let write = async {
        advance(500 * MS).await;
        cache.invalidate_tag("a").await.unwrap();
    };
    let (raced, ()) = join(ask("3", "a", 1), write).await;
    assert_eq!(raced, 1);
    assert_eq!((ask("1", "a", 2).await, ask("2", "a", 2).await), (2, 2));
    assert_eq!(ask("3", "a", 2).await, 2, "what raced was not stored");
    assert_eq!(ask("1", "b", 2).await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_tag_can_be_dropped_or_kept() {
    let cache = cache();
    let ask = async |answer: Answer| {
        let load = move || async move { answer };
        let key = KeyRef::new("1").tagged("a");
        cache.run(key, load).await.map(|cached| cached.value)
    };
    let broken = Err(Error::Service(Broken));
    ask(Ok(1)).await.unwrap();
    cache
        .invalidate_tag_with("a", InvalidationMode::Keep)
        .await
        .unwrap();
    assert_eq!(ask(broken).await, Ok(1));
    cache.invalidate_tag("a").await.unwrap();
    cache
        .invalidate_tag_with("a", InvalidationMode::Keep)
        .await
        .unwrap();
    assert_eq!(ask(broken).await, broken, "what was dropped stays so");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_read_after_an_invalidation_sees_what_was_before_it() {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    };
    const WRITES: u32 = 1_000;
    let (cache, truth) = (cache(), Arc::new(AtomicU32::new(0)));
    // What the last acknowledged write was.
    let acked = Arc::new(AtomicU32::new(0));
    let readers: Vec<_> = (0..6)
        .map(|n| {
            let (cache, truth, acked) = (cache.clone(), truth.clone(), acked.clone());
            tokio::spawn(async move {
                for round in n.. {
                    let before = acked.load(SeqCst);
                    if before == WRITES {
                        break;
                    }
                    let truth = truth.clone();
                    let load = move || async move {
                        tokio::task::yield_now().await;
                        let read = truth.load(SeqCst);
                        for _ in 0..round % 4 {
                            tokio::task::yield_now().await;
                        }
                        Ok::<_, Error<Broken>>(read)
                    };
                    let ask = cache.run(KeyRef::new("7").tagged("t"), load);
                    // Some are given up in the middle.
                    if round % 31 == 0 {
                        let _ = tokio::time::timeout(MS / 100, ask).await;
                        continue;
                    }
                    let read = ask.await.unwrap().value;
                    assert!(
                        read >= before,
                        "read {read} after {before} was acknowledged"
                    );
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    let writer = tokio::spawn({
        let (cache, truth, acked) = (cache.clone(), truth.clone(), acked.clone());
        async move {
            for write in 1..=WRITES {
                let loads = cache.snapshot().loads_total;
                truth.store(write, SeqCst);
                match write % 3 {
                    0 => cache.invalidate_tag("t").await.unwrap(),
                    _ => {
                        let key = KeyRef::new("7").tagged("t");
                        cache.invalidate(key).await.unwrap();
                    }
                }
                acked.store(write, SeqCst);
                // Until somebody has read what was written; after the last one nobody will.
                while write < WRITES && cache.snapshot().loads_total == loads {
                    tokio::task::yield_now().await;
                }
            }
        }
    });
    for reader in readers {
        reader.await.unwrap();
    }
    writer.await.unwrap();
    let snapshot = cache.snapshot();
    assert!(snapshot.not_stored_total > 0, "nothing raced: {snapshot:?}");
}

#[tokio::test(start_paused = true)]
async fn a_write_whose_caller_has_no_more_time_still_invalidates() {
    use buttress::timeout::Deadline;
    let (cache, source) = (cache(), Source::new());
    let _ = source.ask(&cache).await;
    let too_late = Deadline::within(MS).scope(async {
        advance(SECOND).await;
        cache.invalidate("7").await
    });
    too_late.await.unwrap();
    assert_eq!(source.ask(&cache).await.0, Ok(2));
}

/// Someone else finds the source unwell while a leader, who knows of a stale answer, loads; then
/// that is dropped from the store, and the leader goes away.
#[tokio::test(start_paused = true)]
async fn a_leader_that_goes_away_does_not_hand_on_what_was_dropped() {
    for by_tag in [false, true] {
        let (cache, source) = (cache(), Source::new());
        let key = KeyRef::new("7").tagged("all");
        let ask = |cache: &Cache<u32>, source: &Source| {
            let (cache, source) = (cache.clone(), source.clone());
            tokio::spawn(async move {
                let load = move || source.load();
                cache.run(key, load).await.map(|cached| cached.value)
            })
        };
        assert_eq!(ask(&cache, &source).await.unwrap(), Ok(1));
        advance(25 * SECOND).await;
        source.hold_up();
        let leader = ask(&cache, &source);
        settle().await;
        for other in ["1", "2", "3"] {
            let broken = async || Err::<u32, _>(Error::Service(Broken));
            assert!(cache.run(other, broken).await.is_err());
        }
        match by_tag {
            true => cache.invalidate_tag("all").await.unwrap(),
            false => cache.invalidate(key).await.unwrap(),
        }
        let after = ask(&cache, &source);
        settle().await;
        leader.abort();
        settle().await;
        source.broken(true);
        source.let_go(1);
        assert_eq!(after.await.unwrap(), Err(Error::Service(Broken)));
    }
}
