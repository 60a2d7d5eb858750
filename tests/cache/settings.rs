//! What a cache accepts.

use crate::support::*;
use buttress::{
    InvalidConfig,
    cache::{Cache, Freshness, MemoryStore},
};
use std::time::Duration;

#[test]
fn a_setting_that_cannot_work_is_named() {
    type Built = Result<Cache<u32>, InvalidConfig>;
    let years = |n: u64| Duration::from_secs(n * 365 * 86_400);
    let cases: [(Built, &str); 16] = [
        (terms().lease(Duration::ZERO).build(), "lease"),
        (terms().lease(Duration::MAX).build(), "lease"),
        (
            terms().store_timeout(Duration::ZERO).build(),
            "store_timeout",
        ),
        (
            terms().store_timeout(Duration::MAX).build(),
            "store_timeout",
        ),
        (terms().jitter(f64::NAN).build(), "jitter"),
        (terms().jitter(1.0).build(), "jitter"),
        (terms().jitter(-0.1).build(), "jitter"),
        (terms().early_refresh(f64::NAN).build(), "early_refresh"),
        (terms().early_refresh(-1.0).build(), "early_refresh"),
        (
            terms().early_refresh(f64::INFINITY).build(),
            "early_refresh",
        ),
        (terms().store_attempts(0).build(), "store_attempts"),
        (terms().store_attempts(u32::MAX).build(), "store_attempts"),
        (
            terms().freshness(Freshness::fresh(years(11))).build(),
            "freshness.fresh",
        ),
        (
            terms()
                .freshness(Freshness {
                    stale_if_error: Duration::MAX,
                    ..TERMS
                })
                .build(),
            "freshness.stale_if_error",
        ),
        (
            terms()
                .freshness(Freshness {
                    stale_while_revalidate: Duration::MAX,
                    ..TERMS
                })
                .build(),
            "freshness.stale_while_revalidate",
        ),
        (
            MemoryStore::entries(0).and_then(|store| terms().store(store).build()),
            "entries",
        ),
    ];
    for (built, field) in cases {
        let error = built.expect_err(field);
        assert_eq!(error.field(), field);
        assert!(!error.accepts().is_empty());
    }
    assert_eq!(
        MemoryStore::<u32>::entries(usize::MAX).unwrap_err().field(),
        "entries"
    );
    assert_eq!(
        MemoryStore::<u32>::weighed(0, |_| 1).unwrap_err().field(),
        "bytes"
    );
    assert_eq!(
        MemoryStore::<u32>::weighed(usize::MAX, |_| 1)
            .unwrap_err()
            .field(),
        "bytes"
    );
}

#[tokio::test(start_paused = true)]
async fn the_smallest_terms_work() {
    let cache = Cache::builder("items")
        .freshness(Freshness::fresh(Duration::ZERO))
        .lease(MS)
        .store_timeout(MS)
        .store_attempts(1);
    let cache = cache.build().unwrap();
    let source = Source::new();
    assert_eq!(source.ask(&cache).await.0, Ok(1));
    assert_eq!(source.ask(&cache).await.0, Ok(2), "nothing is fresh");
}

#[tokio::test(start_paused = true)]
async fn memory_is_bounded_by_number_and_by_weight() {
    let by_number = MemoryStore::entries(100).unwrap();
    let numbered = terms().store(by_number).build::<Vec<u8>>().unwrap();
    let by_weight = MemoryStore::weighed(100_000, |v: &Vec<u8>| v.len()).unwrap();
    let weighed = terms().store(by_weight).build::<Vec<u8>>().unwrap();
    let load = || async { Ok::<_, buttress::Error<Broken>>(vec![0; 1_000]) };
    for key in 0..1_000 {
        numbered.run(&key.to_string(), load).await.unwrap();
        weighed.run(&key.to_string(), load).await.unwrap();
    }
    assert!(
        (50..=100).contains(&numbered.store().len()),
        "{}",
        numbered.store().len()
    );
    let weight = weighed.store().weight();
    assert!((50_000..=100_000).contains(&weight), "{weight}");
    // What is too large is answered, and not kept.
    let huge = || async { Ok::<_, buttress::Error<Broken>>(vec![0; 200_000]) };
    assert_eq!(
        weighed.run("huge", huge).await.unwrap().value.len(),
        200_000
    );
    assert!(weighed.store().weight() <= 100_000);
    weighed.store().clear();
    assert!(weighed.store().is_empty());
}
