//! How long calls took, in buckets: enough for means that leave out the slowest.

use super::limit::Latencies;

/// Buckets for each power of two.
const PARTS: u32 = 4;
/// The first bucket holds what took less than twice this many nanoseconds, the last one all above
/// a minute.
const LEAST: u32 = 10;
const BUCKETS: usize = 26 * PARTS as usize;

/// The share of calls that count for [`Latencies::trimmed`].
const TRIMMED: f64 = 0.9;

/// The latencies of some calls.
///
/// A bucket keeps the sum of what is in it, so that means are exact but for the one bucket that is
/// cut.
#[derive(Clone, Debug)]
pub(super) struct Histogram {
    buckets: [Bucket; BUCKETS],
    count: u64,
    /// Seconds, and seconds squared.
    sum: f64,
    squares: f64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    count: u32,
    sum: f32,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: [Bucket::default(); BUCKETS],
            count: 0,
            sum: 0.0,
            squares: 0.0,
        }
    }
}

impl Histogram {
    /// Adds so many calls that took so long.
    pub(super) fn add(&mut self, nanos: u64, calls: u32) {
        let (seconds, n) = (nanos as f64 * 1e-9, f64::from(calls));
        if let Some(bucket) = self.buckets.get_mut(bucket_of(nanos)) {
            bucket.count = bucket.count.saturating_add(calls);
            bucket.sum += (n * seconds) as f32;
        }
        self.count += u64::from(calls);
        self.sum += n * seconds;
        self.squares += n * seconds * seconds;
    }

    /// Adds all calls of another one, and empties it.
    pub(super) fn take_from(&mut self, other: &mut Self) {
        if other.count == 0 {
            return;
        }
        for (to, from) in self.buckets.iter_mut().zip(&mut other.buckets) {
            let Bucket { count, sum } = std::mem::take(from);
            to.count = to.count.saturating_add(count);
            to.sum += sum;
        }
        self.count += std::mem::take(&mut other.count);
        self.sum += std::mem::take(&mut other.sum);
        self.squares += std::mem::take(&mut other.squares);
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn latencies(&self) -> Latencies {
        if self.count == 0 {
            return Latencies::default();
        }
        let n = self.count as f64;
        let mean = self.sum / n;
        let variation = self.squares / n / (mean * mean) - 1.0;
        Latencies {
            count: self.count,
            mean,
            trimmed: self.trimmed(TRIMMED * n),
            variation: if variation > 0.0 { variation } else { 0.0 },
        }
    }

    /// Returns the mean of the quickest so many.
    fn trimmed(&self, want: f64) -> f64 {
        let (mut taken, mut sum) = (0.0, 0.0);
        for bucket in self.buckets.iter().filter(|bucket| bucket.count > 0) {
            let n = f64::from(bucket.count);
            let take = n.min(want - taken);
            sum += f64::from(bucket.sum) * take / n;
            taken += take;
            if taken >= want {
                break;
            }
        }
        sum / want
    }
}

/// Returns the bucket of what took so long.
fn bucket_of(nanos: u64) -> usize {
    let power = nanos.max(1).ilog2();
    if power < LEAST {
        return 0;
    }
    let part = (nanos >> (power - 2)) & u64::from(PARTS - 1);
    ((power - LEAST) as usize * PARTS as usize + part as usize).min(BUCKETS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_in_order_and_have_room_for_everything() {
        let mut before = 0;
        for power in 0..64 {
            for part in 0..4 {
                let nanos = (1_u64 << power).saturating_add(part * ((1_u64 << power) / 4));
                let bucket = bucket_of(nanos);
                assert!(bucket >= before || power == 0, "{nanos}");
                assert!(bucket < BUCKETS);
                before = bucket;
            }
        }
        assert_eq!((bucket_of(0), bucket_of(u64::MAX)), (0, BUCKETS - 1));
    }

    #[test]
    fn means_are_those_of_the_calls_and_the_trimmed_one_leaves_out_the_slowest() {
        let (mut one, mut other) = (Histogram::default(), Histogram::default());
        assert_eq!(one.latencies(), Latencies::default());
        for _ in 0..90 {
            one.add(20_000_000, 1);
        }
        other.add(1_000_000_000, 10);
        one.take_from(&mut other);
        assert_eq!((one.count(), other.count()), (100, 0));
        let seen = one.latencies();
        assert!((seen.mean - 0.118).abs() < 1e-9, "{seen:?}");
        assert!((seen.trimmed - 0.02).abs() < 1e-7, "{seen:?}");
        let variance = (0.9 * 0.02_f64.powi(2) + 0.1) / 0.118_f64.powi(2) - 1.0;
        assert!((seen.variation - variance).abs() < 1e-9, "{seen:?}");
        let mut same = Histogram::default();
        same.add(5_000_000, 16);
        assert_eq!(same.latencies().variation, 0.0);
    }
}
