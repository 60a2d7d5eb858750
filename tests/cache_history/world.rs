//! What those who read and write share.

use crate::{
    history::{Key, Version},
    servers::{Postgres, Redis},
    wire::Wire,
};
use buttress::cache::{Cache, InvalidationMode, InvalidationPending, KeyRef, Store};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};
use tokio_postgres::{Client, NoTls};

pub(crate) const KEYS: usize = 6;

/// Keys from here on have a tag in common.
const TAGGED: usize = 3;
const TAG: &str = "group";

/// An instance of the application.
pub(crate) type Instance<St> = Cache<Version, St>;

/// How writers go about it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Writing {
    /// As they should.
    Right,
    /// They acknowledge without having invalidated.
    Forgetful,
    /// They invalidate before they commit, and not after it.
    TooSoon,
}

/// The servers and the instances.
pub(crate) struct World<St: Store<Version>> {
    pub(crate) seed: u64,
    pub(crate) writing: Writing,
    pub(crate) instances: Vec<Instance<St>>,
    /// The way of each to Redis.
    pub(crate) wires: Vec<Wire>,
    pub(crate) stop: AtomicBool,
    pub(crate) counts: Counts,
    postgres: Postgres,
    start: Instant,
}

/// What happened how often, so that a run goes on until it shows something.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) hits: AtomicU32,
    pub(crate) loads: AtomicU32,
    pub(crate) stale: AtomicU32,
    pub(crate) killed_reads: AtomicU32,
    pub(crate) failed_reads: AtomicU32,
    pub(crate) killed_writers: AtomicU32,
    pub(crate) pending: AtomicU32,
    pub(crate) acknowledged: AtomicU32,
    pub(crate) repeated: AtomicU32,
    pub(crate) restarts: AtomicU32,
    pub(crate) rollbacks: AtomicU32,
    pub(crate) hangs: AtomicU32,
    pub(crate) partings: AtomicU32,
    pub(crate) cuts: AtomicU32,
    pub(crate) evictions: AtomicU32,
}

impl Counts {
    pub(crate) fn add(&self, which: impl Fn(&Self) -> &AtomicU32) {
        which(self).fetch_add(1, SeqCst);
    }

    /// What has not happened often enough, if Redis is mistreated, for a run to mean anything.
    pub(crate) fn lacks(&self) -> Option<&'static str> {
        let enough = [
            ("hits", 500, &self.hits),
            ("loads", 200, &self.loads),
            ("stale answers", 3, &self.stale),
            ("killed reads", 20, &self.killed_reads),
            ("failed reads", 5, &self.failed_reads),
            ("killed writers", 5, &self.killed_writers),
            ("pending writes", 5, &self.pending),
            ("acknowledged writes", 50, &self.acknowledged),
            ("repeated writes", 5, &self.repeated),
            ("restarts", 1, &self.restarts),
            ("rollbacks", 1, &self.rollbacks),
            ("hangs", 1, &self.hangs),
            ("partings", 2, &self.partings),
            ("cut connections", 1, &self.cuts),
            ("evictions", 1, &self.evictions),
        ];
        let mut lacking = enough
            .iter()
            .filter(|(_, least, happened)| happened.load(SeqCst) < *least);
        lacking.next().map(|(what, ..)| *what)
    }
}

/// What a writer notes beside its write: what is to be invalidated, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Note {
    pub(crate) key: Key,
    pub(crate) by_tag: bool,
    pub(crate) keep: bool,
}

impl<St: Store<Version>> World<St> {
    pub(crate) async fn new(
        seed: u64,
        writing: Writing,
        wires: Vec<Wire>,
        instances: Vec<Instance<St>>,
    ) -> Arc<Self> {
        let world = Self {
            seed,
            writing,
            instances,
            wires,
            stop: AtomicBool::new(false),
            counts: Counts::default(),
            postgres: tokio::task::spawn_blocking(Postgres::start)
                .await
                .unwrap()
                .unwrap(),
            start: Instant::now(),
        };
        let tables = "
            create table rows (key bigint primary key, version bigint not null);
            create table outbox (
                id bigserial primary key, key bigint not null, version bigint not null,
                by_tag boolean not null, keep boolean not null,
                at timestamptz not null default clock_timestamp());";
        let db = world.connect().await;
        db.batch_execute(tables).await.unwrap();
        for key in 0..KEYS as i64 {
            db.execute("insert into rows values ($1, 1)", &[&key])
                .await
                .unwrap();
        }
        Arc::new(world)
    }

    pub(crate) async fn connect(&self) -> Client {
        let (client, connection) = tokio_postgres::connect(&self.postgres.socket_url(), NoTls)
            .await
            .unwrap();
        tokio::spawn(connection);
        client
    }

    /// The time since the run began.
    pub(crate) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    pub(crate) fn stopped(&self) -> bool {
        self.stop.load(SeqCst)
    }

    pub(crate) async fn invalidate(
        &self,
        instance: usize,
        note: Note,
    ) -> Result<(), InvalidationPending> {
        let cache = &self.instances[instance];
        let mode = if note.keep {
            InvalidationMode::Keep
        } else {
            InvalidationMode::Drop
        };
        if note.by_tag && note.key >= TAGGED {
            cache.invalidate_tag_with(TAG, mode).await
        } else {
            let name = note.key.to_string();
            cache.invalidate_with(entry(note.key, &name), mode).await
        }
    }
}

/// Ends the run, however it goes: or Redis would be mistreated for ever by a run that failed.
pub(crate) struct Ending<St: Store<Version>>(pub(crate) Arc<World<St>>);

impl<St: Store<Version>> Drop for Ending<St> {
    fn drop(&mut self) {
        self.0.stop.store(true, SeqCst);
    }
}

/// What a key's entry is called.
pub(crate) fn entry(key: Key, name: &str) -> KeyRef<'_> {
    let entry = KeyRef::new(name);
    if key >= TAGGED {
        entry.tagged(TAG)
    } else {
        entry
    }
}

/// Once every instance has its connection.
pub(crate) async fn connected<St: Store<Version>>(instances: &[Instance<St>]) {
    let nothing = KeyRef::new("").to_owned();
    for cache in instances {
        let began = Instant::now();
        while cache.store().look(&nothing).await.is_err() {
            assert!(began.elapsed() < Duration::from_secs(10), "not connected");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

/// What Redis itself answers, if it does.
pub(crate) fn command<T: redis::FromRedisValue>(
    server: &Redis,
    command: &[&str],
) -> redis::RedisResult<T> {
    let client = redis::Client::open(server.url())?;
    let mut connection = client.get_connection_with_timeout(Duration::from_secs(2))?;
    redis::Cmd::new().arg(command).query(&mut connection)
}
