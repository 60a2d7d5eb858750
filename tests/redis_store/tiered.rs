//! Memory over Redis: whose invalidations it hears of, and what it does when it does not.

use crate::{server::Server, support::*};
use buttress::{
    Now, Time,
    cache::{Acquired, Ask, EntryKey, Fill, Freshness, Mode, Store},
    redis::{RedisStore, Tiered},
};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};
use tokio::time::{sleep, timeout};

type Both = Tiered<String, Text>;
const HEARTBEAT: Duration = Duration::from_millis(300);

async fn both(server: &Server) -> Both {
    both_with(server, 5 * S).await
}

async fn both_with(server: &Server, max_age: Duration) -> Both {
    let store = Tiered::builder(connect(server).await)
        .max_age(max_age)
        .heartbeat(HEARTBEAT)
        .build()
        .unwrap();
    eventually("it listens", async || store.listens()).await;
    store
}

fn peek(store: &Both, key: &EntryKey) -> Option<String> {
    Some(store.peek(key.as_ref(), &Now::lazy())?.value)
}

async fn ask(store: &Both, key: &EntryKey) -> String {
    match store.acquire(key, Ask::new(10 * S)).await.unwrap() {
        Acquired::Fresh(entry) => entry.value,
        other => panic!("{other:?}"),
    }
}

async fn load(store: &Both, key: &EntryKey, text: &str) {
    match store.acquire(key, Ask::new(10 * S)).await.unwrap() {
        Acquired::Leased { lease, .. } => {
            let fill = Fill::new(text.to_owned(), WINDOWS, MS);
            assert!(store.fill(key, lease, fill).await.unwrap());
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_was_filled_or_read_is_in_memory_with_its_age() {
    let server = Server::start();
    let (here, there) = (both(&server).await, both(&server).await);
    let page = tagged("page", "items");
    assert_eq!(peek(&here, &page), None);
    let before = Time::now();
    load(&here, &page, "x").await;
    assert_eq!(peek(&here, &page).unwrap(), "x");
    let entry = here.peek(page.as_ref(), &Now::lazy()).unwrap();
    assert!(entry.read >= before && entry.age == Duration::ZERO);
    assert_eq!(
        (entry.freshness, entry.cost, entry.outdated),
        (WINDOWS, MS, false)
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
    let (here, there) = (both(&server).await, both(&server).await);
    let page = tagged("page", "items");
    for mode in [Mode::Drop, Mode::Keep] {
        for by_tag in [false, true] {
            load(&here, &page, "x").await;
            assert_eq!(peek(&here, &page).unwrap(), "x");
            match by_tag {
                true => there.invalidate_tag("items", mode).await.unwrap(),
                false => there.invalidate(&page, mode).await.unwrap(),
            }
            // Long before the heartbeat would have ended it.
            let said = Instant::now();
            while peek(&here, &page).is_some() {
                assert!(said.elapsed() < HEARTBEAT, "{mode:?} {by_tag}");
                sleep(MS).await;
            }
        }
    }
}

#[tokio::test]
async fn its_own_invalidations_hold_at_once_whether_redis_hears_of_them_or_not() {
    let mut server = Server::start();
    let store = both(&server).await;
    let page = tagged("page", "items");
    for by_tag in [false, true] {
        let invalidate = async || match by_tag {
            true => store.invalidate_tag("items", Mode::Drop).await,
            false => store.invalidate(&page, Mode::Drop).await,
        };
        load(&store, &page, "x").await;
        invalidate().await.unwrap();
        assert_eq!(peek(&store, &page), None);

        // Not waited for long enough.
        load(&store, &page, "x").await;
        server.stop();
        assert!(timeout(20 * MS, invalidate()).await.is_err());
        assert_eq!(peek(&store, &page), None);
        server.go_on();
        eventually("Redis has done it", async || {
            let names: Vec<String> = server.ask(&["KEYS", "app:[vl]:*"]);
            names.is_empty() || (by_tag && server.ask::<i64>(&["EXISTS", "app:t:{t=items}"]) == 0)
        })
        .await;
        eventually("it listens", async || store.listens()).await;
    }
    load(&store, &page, "x").await;
    server.kill();
    assert!(store.invalidate(&page, Mode::Drop).await.is_err());
    assert_eq!(peek(&store, &page), None);
}

// What is stale, or known to be outdated, is for Redis to tell of.
#[tokio::test]
async fn memory_holds_nothing_stale_and_nothing_for_longer_than_it_may() {
    let server = Server::start();
    let store = both_with(&server, 100 * MS).await;
    let seven = key("7");
    let asked = Instant::now();
    load(&store, &seven, "x").await;
    while asked.elapsed() < 300 * MS {
        let peeked = Instant::now();
        let seen = peek(&store, &seven);
        // Asked for no earlier than `asked`, answered no later than `peeked` plus what this took.
        if peeked.duration_since(asked) > 110 * MS {
            assert_eq!(seen, None, "{:?}", peeked.duration_since(asked));
        }
        sleep(MS).await;
    }
    assert_eq!(ask(&store, &seven).await, "x");
    assert!(peek(&store, &seven).is_some());

    let eight = key("8");
    let answer = store.acquire(&eight, Ask::new(S)).await.unwrap();
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
            .fill(&eight, lease, Fill::new("old".into(), windows, MS))
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
    let (here, there) = (both(&server).await, both(&server).await);
    let seven = key("7");
    let answer = here.acquire(&seven, Ask::new(S)).await.unwrap();
    let Acquired::Leased { lease, .. } = answer else {
        panic!("{answer:?}")
    };
    there.invalidate(&seven, Mode::Drop).await.unwrap();
    assert!(
        !here
            .fill(&seven, lease, Fill::new("old".into(), WINDOWS, MS))
            .await
            .unwrap()
    );
    assert_eq!(peek(&here, &seven), None);
}

#[tokio::test]
async fn a_lost_connection_forgets_all_so_that_nothing_missed_meanwhile_is_answered() {
    let server = Server::start();
    let here = both(&server).await;
    let there = connect(&server).await;
    for round in 0..8 {
        let seven = key(&round.to_string());
        load(&here, &seven, "old").await;
        let text = peek(&here, &seven);
        assert_eq!(text.as_deref(), here.listens().then_some("old"));
        // The message goes nowhere: the connection is cut in the same breath.
        server.ask::<()>(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        invalidate(&there, &seven, Mode::Drop).await;
        let cut = Instant::now();
        eventually("it listens again", async || here.listens()).await;
        while cut.elapsed() < HEARTBEAT {
            sleep(20 * MS).await;
        }
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
    let said = tokio::spawn(async move { store.invalidate(&entry, Mode::Drop).await });
    sleep(50 * MS).await;
    server.go_on();
    said.await.unwrap().unwrap();
    eventually("it listens", async || here.listens()).await;
    eventually("it has heard of it", async || peek(&here, &seven).is_none()).await;
    load(&here, &seven, "new").await;
    assert_eq!(peek(&here, &seven).unwrap(), "new");
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
    let here = both(&server).await;
    let seven = key("7");
    for said in ["", "?", "e9:x"] {
        here.invalidate(&seven, Mode::Drop).await.unwrap();
        load(&here, &seven, "x").await;
        server.ask::<()>(&["PUBLISH", "app:invalidated", said]);
        eventually("it is forgotten", async || peek(&here, &seven).is_none()).await;
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
    assert_eq!(field(builder().max_age(0 * S).build()), "max_age");
    assert_eq!(field(builder().heartbeat(9 * MS).build()), "heartbeat");

    let clients = || server.ask::<String>(&["CLIENT", "LIST"]).lines().count();
    let store = builder().weighed(1 << 20, String::len).build().unwrap();
    assert!(format!("{store:?} {:?}", builder()).contains("app"));
    eventually("it listens", async || store.listens()).await;
    assert_eq!(clients(), 3);
    drop((store, redis));
    eventually("they are closed", async || clients() == 1).await;
}

/// Which version was acknowledged when.
#[derive(Default)]
struct History(Mutex<Vec<(Instant, u64)>>);

impl History {
    /// The last version that was acknowledged before this.
    fn before(&self, moment: Instant) -> u64 {
        let acknowledged = self.0.lock().unwrap();
        let at = acknowledged.partition_point(|(when, _)| *when < moment);
        at.checked_sub(1).map_or(0, |at| acknowledged[at].1)
    }
}

// The bound of the docs, with writers, readers and lost connections.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_answered_from_memory_a_heartbeat_after_its_invalidation_was_acknowledged() {
    let server = Arc::new(Server::start());
    let (row, done) = (
        Arc::new(AtomicU64::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let history = Arc::new(History::default());
    let page = tagged("page", "items");
    let mut tasks = Vec::new();
    for reader in 0..2 {
        let store = both(&server).await;
        let (row, done, history) = (Arc::clone(&row), Arc::clone(&done), Arc::clone(&history));
        let page = page.clone();
        tasks.push(tokio::spawn(async move {
            let (mut hits, mut asked) = (0_u64, 0_u64);
            while !done.load(SeqCst) {
                let began = Instant::now();
                let version = |text: String| text.parse::<u64>().unwrap();
                if let Some(seen) = peek(&store, &page).map(version) {
                    let bound = history.before(began - HEARTBEAT);
                    assert!(seen >= bound, "reader {reader} saw {seen}, not {bound}");
                    hits += 1;
                    sleep(MS / 2).await;
                    continue;
                }
                let acknowledged = history.before(began);
                match store.acquire(&page, Ask::new(S)).await {
                    Ok(Acquired::Fresh(entry)) => {
                        // From Redis: nothing that was acknowledged before.
                        assert!(version(entry.value) >= acknowledged);
                        asked += 1;
                    }
                    Ok(Acquired::Leased { lease, .. }) => {
                        let read = row.load(SeqCst).to_string();
                        sleep(MS).await;
                        let _ = store.fill(&page, lease, Fill::new(read, WINDOWS, MS)).await;
                    }
                    _ => sleep(MS).await,
                }
            }
            (hits, asked)
        }));
    }
    let writer = both(&server).await;
    let began = Instant::now();
    for round in 1.. {
        if began.elapsed() > 3 * S {
            break;
        }
        row.store(round, SeqCst);
        let invalidated = match round % 2 {
            0 => writer.invalidate_tag("items", Mode::Drop).await,
            _ => writer.invalidate(&page, Mode::Keep).await,
        };
        assert_eq!(peek(&writer, &page), None);
        invalidated.unwrap();
        history.0.lock().unwrap().push((Instant::now(), round));
        if round % 7 == 0 {
            let server = Arc::clone(&server);
            let kill = move || server.ask::<()>(&["CLIENT", "KILL", "TYPE", "pubsub"]);
            tokio::task::spawn_blocking(kill).await.unwrap();
        }
        sleep((10 + round % 5 * 20) as u32 * MS).await;
    }
    done.store(true, SeqCst);
    for task in tasks {
        let (hits, asked) = task.await.unwrap();
        assert!(hits > 50 && asked > 0, "{hits} {asked}");
    }
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
