//! The calls that a half-open breaker lets through.

use crate::clock::Time;

/// What the ended probes say, once they say it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ProbeVerdict {
    Well,
    Unwell,
}

/// Probes that are running, and what those that ended say.
///
/// # Invariants
/// 1. Running and decided ones together are never more than `limit`, so the last one settles it:
///    `limit` results hold either `needed` successes or more failures than the rest allows.
/// 2. One whose result is missing has a lease that ends, so somebody can always be next.
/// 3. `1 <= needed <= limit`.
#[derive(Debug)]
pub(super) struct Probes {
    limit: usize,
    needed: usize,
    /// Nanoseconds of a lease.
    lease: u64,
    running: Vec<ProbeLease>,
    succeeded: usize,
    failed: usize,
    next: u64,
}

#[derive(Debug)]
struct ProbeLease {
    id: u64,
    began: Time,
}

impl Probes {
    pub(super) fn new(limit: u32, needed: u32, lease: u64) -> Self {
        debug_assert!((1..=limit).contains(&needed), "{needed} of {limit} probes");
        Self {
            limit: limit as usize,
            needed: needed as usize,
            lease,
            running: Vec::new(),
            succeeded: 0,
            failed: 0,
            next: 1,
        }
    }

    /// Begins anew: leases given out before are void.
    pub(super) fn restart(&mut self) {
        self.running.clear();
        (self.succeeded, self.failed) = (0, 0);
    }

    /// Returns the lease of one more, or since when the eldest of the running ones has been at it.
    pub(super) fn begin(&mut self, now: Time) -> Result<u64, Time> {
        let lease = self.lease;
        self.running
            .retain(|probe| now.0 < probe.began.0.saturating_add(lease));
        if self.running.len() + self.succeeded + self.failed >= self.limit {
            let eldest = self.running.iter().map(|probe| probe.began).min();
            return Err(eldest.unwrap_or(now));
        }
        let id = self.next;
        self.next += 1;
        self.running.push(ProbeLease { id, began: now });
        Ok(id)
    }

    /// Returns whether there is none to give out.
    pub(super) fn are_all_out(&self, now: Time) -> bool {
        let running = |probe: &&ProbeLease| now.0 < probe.began.0.saturating_add(self.lease);
        let running = self.running.iter().filter(running).count();
        running + self.succeeded + self.failed >= self.limit
    }

    /// Ends one: well, unwell, or saying nothing. A lease that ran out says nothing.
    pub(super) fn end(&mut self, id: u64, well: Option<bool>, now: Time) -> Option<ProbeVerdict> {
        let at = self.running.iter().position(|probe| probe.id == id)?;
        let probe = self.running.swap_remove(at);
        if now.0 >= probe.began.0.saturating_add(self.lease) {
            return None;
        }
        match well? {
            true => self.succeeded += 1,
            false => self.failed += 1,
        }
        let ended = self.running.len() + self.succeeded + self.failed;
        debug_assert!(ended <= self.limit, "{ended} of {} probes", self.limit);
        if self.succeeded >= self.needed {
            Some(ProbeVerdict::Well)
        } else if self.failed > self.limit - self.needed {
            Some(ProbeVerdict::Unwell)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(probes: &mut Probes, n: usize) -> Vec<u64> {
        (0..n).map(|_| probes.begin(Time(0)).unwrap()).collect()
    }

    #[test]
    fn three_of_five_decide_at_the_third_success_or_the_third_failure() {
        for (results, verdict) in [
            ([true, false, true, false, true], ProbeVerdict::Well),
            ([false, true, false, true, false], ProbeVerdict::Unwell),
        ] {
            let mut probes = Probes::new(5, 3, 100);
            let ids = begin(&mut probes, 5);
            assert_eq!(probes.begin(Time(1)), Err(Time(0)));
            for n in 0..4 {
                assert_eq!(probes.end(ids[n], Some(results[n]), Time(2)), None);
            }
            assert_eq!(probes.end(ids[4], Some(results[4]), Time(2)), Some(verdict));
        }
    }

    #[test]
    fn one_that_says_nothing_makes_room_for_another() {
        let mut probes = Probes::new(1, 1, 100);
        for _ in 0..10 {
            let id = probes.begin(Time(0)).unwrap();
            assert!(probes.begin(Time(0)).is_err());
            assert_eq!(probes.end(id, None, Time(1)), None);
        }
    }

    #[test]
    fn one_that_hangs_is_replaced_when_its_lease_ends_and_its_result_ignored() {
        let mut probes = Probes::new(1, 1, 100);
        let hung = probes.begin(Time(0)).unwrap();
        assert!(probes.begin(Time(99)).is_err());
        let next = probes.begin(Time(100)).unwrap();
        assert_eq!(probes.end(hung, Some(false), Time(101)), None);
        assert_eq!(
            probes.end(next, Some(true), Time(102)),
            Some(ProbeVerdict::Well)
        );
    }

    #[test]
    fn a_result_after_the_lease_is_ignored_even_if_nobody_came_meanwhile() {
        let mut probes = Probes::new(1, 1, 100);
        let hung = probes.begin(Time(0)).unwrap();
        assert_eq!(probes.end(hung, Some(true), Time(100)), None);
        assert!(probes.begin(Time(100)).is_ok());
    }
}
