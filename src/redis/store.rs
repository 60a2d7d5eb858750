//! The store in Redis.

use super::{
    config::RedisStoreBuilder,
    keys::{Invalidated, Keys, Namespace},
    link::{Link, Up},
    scripts::{SCRIPTS, micros, millis},
};
use crate::{
    cache::{
        AcquireOptions, Acquired, Codec, Entry, EntryKey, Fill, Freshness, Hit, InvalidationMode,
        Json, KeyRef, Store, StoreError,
    },
    clock::{Now, Time},
    rng::Dice,
};
use ::redis::{Script, ScriptInvocation};
use std::{fmt, sync::Arc, time::Duration};

/// A store that keeps answers in Redis, where all instances of an application share them.
///
/// The [module](super) describes how it works. Give each cache a [section](Self::section) of its
/// own.
///
/// # Clone
///
/// A clone shares the connection. The store works on the tokio runtime that it was built on;
/// dropping the last clone closes the connection.
pub struct RedisStore<C = Json>(Arc<Inner<C>>);

struct Inner<C> {
    link: Arc<Link>,
    namespace: Namespace,
    channel: String,
    codec: C,
    dice: Dice,
}

/// A lease that proves that its holder may fill an entry in Redis.
#[derive(Debug)]
pub struct RedisLease {
    token: String,
    /// When it was asked for.
    pub(super) sent: Time,
    pub(super) run: Arc<str>,
}

/// An entry as the scripts return it: age, fresh, stale-while-revalidate, stale-if-error, cost,
/// outdated, the answer.
type StoredTuple = (u64, u64, u64, u64, u64, bool, Vec<u8>);

const FRESH: u8 = 0;
const LEASED: u8 = 1;

impl RedisStore {
    /// Returns the settings of a store in the Redis at this address.
    ///
    /// The address is `redis://[user:password@]host[:port][/database]` or `redis+unix:///path`. TLS
    /// (`rediss://`) is not supported.
    pub fn builder(url: impl Into<String>) -> RedisStoreBuilder {
        RedisStoreBuilder::new(url.into())
    }
}

impl<C> RedisStore<C> {
    pub(super) fn new(link: Arc<Link>, namespace: Namespace, codec: C) -> Self {
        Self(Arc::new(Inner {
            link,
            channel: namespace.channel(),
            namespace,
            codec,
            dice: Dice::default(),
        }))
    }

    /// Returns a part of this store for one cache, over the same connection. Its namespace is that
    /// of this store, followed by `:` and the name.
    ///
    /// Two caches need a section each, or they take each other's answers for theirs wherever their
    /// keys are the same.
    #[must_use]
    pub fn section(&self, name: &str) -> Self
    where
        C: Clone,
    {
        let Inner {
            link,
            namespace,
            codec,
            ..
        } = &*self.0;
        Self::new(Arc::clone(link), namespace.section(name), codec.clone())
    }

    pub(super) fn link(&self) -> &Link {
        &self.0.link
    }

    pub(super) fn channel(&self) -> &str {
        &self.0.channel
    }

    fn token(&self) -> String {
        format!("{:032x}", self.0.dice.token())
    }

    /// Returns the entry that the scripts returned; none if its bytes are not those of an answer.
    fn entry<V>(&self, stored: StoredTuple, read: Time) -> Option<Entry<V>>
    where
        C: Codec<V>,
    {
        let (age, fresh, swr, sie, cost, outdated, data) = stored;
        Some(Entry {
            value: self.0.codec.decode(&data).ok()?,
            age: Duration::from_micros(age),
            read,
            freshness: Freshness {
                fresh: Duration::from_micros(fresh),
                stale_while_revalidate: Duration::from_micros(swr),
                stale_if_error: Duration::from_micros(sie),
            },
            cost: Duration::from_micros(cost),
            outdated,
        })
    }

    /// Asks for the entry or a lease; says too in which run of Redis that was.
    pub(super) async fn ask<V>(
        &self,
        key: &EntryKey,
        ask: AcquireOptions,
    ) -> Result<(Acquired<V, RedisLease>, Arc<str>), StoreError>
    where
        C: Codec<V>,
    {
        let keys = self.0.namespace.keys(key.as_ref());
        let mut early = ask.early;
        loop {
            let up = self.0.link.up()?;
            let run = Arc::clone(&up.wire.run);
            let token = self.token();
            let mut script = invoke(&SCRIPTS.acquire, &keys);
            script.arg(&*run).arg(&token).arg(millis(ask.lease));
            script.arg(u8::from(early));
            if keys.tag.is_some() {
                // What the tag is to hold if it is not known.
                script.arg(self.token()).arg(self.token());
            }
            let sent = Time::now();
            let unclaimed = Unclaimed {
                inner: &self.0,
                keys: &keys,
                token: &token,
            };
            let (state, lasts, stored): (u8, i64, Option<StoredTuple>) =
                self.0.link.run(up, &script).await?;
            unclaimed.answered();
            let known = stored.and_then(|stored| self.entry(stored, sent));
            let acquired = match (state, known) {
                (FRESH, Some(entry)) => Acquired::Fresh(entry),
                // Not the bytes of an answer: as if nothing was stored, so ask for the lease.
                (FRESH, None) if !early => {
                    early = true;
                    continue;
                }
                (FRESH, None) => busy(0, None),
                (LEASED, known) => {
                    let run = Arc::clone(&run);
                    let lease = RedisLease { token, sent, run };
                    Acquired::Leased { lease, known }
                }
                // Whoever asked before its time need not wait.
                (_, Some(entry)) if ask.early && is_fresh(&entry) => Acquired::Fresh(entry),
                (_, known) => busy(lasts, known),
            };
            return Ok((acquired, run));
        }
    }

    /// Offers an answer.
    pub(super) async fn offer<V>(
        &self,
        key: &EntryKey,
        lease: &RedisLease,
        value: &V,
        freshness: Freshness,
        cost: Duration,
    ) -> Result<bool, StoreError>
    where
        C: Codec<V>,
    {
        let mut data = Vec::new();
        if let Err(error) = self.0.codec.encode(value, &mut data) {
            // Nobody need wait for what will not come.
            self.give_back(key, lease).await?;
            return Err(StoreError::Codec(error));
        }
        let up = self.0.link.up()?;
        let mut script = invoke(&SCRIPTS.fill, &self.0.namespace.keys(key.as_ref()));
        script.arg(&*up.wire.run).arg(&lease.token);
        let Freshness {
            fresh,
            stale_while_revalidate,
            stale_if_error,
        } = freshness;
        script
            .arg(micros(fresh))
            .arg(micros(stale_while_revalidate))
            .arg(micros(stale_if_error));
        script.arg(micros(cost)).arg(data);
        self.0.link.run(up, &script).await
    }

    pub(super) async fn give_back(
        &self,
        key: &EntryKey,
        lease: &RedisLease,
    ) -> Result<(), StoreError> {
        let (up, mut script) = self.begin(&SCRIPTS.release, key)?;
        script.arg(&lease.token);
        self.0.link.run(up, &script).await
    }

    pub(super) async fn stored<V>(&self, key: &EntryKey) -> Result<Option<Entry<V>>, StoreError>
    where
        C: Codec<V>,
    {
        let (up, script) = self.begin(&SCRIPTS.look, key)?;
        let sent = Time::now();
        let stored: Option<StoredTuple> = self.0.link.run(up, &script).await?;
        Ok(stored.and_then(|stored| self.entry(stored, sent)))
    }

    pub(super) async fn remove(
        &self,
        key: &EntryKey,
        mode: InvalidationMode,
    ) -> Result<(), StoreError> {
        let (up, mut script) = self.begin(&SCRIPTS.invalidate, key)?;
        let message = Invalidated::Entry(key.as_ref()).message();
        script.arg(word(mode)).arg(self.channel()).arg(message);
        self.0.link.run(up, &script).await
    }

    pub(super) async fn remove_tag(
        &self,
        tag: &str,
        mode: InvalidationMode,
    ) -> Result<(), StoreError> {
        let up = self.0.link.up()?;
        let mut script = SCRIPTS.invalidate_tag.prepare_invoke();
        script.key(self.0.namespace.tag(tag));
        let message = Invalidated::Tag(tag).message();
        script
            .arg(word(mode))
            .arg(self.token())
            .arg(self.channel())
            .arg(message);
        self.0.link.run(up, &script).await
    }

    /// Returns a script about one entry, with the run of the connection that it will go over.
    fn begin<'a>(
        &self,
        script: &'a Script,
        key: &EntryKey,
    ) -> Result<(Up, ScriptInvocation<'a>), StoreError> {
        let up = self.0.link.up()?;
        let mut script = invoke(script, &self.0.namespace.keys(key.as_ref()));
        script.arg(&*up.wire.run);
        Ok((up, script))
    }
}

/// A lease that may be granted, to nobody if whoever asked for it does not wait for the answer:
/// then it is given back, so that nobody has to wait until it ends. What is asked later on the same
/// connection is done later.
struct Unclaimed<'a, C: Send + Sync + 'static> {
    inner: &'a Arc<Inner<C>>,
    keys: &'a Keys,
    token: &'a str,
}

impl<C: Send + Sync + 'static> Unclaimed<'_, C> {
    fn answered(self) {
        std::mem::forget(self);
    }
}

impl<C: Send + Sync + 'static> Drop for Unclaimed<'_, C> {
    fn drop(&mut self) {
        // Without a connection there is no lease, or none that can be given back.
        let Ok(up) = self.inner.link.up() else {
            return;
        };
        let mut script = invoke(&SCRIPTS.release, self.keys);
        script.arg(&*up.wire.run).arg(self.token);
        let inner = Arc::clone(self.inner);
        self.inner.link.runtime().spawn(async move {
            // If it fails, the lease ends by itself.
            let _: Result<(), StoreError> = inner.link.run(up, &script).await;
        });
    }
}

fn invoke<'a>(script: &'a Script, keys: &Keys) -> ScriptInvocation<'a> {
    let mut script = script.prepare_invoke();
    script.key(&keys.value).key(&keys.lease);
    if let Some(tag) = &keys.tag {
        script.key(tag);
    }
    script
}

fn busy<V, L>(lasts: i64, known: Option<Entry<V>>) -> Acquired<V, L> {
    let lasts = Duration::from_millis(lasts.try_into().unwrap_or(0));
    Acquired::Busy { lasts, known }
}

/// Whether the entry was fresh when it was read.
fn is_fresh<V>(entry: &Entry<V>) -> bool {
    !entry.outdated && entry.age < entry.freshness.fresh
}

fn word(mode: InvalidationMode) -> &'static str {
    match mode {
        InvalidationMode::Drop => "drop",
        InvalidationMode::Keep => "keep",
    }
}

impl<V: Send + Sync + 'static, C: Codec<V>> Store<V> for RedisStore<C> {
    type Lease = RedisLease;

    fn peek(&self, _: KeyRef<'_>, _: &Now) -> Option<Hit<V>> {
        None
    }

    async fn acquire(
        &self,
        key: &EntryKey,
        ask: AcquireOptions,
    ) -> Result<Acquired<V, RedisLease>, StoreError> {
        Ok(self.ask(key, ask).await?.0)
    }

    async fn fill(
        &self,
        key: &EntryKey,
        lease: &RedisLease,
        fill: Fill<V>,
    ) -> Result<bool, StoreError> {
        self.offer(key, lease, &fill.value, fill.freshness, fill.cost)
            .await
    }

    async fn release(&self, key: &EntryKey, lease: RedisLease) -> Result<(), StoreError> {
        self.give_back(key, &lease).await
    }

    async fn look(&self, key: &EntryKey) -> Result<Option<Entry<V>>, StoreError> {
        self.stored(key).await
    }

    async fn invalidate(&self, key: &EntryKey, mode: InvalidationMode) -> Result<(), StoreError> {
        self.remove(key, mode).await
    }

    async fn invalidate_tag(&self, tag: &str, mode: InvalidationMode) -> Result<(), StoreError> {
        self.remove_tag(tag, mode).await
    }
}

impl<C> Clone for RedisStore<C> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<C> fmt::Debug for RedisStore<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("namespace", &self.0.namespace)
            .field("link", &self.0.link)
            .finish_non_exhaustive()
    }
}
