//! Memory over Redis: whose invalidations it hears of, and what it does when it does not.

use super::{server::Server, support::*};
use buttress::{
    Now, Time,
    cache::{AcquireOptions, Acquired, EntryKey, Fill, Freshness, InvalidationMode, Store},
    redis::{RedisStore, Tiered},
};
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

pub(crate) type Both = Tiered<String, Text>;
pub(crate) const HEARTBEAT: Duration = Duration::from_millis(300);

pub(crate) async fn both(server: &Server) -> Both {
    both_with(server, 60 * S, HEARTBEAT).await
}

/// Where time alone makes nothing go.
async fn lasting(server: &Server) -> Both {
    both_with(server, 60 * S, 60 * S).await
}

async fn both_with(server: &Server, max_age: Duration, heartbeat: Duration) -> Both {
    let store = Tiered::builder(connect(server).await)
        .max_age(max_age)
        .heartbeat(heartbeat)
        .build()
        .unwrap();
    eventually("it listens", async || store.listens()).await;
    store
}

pub(crate) fn peek(store: &Both, key: &EntryKey) -> Option<String> {
    Some(store.peek(key.as_ref(), &Now::lazy())?.value)
}

async fn ask(store: &Both, key: &EntryKey) -> String {
    match store
        .acquire(key, AcquireOptions::new(10 * S))
        .await
        .unwrap()
    {
        Acquired::Fresh(entry) => entry.value,
        other => panic!("{other:?}"),
    }
}

async fn load(store: &Both, key: &EntryKey, text: &str) {
    match store
        .acquire(key, AcquireOptions::new(10 * S))
        .await
        .unwrap()
    {
        Acquired::Leased { lease, .. } => {
            let fill = Fill::new(text.to_owned(), WINDOWS, MS);
            assert!(store.fill(key, &lease, fill).await.unwrap());
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_was_filled_or_read_is_in_memory_with_its_age() {
    let server = Server::start();
    let (here, there) = (lasting(&server).await, lasting(&server).await);
    let page = tagged("page", "items");
    assert_eq!(peek(&here, &page), None);
    let before = Time::now();
    load(&here, &page, "x").await;
    assert_eq!(peek(&here, &page).unwrap(), "x");
    let hit = here.peek(page.as_ref(), &Now::lazy()).unwrap();
    assert!(hit.born >= before);
    assert_eq!(
        (hit.stale_at.since(hit.born), hit.cost),
        (WINDOWS.fresh, MS)
    );

    assert_eq!(peek(&there, &page), None);
    assert_eq!(ask(&there, &page).await, "x");
    assert_eq!(peek(&there, &page).unwrap(), "x");
    assert_eq!((here.len(), there.len()), (1, 1));
    assert_eq!(peek(&here, &key("page")), None);
}

#[tokio::test]
async fn what_another_instance_invalidates_is_heard_of() {
    let server = Server::start();
    let (here, there) = (lasting(&server).await, lasting(&server).await);
    let page = tagged("page", "items");
    for mode in [InvalidationMode::Drop, InvalidationMode::Keep] {
        for by_tag in [false, true] {
            load(&here, &page, "x").await;
            assert_eq!(peek(&here, &page).unwrap(), "x");
            match by_tag {
                true => there.invalidate_tag("items", mode).await.unwrap(),
                false => there.invalidate(&page, mode).await.unwrap(),
            }
            eventually("it is heard of", async || peek(&here, &page).is_none()).await;
        }
    }
}

#[tokio::test]
async fn its_own_invalidations_hold_at_once_whether_redis_hears_of_them_or_not() {
    let mut server = Server::start();
    let store = lasting(&server).await;
    for by_tag in [false, true] {
        let page = tagged("page", if by_tag { "items" } else { "users" });
        let invalidate = async || match by_tag {
            true => store.invalidate_tag("items", InvalidationMode::Drop).await,
            false => store.invalidate(&page, InvalidationMode::Drop).await,
        };
        load(&store, &page, "x").await;
        assert!(peek(&store, &page).is_some());
        // Not waited for long enough; no message comes either.
        server.stop();
        assert!(timeout(20 * MS, invalidate()).await.is_err());
        assert_eq!(peek(&store, &page), None);
        server.go_on();
        eventually("Redis answers", async || invalidate().await.is_ok()).await;
        assert_eq!(peek(&store, &page), None);
    }
    let page = tagged("page", "others");
    load(&store, &page, "x").await;
    server.kill();
    assert!(
        store
            .invalidate(&page, InvalidationMode::Drop)
            .await
            .is_err()
    );
    assert_eq!(peek(&store, &page), None);
}

// What is stale, or known to be outdated, is for Redis to tell of.
#[tokio::test]
async fn memory_holds_nothing_stale_and_nothing_for_longer_than_it_may() {
    let server = Server::start();
    let max_age = 100 * MS;
    let store = both_with(&server, max_age, 60 * S).await;
    let seven = key("7");
    load(&store, &seven, "x").await;
    eventually("its time in memory is over", async || {
        let now = Time::now();
        let seen = store.peek(seven.as_ref(), &Now::at(now));
        seen.is_none_or(|entry| {
            assert!(now.since(entry.born) < max_age);
            false
        })
    })
    .await;
    assert_eq!(ask(&store, &seven).await, "x");

    let eight = key("8");
    let answer = store.acquire(&eight, AcquireOptions::new(S)).await.unwrap();
    let Acquired::Leased { lease, .. } = answer else {
        panic!("{answer:?}")
    };
    let windows = Freshness {
        fresh: MS,
        ..WINDOWS
    };
    sleep(2 * MS).await;
    assert!(
        store
            .fill(&eight, &lease, Fill::new("old".into(), windows, MS))
            .await
            .unwrap()
    );
    assert_eq!(peek(&store, &eight), None);
    assert_eq!(store.look(&eight).await.unwrap().unwrap().value, "old");
    assert_eq!(peek(&store, &eight), None);
}

#[tokio::test]
async fn an_answer_that_redis_refused_is_not_in_memory() {
    let server = Server::start();
    let store = lasting(&server).await;
    let seven = key("7");
    // Its lease has expired, which nobody is told of.
    let answer = store
        .acquire(&seven, AcquireOptions::new(MS))
        .await
        .unwrap();
    let Acquired::Leased { lease, .. } = answer else {
        panic!("{answer:?}")
    };
    sleep(5 * MS).await;
    let fill = Fill::new("old".into(), WINDOWS, MS);
    assert!(!store.fill(&seven, &lease, fill).await.unwrap());
    assert_eq!(peek(&store, &seven), None);
}

#[tokio::test]
async fn a_lost_connection_forgets_all_so_that_nothing_missed_meanwhile_is_answered() {
    let server = Server::start();
    let here = lasting(&server).await;
    let there = connect(&server).await;
    for round in 0..20 {
        let seven = key(&round.to_string());
        load(&here, &seven, "old").await;
        assert_eq!(peek(&here, &seven).unwrap(), "old");
        // The message goes nowhere: the connection is cut before it.
        server.ask::<()>(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        invalidate(&there, &seven, InvalidationMode::Drop).await;
        eventually("it is forgotten", async || peek(&here, &seven).is_none()).await;
        eventually("it listens again", async || here.listens()).await;
        assert_eq!(peek(&here, &seven), None);
    }
}

#[tokio::test]
async fn while_redis_hangs_memory_answers_for_a_heartbeat_and_no_longer() {
    let server = Server::start();
    let (here, there) = (both(&server).await, connect(&server).await);
    let seven = key("7");
    load(&here, &seven, "old").await;
    server.stop();
    let stopped = Instant::now();
    loop {
        let began = stopped.elapsed();
        match peek(&here, &seven) {
            Some(_) => assert!(began <= HEARTBEAT, "{began:?}"),
            None => break,
        }
        sleep(MS).await;
    }
    // An invalidation waits in the queue of the server; it goes on within its patience.
    let (store, entry) = (there.clone(), seven.clone());
    let said = tokio::spawn(async move { store.invalidate(&entry, InvalidationMode::Drop).await });
    sleep(50 * MS).await;
    server.go_on();
    if said.await.unwrap().is_err() {
        // It hung for so long that the connection was given up.
        connected(&there).await;
        invalidate(&there, &seven, InvalidationMode::Drop).await;
    }
    eventually("it listens", async || here.listens()).await;
    eventually("it has heard of it", async || peek(&here, &seven).is_none()).await;
    load(&here, &seven, "new").await;
    eventually("it is kept", async || {
        ask(&here, &seven).await == "new" && peek(&here, &seven).is_some()
    })
    .await;
}

#[tokio::test]
async fn a_restart_forgets_all_and_memory_comes_back_by_itself() {
    let mut server = Server::start();
    let here = both(&server).await;
    let seven = key("7");
    load(&here, &seven, "old").await;
    server.restart();
    let back = Instant::now();
    eventually("it does not listen to what is gone", async || {
        peek(&here, &seven).is_none()
    })
    .await;
    eventually("it listens again", async || here.listens()).await;
    assert!(back.elapsed() < 2 * S, "{:?}", back.elapsed());
    eventually("it works", async || here.look(&seven).await.is_ok()).await;
    load(&here, &seven, "new").await;
    eventually("it is kept", async || {
        ask(&here, &seven).await == "new" && peek(&here, &seven).is_some()
    })
    .await;
}

// A message that nobody understands may have been an invalidation.
#[tokio::test]
async fn a_message_of_another_version_forgets_all() {
    let server = Server::start();
    let here = lasting(&server).await;
    for said in ["", "?", "e9:x"] {
        let (entry, page) = (key(said), tagged(said, "items"));
        load(&here, &entry, "x").await;
        load(&here, &page, "x").await;
        assert!(peek(&here, &entry).is_some() && peek(&here, &page).is_some());
        server.ask::<()>(&["PUBLISH", "app:invalidated", said]);
        eventually("they are forgotten", async || {
            peek(&here, &entry).is_none() && peek(&here, &page).is_none()
        })
        .await;
    }
}

#[tokio::test]
async fn what_makes_no_tier_is_refused_and_a_dropped_one_closes_its_connections() {
    let server = Server::start();
    let redis = connect(&server).await;
    let field =
        |built: Result<Both, buttress::InvalidConfig>| built.unwrap_err().field().to_owned();
    let builder = || Tiered::<String, _>::builder(redis.clone());
    assert_eq!(field(builder().entries(0).build()), "entries");
    assert_eq!(field(builder().entries(usize::MAX).build()), "entries");
    assert_eq!(field(builder().weighed(10, String::len).build()), "bytes");
    assert_eq!(
        field(builder().weighed(usize::MAX, String::len).build()),
        "bytes"
    );
    assert_eq!(field(builder().max_age(Duration::ZERO).build()), "max_age");
    assert_eq!(field(builder().heartbeat(9 * MS).build()), "heartbeat");

    let clients = || server.ask::<String>(&["CLIENT", "LIST"]).lines().count();
    let store = builder().weighed(1 << 20, String::len).build().unwrap();
    assert!(format!("{store:?} {:?}", builder()).contains("app"));
    eventually("it listens", async || store.listens()).await;
    eventually("there are two, and ours", async || clients() == 3).await;
    drop((store, redis));
    eventually("they are closed", async || clients() == 1).await;
}

// The type is public, and its defaults are what the docs say.
#[tokio::test]
async fn a_tier_is_built_while_redis_is_away() {
    let redis = RedisStore::builder("redis://127.0.0.1:1")
        .namespace("app")
        .connect()
        .unwrap();
    let store = Tiered::<String>::builder(redis).build().unwrap();
    assert!(!store.listens() && store.is_empty());
    assert!(store.peek("7".into(), &Now::lazy()).is_none());
    assert!(store.look(&key("7")).await.is_err());
}
