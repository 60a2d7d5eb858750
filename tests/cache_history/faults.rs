//! What is done to Redis, and to those who ask it.

use crate::{
    dice::Dice,
    history::Version,
    servers::Redis,
    world::{World, command},
};
use buttress::cache::Store;
use std::{fs, path::Path, sync::atomic::Ordering::SeqCst, thread::sleep, time::Duration};

#[derive(Clone, Copy, Debug)]
enum Fault {
    /// Killed, and back with nothing.
    Emptied,
    /// Killed, and back with what it held a while before: removed entries too.
    RolledBack,
    /// Stopped for a while.
    Hangs,
    /// One instance alone hears nothing for a while, and all of it then, or never.
    Parted,
    /// Nobody hears of invalidations until he is connected again.
    CutFromMessages,
    CutFromAll,
    /// An entry, a lease, a tag: as it does itself when it has no room.
    Evicts,
}

use Fault::{CutFromAll, CutFromMessages, Emptied, Evicts, Hangs, Parted, RolledBack};

const ALL: [Fault; 8] = [
    Emptied,
    RolledBack,
    Hangs,
    Parted,
    Parted,
    CutFromMessages,
    CutFromAll,
    Evicts,
];

/// Mistreats it until the run is over, and leaves it well.
pub(crate) fn mistreat<St: Store<Version>>(world: &World<St>, mut redis: Redis) -> Redis {
    let mut dice = Dice::new(world.seed, 1_000);
    // All of them, in the order that the dice choose; then again.
    let mut due = Vec::new();
    while !world.stopped() {
        sleep(Duration::from_millis(200) + dice.up_to_ms(400));
        if due.is_empty() {
            due.extend(ALL);
        }
        let fault = due.swap_remove(dice.below(due.len() as u64) as usize);
        inflict(fault, world, &mut redis, &mut dice);
    }
    redis
}

fn inflict<St: Store<Version>>(
    fault: Fault,
    world: &World<St>,
    redis: &mut Redis,
    dice: &mut Dice,
) {
    match fault {
        Emptied => {
            redis.kill().unwrap();
            sleep(Duration::from_millis(50) + dice.up_to_ms(350));
            redis.restart().unwrap();
            world.counts.add(|c| &c.restarts);
        }
        RolledBack => {
            let told: Vec<String> = command(redis, &["CONFIG", "GET", "dir"]).unwrap();
            // The file that it begins with, if it is there.
            let saved = Path::new(&told[1]).join("dump.rdb");
            let () = command(redis, &["SAVE"]).unwrap();
            sleep(dice.up_to_ms(300));
            redis.kill().unwrap();
            sleep(dice.up_to_ms(50));
            redis.restart().unwrap();
            fs::remove_file(saved).unwrap();
            world.counts.add(|c| &c.rollbacks);
        }
        Hangs => {
            // A long one is taken for a lost connection.
            let longer = if dice.percent(30) { 1200 } else { 20 };
            redis.suspend().unwrap();
            sleep(Duration::from_millis(longer) + dice.up_to_ms(500));
            redis.resume().unwrap();
            world.counts.add(|c| &c.hangs);
        }
        Parted => {
            let wire = &world.wires[dice.below(world.wires.len() as u64) as usize];
            wire.hold();
            sleep(Duration::from_millis(500) + dice.up_to_ms(400));
            // What waits is lost, or arrives late: each in its turn.
            if world.counts.partings.fetch_add(1, SeqCst).is_multiple_of(2) {
                wire.cut();
            }
            wire.let_go();
        }
        CutFromMessages | CutFromAll => {
            let kind = match fault {
                CutFromMessages => "pubsub",
                _ => "normal",
            };
            let cut: i64 = command(redis, &["CLIENT", "KILL", "TYPE", kind]).unwrap();
            if cut > 0 {
                world.counts.add(|c| &c.cuts);
            }
        }
        Evicts => {
            // There may be nothing yet after a restart.
            let mut evicted = 0;
            for _ in 0..100 {
                let name: Option<String> = command(redis, &["RANDOMKEY"]).unwrap();
                if let Some(name) = name {
                    let () = command(redis, &["DEL", &name]).unwrap();
                    world.counts.add(|c| &c.evictions);
                    evicted += 1;
                }
                if evicted == 3 {
                    break;
                }
                sleep(Duration::from_millis(5));
            }
        }
    }
}
