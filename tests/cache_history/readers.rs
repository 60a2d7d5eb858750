//! Those who read.

use crate::{
    dice::Dice,
    history::{How, Key, Read, Version},
    world::{KEYS, World, entry},
};
use buttress::{
    Error,
    cache::{Served, Store},
};
use std::{sync::Arc, time::Duration};
use tokio::time::sleep;
use tokio_postgres::Client;

/// What a load fails with.
#[derive(Clone, Copy, Debug)]
struct Broken;

/// The row, after a while and before another: so that writes come in between.
async fn load(
    db: Arc<Client>,
    key: Key,
    delays: [Duration; 2],
    fails: bool,
) -> Result<Version, Error<Broken>> {
    let [before, after] = delays;
    sleep(before).await;
    let query = "select version from rows where key = $1";
    let row = db.query_one(query, &[&(key as i64)]).await;
    sleep(after).await;
    match row {
        Ok(row) if !fails => Ok(row.get(0)),
        _ => Err(Error::Service(Broken)),
    }
}

/// One read, if it was answered.
pub(crate) async fn read<St: Store<Version>>(
    world: Arc<World<St>>,
    db: Arc<Client>,
    instance: usize,
    key: Key,
    delays: [Duration; 2],
    fails: bool,
) -> Option<Read> {
    let name = key.to_string();
    let cache = world.instances[instance].clone();
    let began = world.now();
    let answer = cache
        .run(entry(key, &name), move || load(db, key, delays, fails))
        .await;
    let ended = world.now();
    let Ok(cached) = answer else {
        world.counts.add(|c| &c.failed_reads);
        return None;
    };
    let how = match cached.status.served() {
        Served::Fresh => How::Hit,
        Served::Loaded { .. } => How::Loaded,
        _ => How::Stale,
    };
    assert_eq!(how == How::Stale, cached.status.is_stale());
    world.counts.add(|c| match how {
        How::Hit => &c.hits,
        How::Loaded => &c.loads,
        How::Stale => &c.stale,
    });
    Some(Read {
        key,
        version: cached.value,
        instance,
        began,
        ended,
        how,
    })
}

/// Reads until the run is over. Some of its reads are dropped on the way, leaders among them.
pub(crate) async fn reader<St: Store<Version>>(
    world: Arc<World<St>>,
    db: Arc<Client>,
    instance: usize,
    who: u64,
) -> Vec<Read> {
    let mut dice = Dice::new(world.seed, who);
    let mut reads = Vec::new();
    while !world.stopped() {
        let key = dice.below(KEYS as u64) as usize;
        let (delays, fails) = ([dice.delay(), dice.delay()], dice.percent(10));
        let (shared, db) = (Arc::clone(&world), Arc::clone(&db));
        let read = read(shared, db, instance, key, delays, fails);
        if dice.percent(10) {
            let task = tokio::spawn(read);
            sleep(dice.up_to_ms(10)).await;
            task.abort();
            match task.await {
                Ok(read) => reads.extend(read),
                Err(error) if error.is_cancelled() => world.counts.add(|c| &c.killed_reads),
                Err(error) => panic!("{error}"),
            }
        } else {
            reads.extend(read.await);
        }
        sleep(dice.up_to_ms(4)).await;
    }
    reads
}
