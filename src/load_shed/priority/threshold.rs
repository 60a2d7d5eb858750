use super::{Priority, usage::Usage};
use crate::{clock::Time, shared::lock, striped::Striped};
use std::{
    fmt,
    sync::{
        Mutex, TryLockError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// How important a request must be to be worth a place in the queue.
///
/// A request has a position: its class, then the level of its user's usage, then chance. While
/// there is pressure (requests find no permit), the positions of all arrivals are counted, and
/// several times a second the threshold is put where the arrivals above it are as many as have been
/// served.
///
/// It is asked only when there is no permit, so it refuses nobody while there is room: what is
/// refused beyond need leaves a permit free, and that goes to whoever comes next. Without pressure
/// nothing is counted, and nothing shared is written.
///
/// Whoever carries it calls [`press`](Self::press) when a request finds no permit,
/// [`arrives`](Self::arrives) for every request while it [`is_pressed`](Self::is_pressed), and
/// [`starts`](Self::starts) for every call let in meanwhile.
///
/// # Invariants
/// 1. A position is one of `BINS`, and within it one of 256.
/// 2. Without pressure everyone is let in, and no shared word is written.
/// 3. `last`, `next` and the period are written by who holds `learnt`.
pub(crate) struct Threshold {
    /// The last moment with pressure, and the pressure's end if nothing follows; 0 without.
    pressed_until: AtomicU64,
    /// The last position that is let in.
    last: AtomicU32,
    counts: Striped<ThreadArrivals>,
    /// When the present window is to be closed, as a time.
    next: AtomicU64,
    period: AtomicU32,
    period_began: AtomicU64,
    usage: Usage,
    has_users: AtomicBool,
    learnt: Mutex<Learnt>,
}

struct ThreadArrivals {
    arrivals: [AtomicU32; BINS],
    started: AtomicU32,
}

impl Default for ThreadArrivals {
    fn default() -> Self {
        Self {
            arrivals: std::array::from_fn(|_| AtomicU32::new(0)),
            started: AtomicU32::new(0),
        }
    }
}

struct Learnt {
    arrivals: [f32; BINS],
    started: f32,
}

/// Four classes of 64 levels of usage.
const BINS: usize = 256;
const EVERYONE: u32 = u32::MAX;
/// The bits below a bin.
const CHANCE: u32 = 8;

/// For how long a request that found no permit means that there is pressure.
const PRESSURE: Duration = Duration::from_secs(1);
const WINDOW: Duration = Duration::from_millis(100);
/// Fewer arrivals say too little: the window stays open.
const ENOUGH: f32 = 50.0;
/// What remains of the former windows in each.
const MEMORY: f32 = 0.7;
const PERIOD: Duration = Duration::from_secs(2);

/// So much of the arrivals may not have started yet, or be left to the queue to drop: a queue that
/// builds up by chance looks the same as a little too much for as long as it lasts.
const TOLERATED: f32 = 0.1;

impl Threshold {
    /// Creates a threshold that has learnt nothing, without pressure.
    pub(crate) fn new() -> Self {
        Self {
            pressed_until: AtomicU64::new(0),
            last: AtomicU32::new(EVERYONE),
            counts: Striped::default(),
            next: AtomicU64::new(0),
            period: AtomicU32::new(0),
            period_began: AtomicU64::new(0),
            usage: Usage::new(),
            has_users: AtomicBool::new(false),
            learnt: Mutex::new(Learnt {
                arrivals: [0.0; BINS],
                started: 0.0,
            }),
        }
    }

    /// Returns whether arrivals are to be counted: one load, of a word that is written under
    /// pressure only.
    #[inline]
    pub(crate) fn is_pressed(&self) -> bool {
        self.pressed_until.load(Relaxed) != 0
    }

    /// Notes that a request has found no permit.
    pub(crate) fn press(&self, now: Time) {
        let before = self.pressed_until.load(Relaxed);
        let until = now.after(PRESSURE).0.max(1);
        if before == 0 {
            // Without pressure => under pressure
            self.forget(now);
        }
        // A tenth of it is fine enough; and the clock may have been set back.
        if before.abs_diff(until) > PRESSURE.as_nanos() as u64 / 10 {
            self.pressed_until.store(until, Relaxed);
        }
    }

    /// Counts a request that has come while there was pressure. Returns whether it may wait if
    /// there is no permit for it; `unit` is a random number in `[0, 1)`.
    pub(crate) fn arrives(&self, priority: Priority, unit: f64, now: Time) -> bool {
        let position = self.position(priority, unit, now);
        debug_assert!((position >> CHANCE) < BINS as u32, "position {position}");
        let arrivals = &self.counts.own().arrivals;
        if let Some(bin) = arrivals.get((position >> CHANCE) as usize) {
            bin.fetch_add(1, Relaxed);
        }
        let next = self.next.load(Relaxed);
        if now.0 >= next || Time(next).since(now) > WINDOW {
            self.look(now);
        }
        position <= self.last.load(Relaxed)
    }

    /// Counts a call that has been let in while there was pressure, whether or not it had waited.
    pub(crate) fn starts(&self) {
        self.counts.own().started.fetch_add(1, Relaxed);
    }

    /// Returns the share of the arrivals of late that the threshold refuses.
    pub(crate) fn share(&self) -> f64 {
        let last = self.last.load(Relaxed);
        let learnt = lock(&self.learnt);
        let all: f32 = learnt.arrivals.iter().sum();
        if last == EVERYONE || all <= 0.0 {
            return 0.0;
        }
        let (bin, within) = ((last >> CHANCE) as usize, (last & 0xFF) + 1);
        let beyond: f32 = learnt.arrivals.iter().skip(bin + 1).sum();
        let cut = learnt.arrivals.get(bin).copied().unwrap_or(0.0);
        let cut = cut * (1.0 - within as f32 / 256.0);
        f64::from((beyond + cut) / all)
    }

    fn position(&self, priority: Priority, unit: f64, now: Time) -> u32 {
        let period = self.period.load(Relaxed);
        let level = match priority.user {
            None => 0,
            Some(user) => {
                if !self.has_users.load(Relaxed) {
                    self.has_users.store(true, Relaxed);
                }
                let over = now.since(self.began()).as_secs_f64() / PERIOD.as_secs_f64();
                let usage = self.usage.count(user, period, over);
                // Quarters of a doubling: as many levels for small users as for large ones.
                ((4.0 * usage.log2()) as u32).min(63)
            }
        };
        // Chance, and not something that a user keeps: that would let in a user who is most of a
        // level altogether, or not at all.
        let chance = (unit * 256.0) as u32;
        (u32::from(priority.class as u8) << 6 | level) << CHANCE | chance.min(255)
    }

    /// Forgets what was learnt when there was pressure the last time.
    #[cold]
    fn forget(&self, now: Time) {
        let mut learnt = lock(&self.learnt);
        for counts in self.counts.iter() {
            counts.started.store(0, Relaxed);
            for bin in &counts.arrivals {
                bin.store(0, Relaxed);
            }
        }
        *learnt = Learnt {
            arrivals: [0.0; BINS],
            started: 0.0,
        };
        if self.has_users.load(Relaxed) {
            self.next_period(now);
            self.next_period(now);
        }
        self.last.store(EVERYONE, Relaxed);
        self.next.store(now.after(WINDOW).0, Relaxed);
    }

    /// Closes the window, and puts the threshold where what was seen in it says.
    #[cold]
    fn look(&self, now: Time) {
        let mut learnt = match self.learnt.try_lock() {
            Ok(learnt) => learnt,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // Somebody else is at it.
            Err(TryLockError::WouldBlock) => return,
        };
        let until = self.pressed_until.load(Relaxed);
        if now.0 >= until || Time(until).since(now) > PRESSURE {
            // Under pressure => without
            self.last.store(EVERYONE, Relaxed);
            let _ = (self.pressed_until).compare_exchange(until, 0, Relaxed, Relaxed);
            return;
        }
        let fresh: u64 = self.sum(|s| s.arrivals.iter().map(|n| u64::from(n.load(Relaxed))).sum());
        self.next.store(now.after(WINDOW).0, Relaxed);
        if (fresh as f32) < ENOUGH {
            return;
        }
        for (i, kept) in learnt.arrivals.iter_mut().enumerate() {
            let seen = self.sum(|s| s.arrivals.get(i).map_or(0, |n| n.swap(0, Relaxed).into()));
            *kept = *kept * MEMORY + seen as f32;
        }
        let started = self.sum(|s| s.started.swap(0, Relaxed).into());
        learnt.started = learnt.started * MEMORY + started as f32;
        self.last.store(learnt.threshold(), Relaxed);
        if self.has_users.load(Relaxed) && now.since(self.began()) >= PERIOD {
            self.next_period(now);
        }
    }

    fn began(&self) -> Time {
        Time(self.period_began.load(Relaxed))
    }

    fn next_period(&self, now: Time) {
        let next = self.period.load(Relaxed).wrapping_add(1);
        self.usage.begin(next);
        self.period_began.store(now.0, Relaxed);
        self.period.store(next, Relaxed);
    }

    fn sum(&self, of: impl Fn(&ThreadArrivals) -> u64) -> u64 {
        self.counts.iter().map(of).sum()
    }
}

impl Learnt {
    /// Returns the last position to let in.
    fn threshold(&self) -> u32 {
        let all: f32 = self.arrivals.iter().sum();
        if self.started >= (1.0 - TOLERATED) * all {
            return EVERYONE;
        }
        // No margin: with less, permits go to whoever comes while the queue is empty; with more,
        // those who may wait crowd out each other.
        let mut room = self.started;
        for (bin, &arrivals) in self.arrivals.iter().enumerate() {
            if arrivals > room {
                // The part of this bin for which there is room, if only just.
                let within = (room / arrivals * 256.0) as u32;
                return ((bin as u32) << CHANCE | within.min(255)).saturating_sub(1);
            }
            room -= arrivals;
        }
        EVERYONE
    }
}

impl Default for Threshold {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Threshold")
            .field("pressed", &self.is_pressed())
            .field("share", &self.share())
            .finish()
    }
}
