//! Whether a history keeps the promises: nothing but a function of it.

use crate::history::*;
use std::{collections::HashMap, time::Duration};

/// What is promised.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Promise {
    /// For how long an instance may answer with what another's acknowledged write replaced.
    pub(crate) bound: Duration,
    /// For how long anything is fresh after it was replaced, whether anybody was told or not.
    pub(crate) fresh: Duration,
    /// And for how long it is anything at all.
    pub(crate) end: Duration,
}

/// A promise that was not kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Violation {
    pub(crate) by: Read,
    pub(crate) what: Broken,
}

/// What was not kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Broken {
    /// The read was older than this, which had been acknowledged before it began.
    Old(Version),
    /// It was of a version that nobody had written by then.
    Unwritten,
    /// It was called fresh, or given at all, though another had replaced it at this time.
    Outlived(Duration),
    /// It was older than this, though nothing was left to be told.
    OldAtLast(Version),
}

/// What is known of a key.
#[derive(Default)]
struct Known {
    writes: HashMap<Version, Write>,
    last: Version,
    /// In the order of time, each with the newest version so far: of all, and of one instance.
    acks: Vec<(Duration, Version)>,
    own: HashMap<usize, Vec<(Duration, Version)>>,
}

/// The newest version that was acknowledged before this.
fn newest(acks: &[(Duration, Version)], before: Duration) -> Version {
    let count = acks.partition_point(|(at, _)| *at < before);
    count.checked_sub(1).map_or(FIRST, |last| acks[last].1)
}

fn push(acks: &mut Vec<(Duration, Version)>, ack: &Ack) {
    let newest = acks.last().map_or(FIRST, |(_, version)| *version);
    acks.push((ack.at, newest.max(ack.version)));
}

/// All that was not kept.
pub(crate) fn check(history: &History, promise: Promise) -> Vec<Violation> {
    let mut keys: HashMap<Key, Known> = HashMap::new();
    for write in &history.writes {
        let known = keys.entry(write.key).or_default();
        known.writes.insert(write.version, *write);
        known.last = known.last.max(write.version);
    }
    let mut acks = history.acks.clone();
    acks.sort_by_key(|ack| ack.at);
    for ack in &acks {
        let known = keys.entry(ack.key).or_default();
        push(&mut known.acks, ack);
        push(known.own.entry(ack.instance).or_default(), ack);
    }
    let nothing = Known::default();
    let mut violations = Vec::new();
    for read in &history.reads {
        let mut found = |what| violations.push(Violation { by: *read, what });
        let known = keys.get(&read.key).unwrap_or(&nothing);
        let write = known.writes.get(&read.version);
        if read.version != FIRST && write.is_none_or(|write| write.began > read.ended) {
            found(Broken::Unwritten);
        }
        if read.how != How::Loaded
            && let Some(next) = known.writes.get(&(read.version + 1))
        {
            let most = match read.how {
                How::Stale => promise.end,
                How::Hit | How::Loaded => promise.fresh,
            };
            let replaced = next.committed;
            if read.began > replaced + most {
                found(Broken::Outlived(replaced));
            }
        }
        if read.how == How::Stale {
            continue;
        }
        // Only what was in memory may be late, and only for what others wrote.
        let bound = match read.how {
            How::Hit => promise.bound,
            How::Loaded | How::Stale => Duration::ZERO,
        };
        let own = known.own.get(&read.instance).map_or(&[][..], Vec::as_slice);
        let acknowledged =
            newest(&known.acks, read.began.saturating_sub(bound)).max(newest(own, read.began));
        if read.version < acknowledged {
            found(Broken::Old(acknowledged));
        }
        let told = |drained| read.began > drained + bound;
        if history.drained.is_some_and(told) && read.version < known.last {
            found(Broken::OldAtLast(known.last));
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    const BOUND: u64 = 10;

    fn promise() -> Promise {
        Promise {
            bound: ms(BOUND),
            fresh: ms(100),
            end: ms(200),
        }
    }

    /// Version 2 of key 7: committed from 10 to 12, acknowledged on instance 0 at 20.
    fn written() -> History {
        let write = Write {
            key: 7,
            version: 2,
            began: ms(10),
            committed: ms(12),
        };
        let ack = Ack {
            key: 7,
            version: 2,
            instance: 0,
            at: ms(20),
        };
        History {
            writes: vec![write],
            acks: vec![ack],
            reads: Vec::new(),
            drained: None,
        }
    }

    /// Of key 7, and a millisecond long.
    fn read(version: Version, instance: usize, began: u64, how: How) -> Read {
        Read {
            key: 7,
            version,
            instance,
            began: ms(began),
            ended: ms(began + 1),
            how,
        }
    }

    fn found(history: &History, read: Read) -> Vec<Violation> {
        let mut history = history.clone();
        history.reads.push(read);
        check(&history, promise())
    }

    #[track_caller]
    fn kept(history: &History, read: Read) {
        let found = found(history, read);
        assert!(found.is_empty(), "{found:?}");
    }

    #[track_caller]
    fn broken(history: &History, read: Read, what: Broken) {
        let found = found(history, read);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].by.began, found[0].what), (read.began, what));
    }

    #[test]
    fn a_read_that_began_after_a_write_was_acknowledged_sees_it() {
        let history = written();
        for how in [How::Hit, How::Loaded] {
            kept(&history, read(2, 0, 21, how));
            kept(&history, read(1, 0, 20, how));
            broken(&history, read(1, 0, 21, how), Broken::Old(2));
        }
        kept(&history, read(1, 0, 21, How::Stale));
        let other_key = Read {
            key: 8,
            ..read(1, 0, 21, How::Hit)
        };
        kept(&history, other_key);
    }

    #[test]
    fn what_another_instance_wrote_may_be_late_by_the_bound_if_it_was_stored() {
        let history = written();
        kept(&history, read(1, 1, 30, How::Hit));
        broken(&history, read(1, 1, 31, How::Hit), Broken::Old(2));
        broken(&history, read(1, 1, 21, How::Loaded), Broken::Old(2));
        let strict = Promise {
            bound: ms(0),
            ..promise()
        };
        let mut history = history;
        history.reads.push(read(1, 1, 21, How::Hit));
        assert_eq!(check(&history, strict).len(), 1);
    }

    #[test]
    fn the_newest_acknowledged_counts_and_not_the_last() {
        let mut history = written();
        history.writes.push(Write {
            version: 3,
            ..history.writes[0]
        });
        for (version, at) in [(3, 15), (2, 25)] {
            history.acks.push(Ack {
                version,
                at: ms(at),
                ..history.acks[0]
            });
        }
        broken(&history, read(2, 0, 26, How::Hit), Broken::Old(3));
        kept(&history, read(3, 0, 26, How::Hit));
    }

    #[test]
    fn nobody_reads_what_nobody_wrote() {
        let history = written();
        for how in [How::Hit, How::Loaded, How::Stale] {
            // It ends at 10, when the write may just have been seen.
            kept(&history, read(2, 0, 9, how));
            broken(&history, read(2, 0, 8, how), Broken::Unwritten);
            broken(&history, read(3, 0, 50, how), Broken::Unwritten);
        }
    }

    #[test]
    fn nothing_outlives_its_time_even_if_nobody_was_told() {
        let mut history = written();
        history.acks.clear();
        kept(&history, read(1, 0, 112, How::Hit));
        broken(
            &history,
            read(1, 0, 113, How::Hit),
            Broken::Outlived(ms(12)),
        );
        kept(&history, read(1, 0, 212, How::Stale));
        broken(
            &history,
            read(1, 0, 213, How::Stale),
            Broken::Outlived(ms(12)),
        );
    }

    #[test]
    fn when_nothing_is_left_to_be_told_nobody_reads_anything_old() {
        let mut history = written();
        history.acks.clear();
        history.drained = Some(ms(40));
        kept(&history, read(1, 0, 40, How::Hit));
        kept(&history, read(1, 0, 50, How::Hit));
        kept(&history, read(1, 0, 51, How::Stale));
        kept(&history, read(2, 0, 51, How::Hit));
        broken(&history, read(1, 0, 51, How::Hit), Broken::OldAtLast(2));
        broken(&history, read(1, 0, 41, How::Loaded), Broken::OldAtLast(2));
    }
}
