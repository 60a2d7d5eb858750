//! Those who write, and the relay that repeats what they left undone.

use crate::{
    dice::Dice,
    history::{Ack, Version, Write},
    world::{KEYS, Note, World, Writing},
};
use buttress::cache::Store;
use std::{sync::Arc, time::Duration};
use tokio::time::{sleep, timeout};
use tokio_postgres::Client;

/// What writers and relays did.
#[derive(Debug, Default)]
pub(crate) struct Written {
    pub(crate) writes: Vec<Write>,
    pub(crate) acks: Vec<Ack>,
}

/// Writes until the run is over. Sometimes it is killed after its commit, or in the middle of what
/// follows, and another takes its place.
pub(crate) async fn writer<St: Store<Version>>(world: Arc<World<St>>, who: u64) -> Written {
    let mut dice = Dice::new(world.seed, who);
    let mut db = world.connect().await;
    let mut written = Written::default();
    while !world.stopped() {
        write(&world, &mut db, &mut dice, &mut written).await;
        sleep(dice.up_to_ms(60)).await;
    }
    written
}

async fn write<St: Store<Version>>(
    world: &World<St>,
    db: &mut Client,
    dice: &mut Dice,
    written: &mut Written,
) {
    let instance = dice.below(world.instances.len() as u64) as usize;
    let note = Note {
        key: dice.below(KEYS as u64) as usize,
        by_tag: dice.percent(50),
        keep: dice.percent(50),
    };
    let key = note.key;
    let transaction = db.transaction().await.unwrap();
    let update = "update rows set version = version + 1 where key = $1 returning version";
    let row = transaction.query_one(update, &[&(key as i64)]).await;
    let version: Version = row.unwrap().get(0);
    let outbox = "insert into outbox (key, version, by_tag, keep) values ($1, $2, $3, $4)
        returning id";
    let row = transaction
        .query_one(outbox, &[&(key as i64), &version, &note.by_tag, &note.keep])
        .await;
    let id: i64 = row.unwrap().get(0);
    let early = match world.writing {
        Writing::TooSoon => {
            let early = world.invalidate(instance, note).await.is_ok();
            sleep(dice.up_to_ms(20)).await;
            early
        }
        Writing::Right | Writing::Forgetful => true,
    };
    let began = world.now();
    transaction.commit().await.unwrap();
    let committed = world.now();
    written.writes.push(Write {
        key,
        version,
        began,
        committed,
    });
    if dice.percent(5) {
        return world.counts.add(|c| &c.killed_writers);
    }
    if dice.percent(20) {
        sleep(dice.up_to_ms(30)).await;
    }
    let patience = match dice.percent(10) {
        true => dice.up_to_ms(3),
        false => Duration::from_secs(60),
    };
    let told = async {
        match world.writing {
            Writing::Right => world.invalidate(instance, note).await.is_ok(),
            Writing::Forgetful | Writing::TooSoon => early,
        }
    };
    match timeout(patience, told).await {
        Err(_) => return world.counts.add(|c| &c.killed_writers),
        Ok(false) => return world.counts.add(|c| &c.pending),
        Ok(true) => {}
    }
    written.acks.push(Ack {
        key,
        version,
        instance,
        at: world.now(),
    });
    world.counts.add(|c| &c.acknowledged);
    db.execute("delete from outbox where id = $1", &[&id])
        .await
        .unwrap();
}

/// Repeats invalidations that were noted this long ago; returns how many notes are left.
pub(crate) async fn repeat<St: Store<Version>>(
    world: &World<St>,
    db: &Client,
    instance: usize,
    age: Duration,
    acks: &mut Vec<Ack>,
) -> i64 {
    let due = "select id, key, version, by_tag, keep from outbox
        where at <= clock_timestamp() - $1 * interval '1 second' order by id";
    for row in db.query(due, &[&age.as_secs_f64()]).await.unwrap() {
        let (id, key, version): (i64, i64, Version) = (row.get(0), row.get(1), row.get(2));
        let note = Note {
            key: key as usize,
            by_tag: row.get(3),
            keep: row.get(4),
        };
        if world.invalidate(instance, note).await.is_err() {
            break;
        }
        acks.push(Ack {
            key: note.key,
            version,
            instance,
            at: world.now(),
        });
        world.counts.add(|c| &c.repeated);
        db.execute("delete from outbox where id = $1", &[&id])
            .await
            .unwrap();
    }
    let left = db.query_one("select count(*) from outbox", &[]).await;
    left.unwrap().get(0)
}

/// Repeats until the run is over, what is older than a writer needs: or nothing would ever show
/// that a writer had not done its own part.
pub(crate) async fn relay<St: Store<Version>>(world: Arc<World<St>>) -> Written {
    let db = world.connect().await;
    let mut written = Written::default();
    let mut turn = 0;
    while !world.stopped() {
        turn += 1;
        let instance = turn % world.instances.len();
        let age = Duration::from_millis(300);
        repeat(&world, &db, instance, age, &mut written.acks).await;
        sleep(Duration::from_millis(50)).await;
    }
    written
}
