//! What a store in Redis is built from.

use super::{keys::Namespace, link::Link, store::RedisStore};
use crate::{cache::Json, error::InvalidConfig};
use ::redis::Client;
use std::{fmt, sync::Arc};
use tokio::runtime::Handle;

const STORE: &str = "redis store";

/// The settings of a [`RedisStore`], begun by [`RedisStore::builder`].
///
/// The [module](super#defaults) has a table of the defaults.
#[derive(Clone)]
#[must_use = "nothing is built before `connect`"]
pub struct RedisStoreBuilder<C = Json> {
    url: String,
    namespace: String,
    codec: C,
}

impl RedisStoreBuilder {
    pub(super) const fn new(url: String) -> Self {
        Self {
            url,
            namespace: String::new(),
            codec: Json,
        }
    }
}

impl<C> RedisStoreBuilder<C> {
    /// Sets the text that all keys in Redis begin with. It must be set: two applications that share
    /// a Redis must not take each other's answers for theirs.
    #[doc(alias = "prefix")]
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// Sets the codec that writes answers as bytes. The default is [`Json`]: it can be read with
    /// `redis-cli`, and ignores fields that another version of the application added.
    #[doc(alias = "serializer")]
    pub fn codec<D>(self, codec: D) -> RedisStoreBuilder<D> {
        let Self { url, namespace, .. } = self;
        RedisStoreBuilder {
            url,
            namespace,
            codec,
        }
    }

    /// Builds the store, which connects in the background. Until it has connected, every request to
    /// it fails at once, which a cache takes for a miss.
    ///
    /// # Errors
    /// If the address is not valid, the namespace is empty, or this is not called on a tokio
    /// runtime.
    pub fn connect(self) -> Result<RedisStore<C>, InvalidConfig> {
        let Self {
            url,
            namespace,
            codec,
        } = self;
        InvalidConfig::check(
            !namespace.is_empty(),
            STORE,
            "namespace",
            &namespace,
            "a name that tells the application from others in the same Redis",
        )?;
        let client = Client::open(url).map_err(|_| {
            InvalidConfig::new(
                STORE,
                "url",
                format_args!("another text (not shown: it may hold a password)"),
                "redis://[user:password@]host[:port][/database] or redis+unix:///path",
            )
        })?;
        let runtime = Handle::try_current().map_err(|_| {
            InvalidConfig::new(
                STORE,
                "runtime",
                format_args!("absent"),
                "a tokio runtime: build the store inside of one",
            )
        })?;
        let link = Arc::new(Link::new(client, runtime));
        Ok(RedisStore::new(link, Namespace::new(&namespace), codec))
    }
}

impl<C> fmt::Debug for RedisStoreBuilder<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the address: it may hold a password.
        f.debug_struct("RedisStoreBuilder")
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}
