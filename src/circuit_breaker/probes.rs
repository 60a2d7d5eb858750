//! The calls that a half-open breaker lets through.

use crate::clock::Time;
use std::time::Duration;

/// What the ended probes say, once they say it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ProbeVerdict {
    Well,
    Unwell,
}

/// What the end of one probe says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ProbeEnd {
    Well,
    Unwell,
    /// Its caller left, so late that an answer would have been there.
    Late,
    /// The dependency is full, and the next probe has to wait for this many nanoseconds.
    Overloaded {
        wait: u64,
    },
    /// It did not reach the dependency.
    Unreached,
    Nothing,
}

/// What becomes of a call that asks to be a probe.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ProbeStart {
    /// It is one, with this lease.
    Lease(u64),
    /// Enough are running, the eldest since this time.
    Enough { eldest: Time },
    /// No call may be one before this time.
    NotBefore(Time),
    /// Those that hung say that the dependency still does.
    Unwell,
}

/// So many late probes in a row say that the dependency hangs: one says no more than that its
/// caller left.
const LATE: u8 = 3;
/// So many probes in a row that said nothing hand their place on at once, or twice as many as may
/// run; from then on probes begin this many nanoseconds apart, so that what ends at once does not
/// let everybody through.
const AT_ONCE: usize = 8;
const APART: u64 = 250_000_000;

/// Probes that are running, and what those that ended say.
///
/// # Invariants
/// 1. Running and decided ones together are never more than `limit`, so the last one settles it:
///    `limit` results hold either `needed` successes or more failures than the rest allows.
/// 2. One whose result is missing has a lease that ends, so somebody can always be next. It is time
///    in the dependency: a probe that waits for another policy loses its place when it ends all the
///    same, but has not hung; and when its wait is over it goes on, if need be in the place of one
///    that waits or is younger, so that the eldest always come to an answer that counts.
/// 3. `1 <= needed <= limit`.
#[derive(Debug)]
pub(super) struct Probes {
    limit: usize,
    needed: usize,
    /// Nanoseconds of a lease; and for how long at least all have to be refused on their way.
    lease: u64,
    patience: u64,
    running: Vec<ProbeLease>,
    /// Those that have succeeded, by their leases: the rest of their answers may fail yet.
    succeeded: Vec<u64>,
    failed: usize,
    next: u64,
    row: Row,
}

/// What probes said that say nothing alone.
#[derive(Debug, Default)]
struct Row {
    not_before: Time,
    /// Late ones since the last that was answered.
    late: u8,
    /// Those that said nothing, since the last that did.
    nothing: u16,
    /// The end of the wait that the dependency asked for with its last answer; else zero.
    asked_until: Time,
    /// Since when no probe has reached the dependency; else zero.
    unreached_since: Time,
    /// Whether a probe that has had the whole of its lease is late.
    lease_is_late: bool,
}

#[derive(Debug)]
struct ProbeLease {
    id: u64,
    /// When it began, later by what it has waited for other policies.
    began: Time,
    /// Whether it waits for one now.
    waits: bool,
}

impl Probes {
    pub(super) fn new(limit: u32, needed: u32, lease: u64, patience: u64) -> Self {
        debug_assert!((1..=limit).contains(&needed), "{needed} of {limit} probes");
        Self {
            limit: limit as usize,
            needed: needed as usize,
            lease,
            patience,
            running: Vec::new(),
            succeeded: Vec::new(),
            failed: 0,
            next: 1,
            row: Row::default(),
        }
    }

    /// Begins anew: leases given out before are void.
    pub(super) fn restart(&mut self, lease_is_late: bool) {
        self.running.clear();
        self.succeeded.clear();
        self.failed = 0;
        self.row = Row {
            lease_is_late,
            ..Row::default()
        };
    }

    /// Returns when the next probe may begin, if it may not now for another reason than that enough
    /// are running.
    pub(super) fn not_before(&self) -> Time {
        self.row.not_before
    }

    /// Begins one more, if there is room.
    pub(super) fn begin(&mut self, now: Time) -> ProbeStart {
        let (lease, mut hung) = (self.lease, 0);
        self.running.retain(|probe| {
            let goes_on = now.0 < probe.began.0.saturating_add(lease);
            hung += usize::from(!goes_on && !probe.waits);
            goes_on
        });
        if (0..hung).any(|_| self.hung() == Some(ProbeVerdict::Unwell)) {
            return ProbeStart::Unwell;
        }
        if self.running.len() + self.decided() >= self.limit {
            let eldest = self.running.iter().map(|probe| probe.began).min();
            let eldest = eldest.unwrap_or(now);
            return ProbeStart::Enough { eldest };
        }
        if now < self.row.not_before {
            return ProbeStart::NotBefore(self.row.not_before);
        }
        let id = self.next;
        self.next += 1;
        self.running.push(ProbeLease {
            id,
            began: now,
            waits: false,
        });
        ProbeStart::Lease(id)
    }

    /// Notes that one waits for another policy, and is not in the dependency.
    pub(super) fn begin_wait(&mut self, id: u64) {
        if let Some(probe) = self.running.iter_mut().find(|probe| probe.id == id) {
            probe.waits = true;
        }
    }

    /// Notes that one goes on which has waited for so long, and has not been answered.
    pub(super) fn end_wait(&mut self, id: u64, waited: Duration, now: Time) {
        if let Some(probe) = self.running.iter_mut().find(|probe| probe.id == id) {
            probe.began = probe.began.after(waited).min(now).max(probe.began);
            probe.waits = false;
            return;
        }
        if self.running.len() + self.decided() >= self.limit {
            let places = self.running.iter().enumerate();
            match places.max_by_key(|(_, probe)| (probe.waits, probe.id)) {
                Some((at, probe)) if probe.waits || probe.id > id => self.running.swap_remove(at),
                _ => return,
            };
        }
        let (began, waits) = (now, false);
        self.running.push(ProbeLease { id, began, waits });
    }

    /// Returns how many are running.
    #[cfg(test)]
    pub(super) fn running(&self) -> usize {
        self.running.len()
    }

    /// Returns whether there is none to give out.
    pub(super) fn are_all_out(&self, now: Time) -> bool {
        let running = |probe: &&ProbeLease| now.0 < probe.began.0.saturating_add(self.lease);
        let running = self.running.iter().filter(running).count();
        running + self.decided() >= self.limit
    }

    fn decided(&self) -> usize {
        self.succeeded.len() + self.failed
    }

    /// Ends one. What it was answered after its lease ran out says nothing: it hung. One that has
    /// succeeded, because its answer began well, may still fail while the others decide.
    pub(super) fn end(&mut self, id: u64, end: ProbeEnd, now: Time) -> Option<ProbeVerdict> {
        if let Some(at) = self.succeeded.iter().position(|probe| *probe == id) {
            if end == ProbeEnd::Unwell {
                self.succeeded.swap_remove(at);
                self.failed += 1;
            }
            return self.verdict();
        }
        let at = self.running.iter().position(|probe| probe.id == id)?;
        let probe = self.running.swap_remove(at);
        if now.0 >= probe.began.0.saturating_add(self.lease) {
            return if probe.waits { None } else { self.hung() };
        }
        let row = &mut self.row;
        if end != ProbeEnd::Unreached {
            row.unreached_since = Time(0);
        }
        match end {
            ProbeEnd::Well | ProbeEnd::Unwell => {
                (row.late, row.nothing, row.asked_until) = (0, 0, Time(0));
                match end == ProbeEnd::Well {
                    true => self.succeeded.push(id),
                    false => self.failed += 1,
                }
            }
            ProbeEnd::Overloaded { wait } => {
                (row.late, row.nothing) = (0, 0);
                // A closed breaker lets a full dependency decide for itself, and so does this one
                // in the end. Those that began before the wait was over belong to the answer that
                // began it.
                if row.asked_until > Time(0) && probe.began >= row.asked_until {
                    return Some(ProbeVerdict::Well);
                }
                let until = Time(now.0.saturating_add(wait));
                row.asked_until = row.asked_until.max(until);
                row.not_before = row.not_before.max(until);
            }
            ProbeEnd::Late => {
                self.says_nothing(&probe);
                return self.late();
            }
            ProbeEnd::Unreached => {
                if row.unreached_since == Time(0) {
                    row.unreached_since = probe.began;
                }
                let since = row.unreached_since;
                self.says_nothing(&probe);
                // Whoever refuses them goes on without this breaker, and nothing is sent either
                // way. The end of that has to be found by calls.
                let lasted = now.0.saturating_sub(since.0);
                return (lasted >= self.patience).then_some(ProbeVerdict::Well);
            }
            ProbeEnd::Nothing => self.says_nothing(&probe),
        }
        self.verdict()
    }

    fn verdict(&self) -> Option<ProbeVerdict> {
        let begun = self.running.len() + self.decided();
        debug_assert!(begun <= self.limit, "{begun} of {} probes", self.limit);
        if self.succeeded.len() >= self.needed {
            Some(ProbeVerdict::Well)
        } else if self.failed > self.limit - self.needed {
            Some(ProbeVerdict::Unwell)
        } else {
            None
        }
    }

    fn says_nothing(&mut self, probe: &ProbeLease) {
        self.row.nothing = self.row.nothing.saturating_add(1);
        if usize::from(self.row.nothing) >= AT_ONCE.max(2 * self.limit) {
            let next = Time(probe.began.0.saturating_add(APART));
            self.row.not_before = self.row.not_before.max(next);
        }
    }

    fn hung(&mut self) -> Option<ProbeVerdict> {
        self.row.unreached_since = Time(0);
        self.row.lease_is_late.then(|| self.late()).flatten()
    }

    fn late(&mut self) -> Option<ProbeVerdict> {
        self.row.late = self.row.late.saturating_add(1);
        (self.row.late >= LATE).then_some(ProbeVerdict::Unwell)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENOUGH: ProbeStart = ProbeStart::Enough { eldest: Time(0) };

    fn one() -> Probes {
        Probes::new(1, 1, 100, 1_000)
    }

    fn lease(probes: &mut Probes, now: u64) -> u64 {
        match probes.begin(Time(now)) {
            ProbeStart::Lease(id) => id,
            other => panic!("{other:?}"),
        }
    }

    /// Ends the probe that begins then, at once.
    fn probe(probes: &mut Probes, end: ProbeEnd, now: u64) -> Option<ProbeVerdict> {
        let id = lease(probes, now);
        probes.end(id, end, Time(now))
    }

    #[test]
    fn three_of_five_decide_at_the_third_success_or_the_third_failure() {
        let (well, unwell) = (ProbeEnd::Well, ProbeEnd::Unwell);
        for (results, verdict) in [
            ([well, unwell, well, unwell, well], ProbeVerdict::Well),
            ([unwell, well, unwell, well, unwell], ProbeVerdict::Unwell),
        ] {
            let mut probes = Probes::new(5, 3, 100, 1_000);
            let ids: Vec<_> = (0..5).map(|_| lease(&mut probes, 0)).collect();
            assert_eq!(probes.begin(Time(1)), ENOUGH);
            for n in 0..4 {
                assert_eq!(probes.end(ids[n], results[n], Time(2)), None);
            }
            assert_eq!(probes.end(ids[4], results[4], Time(2)), Some(verdict));
        }
    }

    #[test]
    fn one_that_was_answered_well_may_fail_once_while_the_others_decide() {
        let mut probes = Probes::new(5, 3, 100, 1_000);
        let answered = lease(&mut probes, 0);
        for end in [ProbeEnd::Well, ProbeEnd::Nothing, ProbeEnd::Late] {
            assert_eq!(probes.end(answered, end, Time(50)), None);
        }
        assert_eq!(probe(&mut probes, ProbeEnd::Unwell, 500), None);
        for _ in 0..2 {
            assert_eq!(probes.end(answered, ProbeEnd::Unwell, Time(600)), None);
        }
        let verdict = probe(&mut probes, ProbeEnd::Unwell, 700);
        assert_eq!(verdict, Some(ProbeVerdict::Unwell));
    }

    #[test]
    fn those_that_say_nothing_make_room_at_once_but_not_for_everybody() {
        for end in [ProbeEnd::Nothing, ProbeEnd::Unreached, ProbeEnd::Late] {
            let (mut probes, mut began) = (Probes::new(1, 1, u64::MAX, u64::MAX), 0);
            for now in 0..4_000 {
                // Two that are late are no three.
                if end == ProbeEnd::Late && began == 2 {
                    break;
                }
                let now = Time(now * APART / 1_000);
                if let ProbeStart::Lease(id) = probes.begin(now) {
                    assert_eq!(probes.begin(now), ProbeStart::Enough { eldest: now });
                    assert_eq!(probes.end(id, end, now), None);
                    began += 1;
                }
            }
            assert!(began <= 8 + 4, "{began} in a second, {end:?}");
        }
    }

    #[test]
    fn one_that_hangs_is_replaced_when_its_lease_ends_and_its_result_ignored() {
        let mut probes = one();
        let hung = lease(&mut probes, 0);
        assert_eq!(probes.begin(Time(99)), ENOUGH);
        let next = lease(&mut probes, 100);
        assert_eq!(probes.end(hung, ProbeEnd::Unwell, Time(101)), None);
        let verdict = probes.end(next, ProbeEnd::Well, Time(102));
        assert_eq!(verdict, Some(ProbeVerdict::Well));
    }

    #[test]
    fn a_result_after_the_lease_is_ignored_even_if_nobody_came_meanwhile() {
        let mut probes = one();
        let hung = lease(&mut probes, 0);
        assert_eq!(probes.end(hung, ProbeEnd::Well, Time(100)), None);
        lease(&mut probes, 100);
    }

    #[test]
    fn the_third_that_hangs_or_is_late_decides_if_that_can_be_known() {
        let mut probes = one();
        for now in 0..10 {
            lease(&mut probes, now * 100);
        }
        probes.restart(true);
        lease(&mut probes, 0);
        assert_eq!(probe(&mut probes, ProbeEnd::Late, 100), None);
        assert_eq!(probe(&mut probes, ProbeEnd::Nothing, 110), None);
        lease(&mut probes, 120);
        assert_eq!(probes.begin(Time(220)), ProbeStart::Unwell);
    }

    #[test]
    fn one_that_waits_for_another_policy_has_not_hung_and_goes_on_though_its_place_was_taken() {
        for taken in [false, true] {
            for now in [0, 1_000] {
                let mut probes = one();
                probes.restart(true);
                let waits = lease(&mut probes, now);
                probes.begin_wait(waits);
                let eldest = Time(now);
                assert_eq!(probes.begin(Time(now + 99)), ProbeStart::Enough { eldest });
                let _ = taken.then(|| lease(&mut probes, now + 100));
                probes.end_wait(waits, Duration::from_nanos(500), Time(now + 500));
                let verdict = probes.end(waits, ProbeEnd::Well, Time(now + 599));
                assert_eq!(verdict, Some(ProbeVerdict::Well), "taken: {taken}");
                assert_eq!((probes.running(), probes.row.late), (0, 0));
            }
        }
    }

    #[test]
    fn a_full_dependency_is_left_alone_for_as_long_as_it_asks_and_the_second_time_that_is_all() {
        let full = ProbeEnd::Overloaded { wait: 50 };
        let mut probes = Probes::new(3, 3, 100, 1_000);
        let ids = [lease(&mut probes, 0), lease(&mut probes, 0)];
        for id in ids {
            assert_eq!(probes.end(id, full, Time(10)), None, "the same answer");
        }
        assert_eq!(probes.begin(Time(59)), ProbeStart::NotBefore(Time(60)));
        assert_eq!(probe(&mut probes, ProbeEnd::Nothing, 60), None);
        let verdict = probe(&mut probes, full, 61);
        assert_eq!(verdict, Some(ProbeVerdict::Well));
        // Not in a row with one that was answered otherwise in between.
        probes.restart(false);
        for round in 0..2 {
            assert_eq!(probe(&mut probes, full, round * 100), None);
            assert_eq!(probe(&mut probes, ProbeEnd::Well, round * 100 + 50), None);
        }
    }

    #[test]
    fn when_nothing_but_refusals_on_the_way_is_met_for_long_enough_that_is_the_end() {
        let mut probes = Probes::new(1, 1, 100, APART * 10);
        for n in 0..=10 {
            let verdict = probe(&mut probes, ProbeEnd::Unreached, 1 + n * APART);
            assert_eq!(verdict, (n == 10).then_some(ProbeVerdict::Well));
        }
    }
}
