//! Every default as text, so that whoever reviews a change sees which one it changes.

use buttress::cache::{
    AcquireOptions, Cache, Freshness, InvalidationMode, KeyBuf, KeyRef, MemoryStore,
};
use std::time::Duration;

#[test]
fn the_settings_of_a_cache_that_is_told_nothing_more() {
    let settings = r#"CacheBuilder {
    name: "items",
    freshness: Freshness {
        fresh: 60s,
        stale_while_revalidate: 0ns,
        stale_if_error: 3600s,
    },
    lease: 5s,
    jitter: 0.1,
    beta: 1.0,
    store: (),
    timeout: 100ms,
    attempts: 2,
    seed: None,
}"#;
    assert_eq!(format!("{:#?}", Cache::builder("items")), settings);
}

#[test]
fn what_a_cache_tells_that_has_seen_no_call() {
    let cache: Cache<u32> = Cache::builder("items").build().unwrap();
    let snapshot = r#"Snapshot {
    name: "items",
    fresh_total: 0,
    revalidating_total: 0,
    if_error_total: 0,
    collapsed_total: 0,
    bypassed_total: 0,
    loads_total: 0,
    load_failures_total: 0,
    refreshes_total: 0,
    stored_total: 0,
    not_stored_total: 0,
    store_failures_total: 0,
    store_up: true,
    invalidations_total: 0,
    invalidations_pending_total: 0,
    in_flight: 0,
}"#;
    assert_eq!(format!("{:#?}", cache.snapshot()), snapshot);
}

#[tokio::test]
async fn a_cache_that_is_given_no_store_keeps_ten_thousand_answers() {
    let cache: Cache<u32> = Cache::builder("items").build().unwrap();
    for key in 0..20_000 {
        let load = || async { Ok::<_, buttress::Error<std::io::Error>>(0) };
        cache.run(&key.to_string(), load).await.unwrap();
    }
    let kept = cache.store().len();
    // Each of its shards rounds its part up, and makes room by itself.
    assert!((9_000..=10_000 + 10_000 / 64).contains(&kept), "{kept}");
}

#[test]
fn what_is_asked_of_a_store_by_default() {
    let ask = AcquireOptions::new(Duration::from_secs(1));
    assert_eq!(
        format!("{ask:?}"),
        "AcquireOptions { lease: 1s, early: false }"
    );
    assert_eq!(InvalidationMode::default(), InvalidationMode::Drop);
    assert_eq!(
        format!("{:?}", Freshness::fresh(Duration::from_secs(1))),
        "Freshness { fresh: 1s, stale_while_revalidate: 0ns, stale_if_error: 0ns }"
    );
    assert_eq!(
        format!("{:?}", KeyRef::new("7")),
        "KeyRef { tag: None, key: \"7\" }"
    );
    assert_eq!(
        format!("{:?}", KeyBuf::default()),
        "KeyBuf { key: \"\", tag: \"\" }"
    );
    let empty = MemoryStore::<u32>::entries(1).unwrap();
    assert_eq!(
        format!("{empty:?}"),
        "MemoryStore { entries: 0, weight: 0, .. }"
    );
}
