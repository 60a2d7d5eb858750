//! What the scripts decide is what the model of them decides.
//!
//! The model is explored exhaustively in `tags_model`; here the same commands, in many
//! orders, go to it and to a real Redis, and both have to say the same.

use super::{server::Server, support::*};
use crate::tags_model::redis::{self as decisions, Now, Redis, Rules};
use buttress::{
    cache::{AcquireOptions, Acquired, Entry, InvalidationMode, Store},
    redis::RedisLease,
};

/// Nothing expires while a sequence runs: time is for the explorer.
const RULES: Rules = Rules {
    fresh: 1,
    stale: 2,
    lease: 1,
    counter: false,
    check_run: true,
    check_fill: true,
};

/// Numbers that look random and are the same in each run (xorshift).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

fn of(entry: Option<&Entry<String>>) -> Option<(u8, bool)> {
    entry.map(|entry| (entry.value.parse().unwrap(), entry.outdated))
}

fn said(entry: Option<decisions::Entry>) -> Option<(u8, bool)> {
    entry.map(|entry| (entry.version, entry.outdated))
}

#[tokio::test]
async fn redis_and_the_model_of_it_say_the_same() {
    let server = Server::start();
    let store = connect(&server).await;
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let mut told = [0; 4];
    for round in 0..150 {
        let tag = format!("tag {round}");
        let page = tagged("page", &tag);
        let name = |kind: &str| match kind {
            "t" => format!("app:t:{{t={tag}}}"),
            _ => format!("app:{kind}:{{t={tag}}}:page"),
        };
        let (mut redis, mut drawn, mut version) = (Redis::default(), 0_u8, 0_u8);
        let mut leases: Vec<(u8, RedisLease)> = Vec::new();
        let mut done = Vec::new();
        for _ in 0..25 {
            let mut model = Now {
                redis: &mut redis,
                rules: RULES,
                time: 0,
                run: 0,
            };
            let what = numbers.below(12);
            done.push(what);
            let keep = numbers.below(2) == 1;
            let mode = if keep {
                InvalidationMode::Keep
            } else {
                InvalidationMode::Drop
            };
            match what {
                0..=3 => {
                    let early = numbers.below(3) == 0;
                    let ask = if early {
                        AcquireOptions::new(60 * S).early()
                    } else {
                        AcquireOptions::new(60 * S)
                    };
                    let real = store.acquire(&page, ask).await.unwrap();
                    let (token, tok, base) = (drawn + 1, drawn + 2, drawn + 3);
                    drawn += 3;
                    match (model.acquire(token, early, (tok, base)), real) {
                        (decisions::Acquired::Fresh(entry), Acquired::Fresh(real)) => {
                            assert_eq!(said(Some(entry)), of(Some(&real)), "{done:?}");
                            told[0] += 1;
                        }
                        (
                            decisions::Acquired::Leased(known),
                            Acquired::Leased { lease, known: real },
                        ) => {
                            assert_eq!(said(known), of(real.as_ref()), "{done:?}");
                            leases.push((token, lease));
                            told[1] += 1;
                        }
                        // Somebody is at it already, and it is fresh: the store says so.
                        (decisions::Acquired::Busy(Some(entry)), Acquired::Fresh(real)) => {
                            assert!(early && entry.fresh, "{done:?}");
                            assert_eq!(said(Some(entry)), of(Some(&real)), "{done:?}");
                        }
                        (decisions::Acquired::Busy(known), Acquired::Busy { known: real, .. }) => {
                            assert_eq!(said(known), of(real.as_ref()), "{done:?}");
                            told[2] += 1;
                        }
                        (model, real) => panic!("{done:?}: {model:?}, but {real:?}"),
                    }
                }
                4..=6 if !leases.is_empty() => {
                    let at = numbers.below(leases.len() as u64) as usize;
                    let (token, lease) = leases.swap_remove(at);
                    version += 1;
                    let real = fill(&store, &page, lease, &version.to_string()).await;
                    assert_eq!(model.fill(token, version), real, "{done:?}");
                    told[3] += u32::from(real);
                }
                7 if !leases.is_empty() => {
                    let (token, lease) = leases.swap_remove(0);
                    store.release(&page, lease).await.unwrap();
                    model.release(token);
                }
                8 => {
                    invalidate(&store, &page, mode).await;
                    model.invalidate(keep);
                }
                9 => {
                    invalidate_tag(&store, &tag, mode).await;
                    drawn += 1;
                    model.invalidate_tag(keep, drawn);
                }
                10 if keep => {
                    server.ask::<()>(&["DEL", &name("t")]);
                    redis.tag = None;
                }
                11 if keep => {
                    server.ask::<()>(&["DEL", &name("v")]);
                    redis.value = None;
                }
                _ => {}
            }
            let model = Now {
                redis: &mut redis,
                rules: RULES,
                time: 0,
                run: 0,
            };
            let real = look(&store, &page).await;
            assert_eq!(said(model.look()), of(real.as_ref()), "{done:?}");
        }
    }
    // All of it was met, and often.
    assert!(told.iter().all(|times| *times > 50), "{told:?}");
}
