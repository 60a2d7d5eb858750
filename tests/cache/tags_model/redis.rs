//! What the scripts decide, as plain functions: one entry under one tag.
//!
//! Random numbers are arguments. The explorer draws ones that nobody has drawn before; the test
//! against a real Redis lets both sides run the same commands and compares what they say.

/// What Redis holds about one entry.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub(crate) struct Redis {
    pub(crate) value: Option<Value>,
    pub(crate) lease: Option<Lease>,
    pub(crate) tag: Option<Tag>,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Value {
    pub(crate) run: u8,
    pub(crate) tag: Tag,
    pub(crate) invalidated: bool,
    pub(crate) t0: u8,
    /// Which answer it is.
    pub(crate) version: u8,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Lease {
    pub(crate) token: u8,
    pub(crate) t0: u8,
    pub(crate) run: u8,
    pub(crate) tok: u8,
    pub(crate) ends: u8,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Tag {
    pub(crate) tok: u8,
    pub(crate) base: u8,
    pub(crate) ends: u8,
}

/// An entry as it is read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Entry {
    pub(crate) version: u8,
    pub(crate) fresh: bool,
    pub(crate) outdated: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Acquired {
    Fresh(Entry),
    Leased(Option<Entry>),
    Busy(Option<Entry>),
}

/// Times, and what is left out to see that it is needed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) fresh: u8,
    pub(crate) stale: u8,
    pub(crate) lease: u8,
    /// The tag holds a number that is counted up, and begins at 0 when it is made.
    pub(crate) counter: bool,
    /// What another run of Redis stored or granted counts for nothing.
    pub(crate) check_run: bool,
    /// A fill is refused if the tag has changed since the grant.
    pub(crate) check_fill: bool,
}

/// Redis, its clock and its run, in one call.
pub(crate) struct Now<'a> {
    pub(crate) redis: &'a mut Redis,
    pub(crate) rules: Rules,
    pub(crate) time: u8,
    pub(crate) run: u8,
}

impl Now<'_> {
    fn same(&self, run: u8) -> bool {
        run == self.run || !self.rules.check_run
    }

    /// `stored` in the scripts.
    pub(crate) fn look(&self) -> Option<Entry> {
        let (value, tag) = (self.redis.value?, self.redis.tag?);
        if !self.same(value.run) || value.tag.base != tag.base {
            return None;
        }
        let age = self.time.checked_sub(value.t0)?;
        let outdated = value.invalidated || value.tag.tok != tag.tok;
        (age < self.rules.stale).then_some(Entry {
            version: value.version,
            fresh: age < self.rules.fresh && !outdated,
            outdated,
        })
    }

    fn outlive(&mut self, ends: u8) {
        if let Some(tag) = &mut self.redis.tag {
            tag.ends = tag.ends.max(ends);
        }
    }

    pub(crate) fn acquire(&mut self, token: u8, early: bool, drawn: (u8, u8)) -> Acquired {
        let entry = self.look();
        match entry {
            Some(entry) if entry.fresh && !early => return Acquired::Fresh(entry),
            _ => {}
        }
        let current = self.redis.tag.map(|tag| tag.tok);
        match self.redis.lease {
            Some(lease) if self.same(lease.run) && Some(lease.tok) == current => {
                return Acquired::Busy(entry);
            }
            _ => {}
        }
        let ends = self.time + self.rules.lease;
        let (tok, base) = match self.rules.counter {
            true => (0, 0),
            false => drawn,
        };
        let tag = *self.redis.tag.get_or_insert(Tag { tok, base, ends });
        self.redis.lease = Some(Lease {
            token,
            t0: self.time,
            run: self.run,
            tok: tag.tok,
            ends,
        });
        self.outlive(ends);
        Acquired::Leased(entry)
    }

    pub(crate) fn fill(&mut self, token: u8, version: u8) -> bool {
        let Some(lease) = self.redis.lease else {
            return false;
        };
        if lease.token != token || !self.same(lease.run) {
            return false;
        }
        let tag = match self.redis.tag {
            Some(tag) if tag.tok == lease.tok || !self.rules.check_fill => tag,
            _ => return false,
        };
        let ends = lease.t0 + self.rules.stale;
        self.redis.value = (ends > self.time).then_some(Value {
            run: self.run,
            // What is compared later; when it ends is not.
            tag: Tag { ends: 0, ..tag },
            invalidated: false,
            t0: lease.t0,
            version,
        });
        self.redis.lease = None;
        self.outlive(ends + 1);
        true
    }

    pub(crate) fn release(&mut self, token: u8) {
        if self.redis.lease.is_some_and(|lease| lease.token == token) {
            self.redis.lease = None;
        }
    }

    pub(crate) fn invalidate(&mut self, keep: bool) {
        self.redis.lease = None;
        self.redis.value = match self.redis.value {
            Some(value) if keep && self.same(value.run) => Some(Value {
                invalidated: true,
                ..value
            }),
            _ => None,
        };
    }

    pub(crate) fn invalidate_tag(&mut self, keep: bool, drawn: u8) {
        let Some(tag) = &mut self.redis.tag else {
            return;
        };
        match (self.rules.counter, keep) {
            (true, true) => tag.tok += 1,
            (true, false) => (tag.tok, tag.base) = (tag.tok + 1, tag.base + 1),
            (false, true) => tag.tok = drawn,
            (false, false) => self.redis.tag = None,
        }
    }

    /// Removes what has expired.
    pub(crate) fn expire(&mut self) {
        let time = self.time;
        let Redis { value, lease, tag } = self.redis;
        *lease = lease.filter(|lease| lease.ends > time);
        *tag = tag.filter(|tag| tag.ends > time);
        let stale = self.rules.stale;
        *value = value.filter(|value| value.t0 + stale > time);
    }
}
