//! One reader more or less, two writers, and all that may befall them.

use super::{
    Bounds,
    redis::{Acquired, Entry, Now, Redis},
};

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct State {
    redis: Redis,
    time: u8,
    run: u8,
    /// What a rollback comes back to.
    saved: Option<Redis>,
    /// The version that the database holds.
    row: u8,
    /// The last version that was acknowledged, and the last whose invalidation dropped.
    acked: u8,
    dropped: u8,
    readers: [Reader; 2],
    /// By key, and by tag.
    writers: [Writer; 2],
    restarts: u8,
    rollbacks: u8,
    evictions: u8,
}

#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
enum Doing {
    Nothing,
    /// It has begun, and what was acknowledged by then must be seen.
    Asking {
        acked: u8,
    },
    /// It has a lease; `void`: which something has taken away.
    Loading {
        acked: u8,
        token: u8,
        void: bool,
    },
    Filling {
        token: u8,
        void: bool,
        version: u8,
    },
}

#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
struct Reader {
    doing: Doing,
    left: u8,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Writer {
    Before,
    Committed { version: u8 },
    Invalidated { version: u8, keep: bool },
    Done,
}

/// What happened, and the state that it leads to, or what is wrong with it.
type Step = (String, Result<State, String>);

/// All steps from a state.
#[derive(Default)]
pub(crate) struct Steps {
    /// Whether to say what they are: it takes longer than to make them.
    pub(crate) tell: bool,
    pub(crate) all: Vec<Step>,
}

impl Steps {
    fn add(&mut self, what: impl FnOnce() -> String, to: Result<State, String>) {
        let what = if self.tell { what() } else { String::new() };
        self.all.push((what, to));
    }
}

impl State {
    pub(crate) fn start(bounds: Bounds) -> Self {
        let reader = |i| Reader {
            doing: Doing::Nothing,
            left: if i < bounds.readers {
                bounds.requests
            } else {
                0
            },
        };
        Self {
            redis: Redis::default(),
            time: 0,
            run: 0,
            saved: None,
            row: 0,
            acked: 0,
            dropped: 0,
            readers: [reader(0), reader(1)],
            writers: [Writer::Before; 2],
            restarts: bounds.restarts,
            rollbacks: bounds.rollbacks,
            evictions: bounds.evictions,
        }
    }

    fn now(&mut self, bounds: Bounds) -> Now<'_> {
        Now {
            redis: &mut self.redis,
            rules: bounds.rules,
            time: self.time,
            run: self.run,
        }
    }

    /// A number that nobody has drawn before, or nobody remembers; nor those that follow it.
    fn draw(&self) -> u8 {
        let mut last = 9;
        let mut copy = *self;
        copy.each_number(|number| last = last.max(*number));
        last + 1
    }

    fn each_number(&mut self, mut see: impl FnMut(&mut u8)) {
        for redis in [Some(&mut self.redis), self.saved.as_mut()]
            .into_iter()
            .flatten()
        {
            if let Some(tag) = &mut redis.tag {
                see(&mut tag.tok);
                see(&mut tag.base);
            }
            if let Some(value) = &mut redis.value {
                see(&mut value.tag.tok);
                see(&mut value.tag.base);
            }
            if let Some(lease) = &mut redis.lease {
                see(&mut lease.token);
                see(&mut lease.tok);
            }
        }
        for reader in &mut self.readers {
            if let Doing::Loading { token, .. } | Doing::Filling { token, .. } = &mut reader.doing {
                see(token);
            }
        }
    }

    /// States that differ only in which random number is which, or which reader is which, are one.
    pub(crate) fn canonical(mut self, bounds: Bounds) -> Self {
        let unnamed = |reader: Reader| match reader.doing {
            Doing::Loading { acked, void, .. } => (2, acked, void, 0, reader.left),
            Doing::Filling { void, version, .. } => (3, 0, void, version, reader.left),
            Doing::Asking { acked } => (1, acked, false, 0, reader.left),
            Doing::Nothing => (0, 0, false, 0, reader.left),
        };
        self.readers.sort_by_key(|reader| unnamed(*reader));
        if !bounds.rules.counter {
            // What each is called from now on; 0: nothing yet.
            let (mut names, mut next) = ([0; 64], 10);
            self.each_number(|number| {
                let name = &mut names[usize::from(*number)];
                if *name == 0 {
                    (*name, next) = (next, next + 1);
                }
                *number = *name;
            });
        }
        self
    }

    /// What is wrong with an entry that somebody gets who may rely on this version.
    fn wrong(&self, entry: Option<Entry>, acked: u8) -> Option<String> {
        let entry = entry?;
        if entry.fresh && entry.version < acked {
            return Some(format!("P1: fresh {entry:?}, but {acked} was acknowledged"));
        }
        if entry.version < self.dropped {
            return Some(format!("drop: {entry:?}, but {} was dropped", self.dropped));
        }
        if entry.version < acked && !entry.outdated {
            return Some(format!("keep: {entry:?} is not known to be outdated"));
        }
        None
    }

    /// Takes all leases away, as the readers are to learn.
    fn void(&mut self) {
        for reader in &mut self.readers {
            if let Doing::Loading { void, .. } | Doing::Filling { void, .. } = &mut reader.doing {
                *void = true;
            }
        }
    }

    /// Whoever asks from now on gets nothing wrong.
    pub(crate) fn checked(mut self, bounds: Bounds) -> Result<Self, String> {
        let entry = self.now(bounds).look();
        self.wrong(entry, self.acked).map_or(Ok(self), Err)
    }

    pub(crate) fn steps(&self, bounds: Bounds, steps: &mut Steps) {
        for at in 0..self.readers.len() {
            self.reader(bounds, at, steps);
        }
        self.writers(bounds, steps);
        self.mishaps(bounds, steps);
    }

    fn reader(&self, bounds: Bounds, at: usize, steps: &mut Steps) {
        let mut to = *self;
        let Reader { doing, left } = self.readers[at];
        match doing {
            Doing::Nothing if left == 0 => {}
            Doing::Nothing => {
                let acked = self.acked;
                to.readers[at] = Reader {
                    doing: Doing::Asking { acked },
                    left: left - 1,
                };
                steps.add(|| format!("R{at}: begins, {acked} is acknowledged"), Ok(to));
            }
            Doing::Asking { acked } => {
                for early in [false, true] {
                    let mut to = *self;
                    let token = self.draw();
                    let drawn = (token + 1, token + 2);
                    let answer = to.now(bounds).acquire(token, early, drawn);
                    let what = || format!("R{at}: acquires (early: {early}): {answer:?}");
                    let known = match answer {
                        Acquired::Fresh(entry) => Some(entry),
                        Acquired::Leased(known) | Acquired::Busy(known) => known,
                    };
                    if let Some(wrong) = self.wrong(known, acked) {
                        steps.add(what, Err(wrong));
                        continue;
                    }
                    match answer {
                        Acquired::Fresh(_) => to.readers[at].doing = Doing::Nothing,
                        Acquired::Leased(_) => {
                            // A lease that was overwritten is gone.
                            to.void();
                            let void = false;
                            to.readers[at].doing = Doing::Loading { acked, token, void };
                        }
                        // It waits.
                        Acquired::Busy(_) => continue,
                    }
                    steps.add(what, Ok(to));
                }
            }
            Doing::Loading { acked, token, void } => {
                let version = self.row;
                assert!(version >= acked);
                to.readers[at].doing = Doing::Filling {
                    token,
                    void,
                    version,
                };
                steps.add(|| format!("R{at}: reads {version}"), Ok(to));
                let mut to = *self;
                to.now(bounds).release(token);
                to.readers[at].doing = Doing::Nothing;
                steps.add(|| format!("R{at}: gives its lease back"), Ok(to));
                let mut to = *self;
                to.readers[at].doing = Doing::Nothing;
                steps.add(|| format!("R{at}: dies"), Ok(to));
            }
            Doing::Filling {
                token,
                void,
                version,
            } => {
                let stored = to.now(bounds).fill(token, version);
                to.readers[at].doing = Doing::Nothing;
                let wrong = "I2: a lease that did not stand was filled with";
                let to = if stored && void {
                    Err(wrong.into())
                } else {
                    Ok(to)
                };
                steps.add(|| format!("R{at}: fills with {version}: {stored}"), to);
            }
        }
    }

    fn writers(&self, bounds: Bounds, steps: &mut Steps) {
        for (at, by) in ["key", "tag"].into_iter().enumerate() {
            let mut to = *self;
            match self.writers[at] {
                Writer::Before => {
                    to.row += 1;
                    to.writers[at] = Writer::Committed { version: to.row };
                    steps.add(|| format!("W-{by}: commits {}", to.row), Ok(to));
                }
                Writer::Committed { version } => {
                    for keep in [false, true] {
                        let mut to = *self;
                        let drawn = self.draw();
                        match at {
                            0 => to.now(bounds).invalidate(keep),
                            _ => to.now(bounds).invalidate_tag(keep, drawn),
                        }
                        to.void();
                        to.writers[at] = Writer::Invalidated { version, keep };
                        steps.add(|| format!("W-{by}: invalidates (keep: {keep})"), Ok(to));
                    }
                }
                Writer::Invalidated { version, keep } => {
                    to.acked = to.acked.max(version);
                    if !keep {
                        to.dropped = to.dropped.max(version);
                    }
                    to.writers[at] = Writer::Done;
                    steps.add(|| format!("W-{by}: acknowledges {version}"), Ok(to));
                }
                Writer::Done => {}
            }
        }
    }

    fn mishaps(&self, bounds: Bounds, steps: &mut Steps) {
        let mut step = |what: &str, change: &dyn Fn(&mut Self)| {
            let mut to = *self;
            change(&mut to);
            steps.add(|| format!("-- {what} --"), Ok(to));
        };
        if self.time < bounds.until {
            step("time goes on", &|to| {
                to.time += 1;
                let before = to.redis.lease;
                to.now(bounds).expire();
                if before != to.redis.lease {
                    to.void();
                }
            });
        }
        if self.restarts > 0 {
            step("Redis restarts empty", &|to| {
                to.restarts -= 1;
                to.run += 1;
                to.redis = Redis::default();
                to.void();
            });
        }
        if self.rollbacks > 0 && self.saved.is_none() {
            step("Redis saves", &|to| to.saved = Some(to.redis));
        }
        if let Some(saved) = self.saved.filter(|_| self.rollbacks > 0) {
            step("Redis restarts from what it saved", &|to| {
                to.rollbacks -= 1;
                to.run += 1;
                to.saved = None;
                to.redis = saved;
                to.now(bounds).expire();
                to.void();
            });
        }
        if self.evictions > 0 {
            if self.redis.tag.is_some() {
                step("Redis evicts the tag", &|to| {
                    to.evictions -= 1;
                    to.redis.tag = None;
                    to.void();
                });
            }
            if self.redis.value.is_some() {
                step("Redis evicts the entry", &|to| {
                    to.evictions -= 1;
                    to.redis.value = None;
                });
            }
        }
    }
}
