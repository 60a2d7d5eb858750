use super::*;
use crate::cache::Freshness;

const S: Duration = Duration::from_secs(1);
const RUN: &str = "run";

/// A tier that listens, and may answer for the next hour.
fn listening() -> (Tier<u32>, u64) {
    let tier = Tier::new(100, None, 5 * S);
    let epoch = tier.begin(&RUN.into());
    tier.extend(Time::now().after(3600 * S));
    (tier, epoch)
}

fn entry(value: u32) -> Entry<u32> {
    Entry {
        value,
        age: Duration::ZERO,
        read: Time::now(),
        freshness: Freshness::fresh(60 * S),
        cost: Duration::ZERO,
        outdated: false,
    }
}

fn key() -> EntryKey {
    KeyRef::new("7").tagged("items").to_owned()
}

fn put(tier: &Tier<u32>, entry: Entry<u32>) {
    tier.keep(&key(), tier.mark(&key()), RUN, || entry);
}

fn seen(tier: &Tier<u32>) -> Option<u32> {
    seen_at(tier, Time::now())
}

fn seen_at(tier: &Tier<u32>, now: Time) -> Option<u32> {
    Some(tier.peek(key().as_ref(), &Now::at(now))?.value)
}

// I7
#[test]
fn an_entry_is_the_answer_until_the_heartbeat_or_its_time_in_memory_or_its_freshness_ends() {
    let (tier, _) = listening();
    let begun = Time::now();
    let entry = Entry {
        read: begun,
        ..entry(1)
    };
    put(&tier, entry.clone());
    let just_before = |end: Duration| Time(begun.after(end).0 - 1);
    assert_eq!(seen_at(&tier, just_before(5 * S)), Some(1));
    assert_eq!(seen_at(&tier, begun.after(5 * S)), None);

    tier.extend(begun.after(2 * S));
    assert_eq!(seen_at(&tier, just_before(2 * S)), Some(1));
    assert_eq!(seen_at(&tier, begun.after(2 * S)), None);

    tier.extend(begun.after(60 * S));
    let age = 59 * S;
    put(
        &tier,
        Entry {
            age,
            ..entry.clone()
        },
    );
    assert_eq!(seen_at(&tier, just_before(S)), Some(1));
    assert_eq!(seen_at(&tier, begun.after(S)), None);
    put(
        &tier,
        Entry {
            outdated: true,
            ..entry
        },
    );
    assert_eq!(seen_at(&tier, begun), None);
}

// I8
#[test]
fn what_was_asked_for_before_an_invalidation_is_not_kept_after_it() {
    let (tier, _) = listening();
    for what in [
        Invalidated::Entry(key().as_ref()),
        Invalidated::Tag("items"),
    ] {
        let before = tier.mark(&key());
        tier.forget(what);
        tier.keep(&key(), before, RUN, || entry(1));
        assert_eq!(seen(&tier), None, "{what:?}");
        put(&tier, entry(2));
        assert_eq!(seen(&tier), Some(2));
        tier.forget(what);
        assert_eq!(seen(&tier), None, "{what:?}");
    }
    put(&tier, entry(3));
    let before = tier.mark(&key());
    tier.forget_all();
    tier.keep(&key(), before, RUN, || entry(1));
    assert_eq!(seen(&tier), None);
}

#[test]
fn a_lost_connection_forgets_everything_and_nothing_from_before_comes_back() {
    let (tier, first) = listening();
    put(&tier, entry(1));
    let while_up = tier.mark(&key());
    tier.end(first);
    assert_eq!((seen(&tier), tier.listens(), tier.len()), (None, false, 0));
    // Not what is asked for in between either: who knows what is invalidated meanwhile.
    let while_down = tier.mark(&key());
    tier.extend(Time::now().after(60 * S));
    put(&tier, entry(1));
    assert_eq!(seen(&tier), None);

    let second = tier.begin(&RUN.into());
    for mark in [while_up, while_down] {
        tier.keep(&key(), mark, RUN, || entry(1));
        assert_eq!(seen(&tier), None);
    }
    // Nor what came in at the very moment at which everything was forgotten.
    let (entry_before, mark) = (entry(1), while_up);
    tier.entries.insert(
        key(),
        TierEntry {
            entry: entry_before,
            mark,
            weight: 1,
        },
    );
    assert_eq!(seen(&tier), None);
    put(&tier, entry(2));
    // That the first one is lost is heard again, and late.
    tier.end(first);
    tier.end(0);
    assert_eq!(seen(&tier), Some(2));
    tier.end(second);
    assert_eq!(seen(&tier), None);
}

#[test]
fn what_another_run_of_redis_said_is_not_kept() {
    let (tier, _) = listening();
    tier.keep(&key(), tier.mark(&key()), "another", || entry(1));
    assert_eq!(seen(&tier), None);
}

#[test]
fn a_tier_that_never_listened_keeps_nothing() {
    let tier = Tier::new(100, None, 5 * S);
    tier.end(0);
    tier.extend(Time::now().after(60 * S));
    put(&tier, entry(1));
    assert_eq!(seen(&tier), None);
}

#[test]
fn it_holds_no_more_than_it_may_weigh() {
    let weigh: Weigher<Vec<u8>> = Arc::new(Vec::len);
    let tier = Tier::new(100_000, Some(weigh), 5 * S);
    tier.begin(&RUN.into());
    tier.extend(Time::now().after(60 * S));
    for i in 0..1000 {
        let key = KeyRef::from(&i.to_string()).to_owned();
        tier.keep(&key, tier.mark(&key), RUN, || {
            let Entry {
                age,
                read,
                freshness,
                cost,
                outdated,
                ..
            } = entry(1);
            Entry {
                value: vec![0; 1000],
                age,
                read,
                freshness,
                cost,
                outdated,
            }
        });
        assert!(tier.entries.weight() <= 100_000 + 64);
    }
    assert!(tier.len() > 50, "{}", tier.len());
}

/// Counts what is in the tier, and marks, when it is let go of.
struct Asks(std::sync::Weak<Tier<Arc<Self>>>);

impl Drop for Asks {
    fn drop(&mut self) {
        if let Some(tier) = self.0.upgrade() {
            tier.len();
            tier.mark(&key());
        }
    }
}

#[test]
fn what_is_let_go_of_may_use_the_tier() {
    type End = fn(&Tier<Arc<Asks>>, Entry<Arc<Asks>>);
    let ends: [End; 5] = [
        |tier, _| tier.forget(Invalidated::Entry(key().as_ref())),
        |tier, _| tier.forget_all(),
        |tier, _| tier.end(1),
        |tier, _| {
            tier.begin(&RUN.into());
        },
        // In its place.
        |tier, entry| tier.keep(&key(), tier.mark(&key()), RUN, || entry),
    ];
    for end in ends {
        let (done, is_done) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let tier = Arc::new(Tier::new(100, None, 5 * S));
            tier.begin(&RUN.into());
            tier.extend(Time::now().after(3600 * S));
            let [old, new] = [(); 2].map(|()| {
                let entry = entry(0);
                Entry {
                    value: Arc::new(Asks(Arc::downgrade(&tier))),
                    age: entry.age,
                    read: entry.read,
                    freshness: entry.freshness,
                    cost: entry.cost,
                    outdated: false,
                }
            });
            tier.keep(&key(), tier.mark(&key()), RUN, || old);
            assert_eq!(tier.len(), 1);
            end(&tier, new);
            done.send(())
        });
        is_done.recv_timeout(10 * S).unwrap();
    }
}

#[test]
fn an_answer_that_grows_does_not_upset_the_count() {
    let weigh: Weigher<Arc<AtomicU64>> = Arc::new(|size| size.load(Acquire) as usize);
    let tier = Tier::new(1 << 20, Some(weigh), 5 * S);
    tier.begin(&RUN.into());
    tier.extend(Time::now().after(3600 * S));
    let (size, entry) = (Arc::new(AtomicU64::new(1_000)), entry(0));
    let entry = Entry {
        value: Arc::clone(&size),
        age: entry.age,
        read: entry.read,
        freshness: entry.freshness,
        cost: entry.cost,
        outdated: false,
    };
    tier.keep(&key(), tier.mark(&key()), RUN, || entry);
    assert!(tier.entries.weight() >= 1_000);
    size.store(9_000, Release);
    tier.forget(Invalidated::Entry(key().as_ref()));
    assert_eq!(tier.entries.weight(), 0);
}
