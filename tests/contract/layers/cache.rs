//! Caches in which nothing is ever fresh, so that every call reaches the service. What is special
//! about hits is in `tests/cache`.

use crate::{
    inner::{Req, Touchy},
    subject::{Entry, Leaves, Subject},
};
use buttress::{
    cache::{Cache, Freshness},
    http::StoredResponse,
};
use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use std::time::Duration;

/// Every call that ends counts.
const LEAVES: Leaves = Leaves {
    success: 1,
    error: 1,
    cancelled: 0,
    panicked: 0,
};

fn cold<V: Clone + Send + Sync + 'static>() -> Cache<V> {
    let never = Freshness {
        fresh: Duration::ZERO,
        stale_while_revalidate: Duration::ZERO,
        stale_if_error: Duration::from_secs(60),
    };
    Cache::builder("cache").freshness(never).build().unwrap()
}

fn count<V: Clone + Send + Sync + 'static>(cache: Cache<V>) -> impl Fn() -> u64 + Send + Sync {
    move || {
        let snapshot = cache.snapshot();
        let ended =
            snapshot.stored_total + snapshot.not_stored_total + snapshot.load_failures_total;
        // Calls at the same time share one. And where each thread has a stopped clock of its own, one
        // of them may find an answer that, to its clock, is from the future, and so still fresh.
        ended + snapshot.collapsed_total + snapshot.fresh_total
    }
}

pub(crate) fn cache_cold() -> Entry<impl Subject> {
    let cache = cold::<Response<Full<Bytes>>>();
    let key = |req: &Req| Some(req.uri().clone());
    let layer = || cache.layer(key).classify(Touchy);
    let layers = (layer(), layer());
    let entry = Entry::new(layers, ("/ok", 1), LEAVES, count(cache));
    entry.touchy().ready_in_call()
}

pub(crate) fn cache_cold_http() -> Entry<impl Subject> {
    let cache = cold::<StoredResponse>();
    let layers = (cache.http_layer(), cache.http_layer());
    Entry::new(layers, ("/ok", 1), LEAVES, count(cache)).ready_in_call()
}
