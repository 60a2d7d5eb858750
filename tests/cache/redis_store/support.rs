//! What the tests say of a store of texts.

use super::server::Server;
use buttress::{
    cache::{
        AcquireOptions, Acquired, Codec, Entry, EntryKey, Fill, Freshness, InvalidationMode,
        KeyRef, Store, StoreError,
    },
    redis::{RedisLease, RedisStore},
};
use std::{
    error::Error,
    time::{Duration, Instant},
};

pub(crate) const MS: Duration = Duration::from_millis(1);
pub(crate) const S: Duration = Duration::from_secs(1);

/// Fresh for 10 s, then 20 s better than an error.
pub(crate) const WINDOWS: Freshness = Freshness {
    fresh: Duration::from_secs(10),
    stale_while_revalidate: Duration::from_secs(5),
    stale_if_error: Duration::from_secs(20),
};

/// The text's own bytes, for texts and nothing else; `undecodable` is none of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Text;

impl Codec<String> for Text {
    fn encode(&self, text: &String, out: &mut Vec<u8>) -> Result<(), Box<dyn Error + Send + Sync>> {
        if text == "unencodable" {
            return Err("unencodable".into());
        }
        out.extend(text.as_bytes());
        Ok(())
    }

    fn decode(&self, bytes: &[u8]) -> Result<String, Box<dyn Error + Send + Sync>> {
        match std::str::from_utf8(bytes)? {
            "undecodable" => Err("undecodable".into()),
            text => Ok(text.to_owned()),
        }
    }
}

pub(crate) type Texts = RedisStore<Text>;
pub(crate) type Answer = Acquired<String, RedisLease>;

pub(crate) fn key(key: &str) -> EntryKey {
    KeyRef::new(key).to_owned()
}

pub(crate) fn tagged(key: &str, tag: &str) -> EntryKey {
    KeyRef::new(key).tagged(tag).to_owned()
}

/// A store that is connected.
pub(crate) async fn connect(server: &Server) -> Texts {
    let store = RedisStore::builder(server.url())
        .namespace("app")
        .codec(Text)
        .connect()
        .unwrap();
    connected(&store).await;
    store
}

pub(crate) async fn connected(store: &Texts) {
    eventually("the store is connected", async || {
        store.look(&key("")).await.is_ok()
    })
    .await;
}

/// Polls until it is so: for less than the time for which what is stored is fresh.
pub(crate) async fn eventually(what: &str, so: impl AsyncFn() -> bool) {
    let began = Instant::now();
    while !so().await {
        assert!(began.elapsed() < 6 * S, "not in time: {what}");
        tokio::time::sleep(5 * MS).await;
    }
}

pub(crate) async fn acquire(store: &Texts, key: &EntryKey) -> Answer {
    store
        .acquire(key, AcquireOptions::new(10 * S))
        .await
        .unwrap()
}

pub(crate) async fn lease(store: &Texts, key: &EntryKey) -> RedisLease {
    leased(acquire(store, key).await).0
}

pub(crate) fn leased(answer: Answer) -> (RedisLease, Option<Entry<String>>) {
    match answer {
        Acquired::Leased { lease, known } => (lease, known),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn fresh(answer: Answer) -> Entry<String> {
    match answer {
        Acquired::Fresh(entry) => entry,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn busy(answer: Answer) -> (Duration, Option<Entry<String>>) {
    match answer {
        Acquired::Busy { lasts, known } => (lasts, known),
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn try_fill(
    store: &Texts,
    key: &EntryKey,
    lease: RedisLease,
    text: &str,
) -> Result<bool, StoreError> {
    let fill = Fill::new(text.to_owned(), WINDOWS, 7 * MS);
    store.fill(key, &lease, fill).await
}

pub(crate) async fn fill(store: &Texts, key: &EntryKey, lease: RedisLease, text: &str) -> bool {
    try_fill(store, key, lease, text).await.unwrap()
}

/// Stores a text.
pub(crate) async fn put(store: &Texts, key: &EntryKey, text: &str) {
    let lease = lease(store, key).await;
    assert!(fill(store, key, lease, text).await);
}

pub(crate) async fn look(store: &Texts, key: &EntryKey) -> Option<Entry<String>> {
    store.look(key).await.unwrap()
}

pub(crate) async fn invalidate(store: &Texts, key: &EntryKey, mode: InvalidationMode) {
    store.invalidate(key, mode).await.unwrap();
}

pub(crate) async fn invalidate_tag(store: &Texts, tag: &str, mode: InvalidationMode) {
    store.invalidate_tag(tag, mode).await.unwrap();
}
