//! What is done to Redis.

use crate::{
    common::Redis,
    dice::Dice,
    history::Version,
    world::{World, command},
};
use buttress::cache::Store;
use std::{thread::sleep, time::Duration};

/// Mistreats it until the run is over, and leaves it well.
pub(crate) fn mistreat<St: Store<Version>>(world: &World<St>, mut redis: Redis) -> Redis {
    let mut dice = Dice::new(world.seed, 1_000);
    // Each of them once, in the order that the dice choose; then as it comes.
    let mut due: Vec<u64> = vec![0, 1, 2, 3, 4];
    while !world.stopped() {
        sleep(Duration::from_millis(200) + dice.up_to_ms(400));
        let which = match due.len() as u64 {
            0 => dice.below(5),
            len => due.swap_remove(dice.below(len) as usize),
        };
        match which {
            0 => {
                redis.kill().unwrap();
                sleep(Duration::from_millis(50) + dice.up_to_ms(350));
                redis.restart().unwrap();
                world.counts.add(|c| &c.restarts);
            }
            1 => {
                redis.suspend().unwrap();
                sleep(Duration::from_millis(20) + dice.up_to_ms(500));
                redis.resume().unwrap();
                world.counts.add(|c| &c.hangs);
            }
            kind @ (2 | 3) => {
                let kind = if kind == 2 { "pubsub" } else { "normal" };
                let cut: i64 = command(&redis, &["CLIENT", "KILL", "TYPE", kind]).unwrap();
                if cut > 0 {
                    world.counts.add(|c| &c.cuts);
                }
            }
            // As it does itself when it has no room: an entry, a lease or a tag.
            _ => {
                // There may be nothing yet after a restart.
                let mut evicted = 0;
                for _ in 0..100 {
                    let name: Option<String> = command(&redis, &["RANDOMKEY"]).unwrap();
                    if let Some(name) = name {
                        let () = command(&redis, &["DEL", &name]).unwrap();
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
    redis
}
