//! What is stored, for how long, and how it goes.

use super::{server::Server, support::*};
use buttress::{
    Time,
    cache::{
        AcquireOptions, Acquired, Fill, Freshness, FreshnessState, InvalidationMode, Store,
        StoreError,
    },
};

#[tokio::test]
async fn what_was_filled_is_read_as_it_was_with_its_age() {
    let server = Server::start();
    let store = connect(&server).await;
    let (seven, before) = (key("7"), Time::now());
    put(&store, &seven, "a row").await;

    let entry = fresh(acquire(&store, &seven).await);
    assert_eq!(entry.value, "a row");
    assert_eq!((entry.freshness, entry.cost), (WINDOWS, 7 * MS));
    assert!(!entry.outdated);
    assert!(entry.read >= before && entry.read <= Time::now());
    // Never older than it can be; and from when it was asked for, it is counted as older.
    assert!(entry.age <= Time::now().since(before));
    assert_eq!(entry.state_at(Time::now()), FreshnessState::Fresh);
    assert_eq!(look(&store, &seven).await.unwrap().value, "a row");
}

// I4: every key expires, and an entry when its last window ends, counted from its lease.
#[tokio::test]
async fn an_entry_expires_when_its_last_window_ends_counted_from_the_grant_of_its_lease() {
    let server = Server::start();
    let store = connect(&server).await;
    let page = tagged("page", "items");
    let granted = lease(&store, &page).await;
    for name in ["app:l:{t=items}:page", "app:t:{t=items}"] {
        let left: i64 = server.ask(&["PTTL", name]);
        assert!((1..=10_000).contains(&left), "{name} {left}");
    }

    let before: (u64, u64) = server.ask(&["TIME"]);
    tokio::time::sleep(20 * MS).await;
    assert!(fill(&store, &page, granted, "loaded slowly").await);
    let value = "app:v:{t=items}:page";
    let t0: u64 = server.ask(&["HGET", value, "t0"]);
    assert!(t0 <= before.0 * 1_000_000 + before.1);
    let ends: u64 = server.ask(&["PEXPIRETIME", value]);
    assert_eq!(ends, (t0 + 30_000_000).div_ceil(1000));
    assert!(look(&store, &page).await.unwrap().age >= 20 * MS);
    // What it depends on stays for longer.
    assert!(server.ask::<u64>(&["PEXPIRETIME", "app:t:{t=items}"]) > ends);
    assert_eq!(server.ask::<i64>(&["EXISTS", "app:l:{t=items}:page"]), 0);
}

#[tokio::test]
async fn an_entry_goes_from_fresh_to_stale_to_gone() {
    let server = Server::start();
    let store = connect(&server).await;
    let seven = key("7");
    let windows = Freshness {
        fresh: 60 * MS,
        stale_while_revalidate: 60 * MS,
        stale_if_error: 1500 * MS,
    };
    let granted = lease(&store, &seven).await;
    let fill = Fill::new("old".to_owned(), windows, MS);
    assert!(store.fill(&seven, &granted, fill).await.unwrap());

    eventually("it is stale", async || {
        match acquire(&store, &seven).await {
            Acquired::Fresh(_) => false,
            answer => {
                let (lease, known) = leased(answer);
                let known = known.unwrap();
                assert_eq!(known.value, "old");
                assert!(known.age >= windows.fresh && !known.outdated, "{known:?}");
                store.release(&seven, lease).await.unwrap();
                true
            }
        }
    })
    .await;
    eventually("it is gone", async || look(&store, &seven).await.is_none()).await;
    let (_, known) = leased(acquire(&store, &seven).await);
    assert!(known.is_none());
}

#[tokio::test]
async fn an_answer_that_was_loaded_for_longer_than_it_is_good_is_not_there() {
    let server = Server::start();
    let store = connect(&server).await;
    let seven = key("7");
    for windows in [
        Freshness::fresh(5 * MS),
        Freshness::fresh(std::time::Duration::ZERO),
    ] {
        let granted = lease(&store, &seven).await;
        tokio::time::sleep(10 * MS).await;
        let fill = Fill::new("late".to_owned(), windows, 10 * MS);
        assert!(store.fill(&seven, &granted, fill).await.unwrap());
        assert!(look(&store, &seven).await.is_none());
        assert_eq!(server.ask::<i64>(&["DBSIZE"]), 0);
    }
}

#[tokio::test]
async fn windows_without_end_are_cut_to_ten_years() {
    let server = Server::start();
    let store = connect(&server).await;
    let seven = key("7");
    let longest = std::time::Duration::MAX;
    let windows = Freshness {
        fresh: longest,
        stale_while_revalidate: longest,
        stale_if_error: longest,
    };
    let (granted, _) = leased(
        store
            .acquire(&seven, AcquireOptions::new(longest))
            .await
            .unwrap(),
    );
    let fill = Fill::new("x".to_owned(), windows, longest);
    assert!(store.fill(&seven, &granted, fill).await.unwrap());
    let entry = fresh(acquire(&store, &seven).await);
    assert_eq!(entry.freshness.fresh.as_secs(), 10 * 365 * 86_400);
    assert!(entry.age < 10 * S);
}

// I3
#[tokio::test]
async fn an_invalidation_leaves_neither_an_entry_nor_a_lease() {
    let server = Server::start();
    let store = connect(&server).await;
    let seven = key("7");
    put(&store, &seven, "old").await;
    let early = store
        .acquire(&seven, AcquireOptions::new(S).early())
        .await
        .unwrap();
    let (racing, known) = leased(early);
    assert_eq!(known.unwrap().value, "old");

    invalidate(&store, &seven, InvalidationMode::Drop).await;
    assert_eq!(server.ask::<i64>(&["DBSIZE"]), 0);
    assert!(look(&store, &seven).await.is_none());
    // I2: what was read before the write is not stored.
    assert!(!fill(&store, &seven, racing, "old").await);
    assert_eq!(server.ask::<i64>(&["DBSIZE"]), 0);
    // And it can be said again, or of what is not there.
    invalidate(&store, &seven, InvalidationMode::Drop).await;
    invalidate(&store, &seven, InvalidationMode::Keep).await;
    assert_eq!(server.ask::<i64>(&["DBSIZE"]), 0);
}

// I12
#[tokio::test]
async fn what_is_kept_is_known_to_be_outdated_and_lasts_no_longer_for_it() {
    let server = Server::start();
    let store = connect(&server).await;
    let seven = key("7");
    put(&store, &seven, "old").await;
    let ends = || server.ask::<u64>(&["PEXPIRETIME", "app:v:{k=7}"]);
    let before = ends();
    for _ in 0..2 {
        invalidate(&store, &seven, InvalidationMode::Keep).await;
        assert_eq!(ends(), before);
    }

    let (granted, known) = leased(acquire(&store, &seven).await);
    let known = known.unwrap();
    assert!(known.outdated);
    assert_eq!(known.state_at(Time::now()), FreshnessState::IfError);
    assert!(busy(acquire(&store, &seven).await).1.unwrap().outdated);
    assert!(look(&store, &seven).await.unwrap().outdated);

    assert!(fill(&store, &seven, granted, "new").await);
    let entry = fresh(acquire(&store, &seven).await);
    assert_eq!((entry.value.as_str(), entry.outdated), ("new", false));
    // And it can still be dropped.
    invalidate(&store, &seven, InvalidationMode::Keep).await;
    invalidate(&store, &seven, InvalidationMode::Drop).await;
    assert!(look(&store, &seven).await.is_none());
}

#[tokio::test]
async fn bytes_that_are_no_answer_count_as_nothing_and_are_replaced() {
    let server = Server::start();
    let store = connect(&server).await;
    let seven = key("7");
    put(&store, &seven, "undecodable").await;
    assert!(look(&store, &seven).await.is_none());
    let (granted, known) = leased(acquire(&store, &seven).await);
    assert!(known.is_none());
    // Whoever else asks waits for the one who has the lease.
    let (lasts, known) = busy(acquire(&store, &seven).await);
    assert!(known.is_none() && lasts > 9 * S, "{lasts:?}");
    let early = store
        .acquire(&seven, AcquireOptions::new(S).early())
        .await
        .unwrap();
    assert!(busy(early).1.is_none());
    assert!(fill(&store, &seven, granted, "fine").await);
    assert_eq!(fresh(acquire(&store, &seven).await).value, "fine");
}

#[tokio::test]
async fn an_answer_that_cannot_be_written_gives_its_lease_back() {
    let server = Server::start();
    let store = connect(&server).await;
    let seven = key("7");
    let granted = lease(&store, &seven).await;
    let error = try_fill(&store, &seven, granted, "unencodable")
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Codec(_)), "{error}");
    lease(&store, &seven).await;
}

#[tokio::test]
async fn keys_may_be_any_text() {
    let server = Server::start();
    let store = connect(&server).await;
    let long = "x".repeat(64 * 1024);
    let texts = [
        "",
        "{",
        "}",
        "{}",
        "a{b}c",
        "}{",
        "%7B",
        "\u{1F980}",
        "\0\r\n",
        &long,
    ];
    let mut keys = Vec::new();
    for text in texts {
        keys.push(key(text));
        keys.extend(texts.iter().map(|tag| tagged(text, tag)));
    }
    for (i, key) in keys.iter().enumerate() {
        put(&store, key, &i.to_string()).await;
    }
    for (i, key) in keys.iter().enumerate() {
        assert_eq!(fresh(acquire(&store, key).await).value, i.to_string());
    }
    for tag in texts {
        invalidate_tag(&store, tag, InvalidationMode::Drop).await;
    }
    for key in &keys {
        assert_eq!(look(&store, key).await.is_some(), key.tag().is_none());
        invalidate(&store, key, InvalidationMode::Drop).await;
        assert!(look(&store, key).await.is_none());
    }
}

#[tokio::test]
async fn all_keys_of_an_entry_lie_in_one_slot_of_a_cluster() {
    // Slots are told by a server in cluster mode only; keys of different slots are refused by it.
    let cluster = Server::with(&["--cluster-enabled", "yes"]);
    let server = Server::start();
    let store = connect(&server).await;
    for text in ["", "7", "a{b}c", "}{", "\u{1F980}"] {
        let names = async || {
            let names: Vec<String> = server.ask(&["KEYS", "*"]);
            server.ask::<()>(&["FLUSHALL"]);
            names
        };
        let mut groups = Vec::new();
        for entry in [key(text), tagged("page {2}", text)] {
            put(&store, &entry, "x").await;
            let _ = store
                .acquire(&entry, AcquireOptions::new(S).early())
                .await
                .unwrap();
            groups.push(names().await);
        }
        assert_eq!(groups.iter().map(Vec::len).collect::<Vec<_>>(), [2, 3]);
        for names in groups {
            let slots = names
                .iter()
                .map(|name| cluster.ask::<u32>(&["CLUSTER", "KEYSLOT", name]))
                .collect::<Vec<_>>();
            assert!(
                slots.iter().all(|slot| *slot == slots[0]),
                "{names:?} {slots:?}"
            );
        }
    }
}

// The clock of Redis was set back: the age of what it stored before is not known.
#[tokio::test]
async fn an_entry_from_the_future_is_not_there() {
    let server = Server::start();
    let store = connect(&server).await;
    let seven = key("7");
    put(&store, &seven, "x").await;
    let (seconds, _): (u64, u64) = server.ask(&["TIME"]);
    let t0 = format!("{}000000", seconds + 5);
    server.ask::<()>(&["HSET", "app:v:{k=7}", "t0", &t0]);
    assert!(look(&store, &seven).await.is_none());
    let (granted, known) = leased(acquire(&store, &seven).await);
    assert!(known.is_none());
    assert!(fill(&store, &seven, granted, "y").await);
    assert_eq!(fresh(acquire(&store, &seven).await).value, "y");
}
