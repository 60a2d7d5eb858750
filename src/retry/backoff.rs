//! How long to wait before another attempt: pure arithmetic.
//!
//! The kinds of jitter are those of the AWS architecture blog, "Exponential Backoff and Jitter"
//! (Marc Brooker, 2015). Its simulation is `tests/retry/jitter.rs`, and why full jitter is the
//! default: with 100 clients in contention it takes the fewest calls (787, against 790 for equal,
//! 828 for decorrelated and 1412 for no jitter). Decorrelated jitter is done a fifth sooner.

use crate::error::InvalidConfig;
use std::{fmt, sync::Arc, time::Duration};

/// A backoff, which says how long to wait before each further attempt.
#[doc(alias("exponential_backoff", "ExponentialBackoff"))]
#[derive(Clone)]
pub struct Backoff {
    kind: BackoffKind,
    /// What was set though it does not apply to this kind, for `check` to refuse.
    inapplicable: Option<&'static str>,
}

/// # Invariants
/// 1. A wait of an exponential backoff is never longer than its maximum, whatever the jitter.
/// 2. The multiplier is at least 1, so that waits do not shrink from one attempt to the next.
/// 3. The initial wait is at most the maximum.
#[derive(Clone)]
enum BackoffKind {
    Exponential {
        initial: Duration,
        multiplier: f64,
        max: Option<Duration>,
        jitter: Jitter,
    },
    Constant(Duration, Jitter),
    Custom(Arc<dyn Fn(u32, f64) -> Duration + Send + Sync>),
}

/// The kind of jitter, which spreads waits so that callers who failed together do not come back
/// together.
///
/// Below, `v` is the wait without jitter: `initial * multiplier^(n - 1)` before the `n`th retry,
/// and no more than the maximum.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Jitter {
    /// Anything from zero to `v`.
    #[default]
    Full,
    /// Anything from half of `v` to `v`: never at once, at the price of more calls.
    Equal,
    /// Anything from the initial wait to three times the last one, and no more than the maximum.
    /// This is a random walk that does not depend on `n`.
    Decorrelated,
    /// Exactly `v`. It is for tests and demonstrations, because callers that failed together come
    /// back together.
    None,
}

/// Waits longer than this help nobody: a caller is gone by then, and a service that is back is
/// found late.
const MAX: Duration = Duration::from_secs(5);

impl Backoff {
    /// Returns an exponential backoff: up to `initial` before the second attempt, and twice as long
    /// before every further one, up to 5 s (or `initial`, if that is longer). It has full jitter.
    #[doc(alias = "exponential_backoff")]
    pub const fn exponential(initial: Duration) -> Self {
        Self::of(BackoffKind::Exponential {
            initial,
            multiplier: 2.0,
            max: None,
            jitter: Jitter::Full,
        })
    }

    /// Returns a backoff that waits this long before every further attempt, without jitter. With
    /// zero, attempts follow each other at once.
    ///
    /// It can have [full or equal jitter](Self::jitter), but neither a multiplier nor a maximum.
    #[doc(alias("fixed", "fixed_delay", "fixed_interval"))]
    pub const fn constant(wait: Duration) -> Self {
        Self::of(BackoffKind::Constant(wait, Jitter::None))
    }

    /// Returns a backoff that calls a function of your own, with the number of the retry (the first
    /// is 1) and a random number in `[0, 1)`.
    ///
    /// The wait is what the function returns, unless the service asks for a longer one; it has
    /// neither a multiplier nor a maximum nor jitter but those of the function.
    pub fn custom(wait: impl Fn(u32, f64) -> Duration + Send + Sync + 'static) -> Self {
        Self::of(BackoffKind::Custom(Arc::new(wait)))
    }

    const fn of(kind: BackoffKind) -> Self {
        Self {
            kind,
            inapplicable: None,
        }
    }

    /// Sets by what each wait of an exponential backoff is multiplied for the next one. At least 1.
    /// By default 2, the slowest growth at which the load of all retries together stays finite
    /// however many callers fail. A retry cannot be built with another backoff that has one.
    #[doc(alias = "factor")]
    #[must_use]
    pub fn multiplier(mut self, by: f64) -> Self {
        match &mut self.kind {
            BackoffKind::Exponential { multiplier, .. } => *multiplier = by,
            _ => self.inapplicable = Some("multiplier"),
        }
        self
    }

    /// Sets the longest wait of an exponential backoff, jitter included. By default 5 s, or the
    /// initial wait if that is longer: with longer waits the caller has gone, and a service that is
    /// back is noticed late. A retry cannot be built with another backoff that has one.
    ///
    /// A wait that is longer than the retry's [`max_wait`](super::RetryBuilder::max_wait), by
    /// default 5 s as well, ends the call.
    #[doc(alias("max_delay", "max_backoff", "max_interval"))]
    #[must_use]
    pub fn max(mut self, longest: Duration) -> Self {
        match &mut self.kind {
            BackoffKind::Exponential { max, .. } => *max = Some(longest),
            _ => self.inapplicable = Some("max"),
        }
        self
    }

    /// Sets the kind of jitter. By default [`Jitter::Full`], which needs the fewest calls, and none
    /// for a [constant](Self::constant) wait.
    ///
    /// A retry cannot be built with a constant wait whose jitter is [`Jitter::Decorrelated`], which
    /// needs waits that grow, nor with a [custom](Self::custom) one that has jitter.
    #[must_use]
    pub fn jitter(mut self, kind: Jitter) -> Self {
        match &mut self.kind {
            BackoffKind::Exponential { jitter, .. } => *jitter = kind,
            BackoffKind::Constant(_, jitter) if kind != Jitter::Decorrelated => *jitter = kind,
            _ => self.inapplicable = Some("jitter"),
        }
        self
    }

    /// Checks what the setters take as it comes.
    pub(super) fn check(&self) -> Result<(), InvalidConfig> {
        if let Some(field) = self.inapplicable {
            const ACCEPTS: &str = "left alone, because this backoff has none";
            return Err(InvalidConfig::new(
                "retry",
                field,
                format_args!("set"),
                ACCEPTS,
            ));
        }
        let BackoffKind::Exponential {
            initial,
            multiplier,
            max,
            ..
        } = &self.kind
        else {
            return Ok(());
        };
        let growing = multiplier.is_finite() && *multiplier >= 1.0;
        InvalidConfig::check(
            growing,
            "retry",
            "multiplier",
            multiplier,
            "at least 1 and finite",
        )?;
        let within = max.is_none_or(|max| *initial <= max);
        InvalidConfig::check(within, "retry", "initial", initial, "at most the maximum")
    }

    /// Returns the wait before the `retry`th retry, given the one before it and a number in
    /// `[0, 1)`.
    pub(super) fn wait(&self, retry: u32, last: Option<Duration>, unit: f64) -> Duration {
        let (initial, multiplier, max, jitter) = match &self.kind {
            BackoffKind::Custom(wait) => return wait(retry, unit),
            &BackoffKind::Constant(wait, jitter) => (wait, 1.0, Some(wait), jitter),
            &BackoffKind::Exponential {
                initial,
                multiplier,
                max,
                jitter,
            } => (initial, multiplier, max, jitter),
        };
        let first = initial.as_nanos() as f64;
        let cap = cap(initial, max);
        let most = cap.as_nanos() as f64;
        let exponent = i32::try_from(retry.saturating_sub(1)).unwrap_or(i32::MAX);
        // Zero times infinity is not a number; `min` would make the cap of it.
        let grown = if initial.is_zero() {
            0.0
        } else {
            (first * multiplier.powi(exponent)).min(most)
        };
        let nanos = match jitter {
            Jitter::Full => grown * unit,
            Jitter::Equal => grown / 2.0 + grown / 2.0 * unit,
            Jitter::Decorrelated => {
                let last = last.unwrap_or(initial).as_nanos() as f64;
                first + (3.0 * last - first).max(0.0) * unit
            }
            Jitter::None => grown,
        };
        debug_assert!(
            first <= most && multiplier >= 1.0,
            "what `check` lets through"
        );
        debug_assert!(nanos >= 0.0, "{nanos} is no time to wait for");
        // Floats saturate when they become integers. The cap comes after the jitter.
        Duration::from_nanos(nanos.round() as u64).min(cap)
    }
}

impl Backoff {
    /// Returns how long this wait may be made: up to the maximum, if it is a random one.
    pub(super) fn longest(&self, wait: Duration) -> Duration {
        match self.kind {
            BackoffKind::Exponential {
                initial,
                max,
                jitter: Jitter::Full | Jitter::Equal | Jitter::Decorrelated,
                ..
            } => cap(initial, max).max(wait),
            BackoffKind::Constant(longest, Jitter::Full | Jitter::Equal) => longest,
            _ => wait,
        }
    }
}

fn cap(initial: Duration, max: Option<Duration>) -> Duration {
    max.unwrap_or_else(|| MAX.max(initial))
}

impl Default for Backoff {
    /// Returns an exponential backoff from 100 ms: some round trips within a region, so that a
    /// hiccup is over.
    fn default() -> Self {
        Self::exponential(Duration::from_millis(100))
    }
}

impl fmt::Debug for Backoff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            BackoffKind::Exponential {
                initial,
                multiplier,
                max,
                jitter,
            } => f
                .debug_struct("Exponential")
                .field("initial", initial)
                .field("multiplier", multiplier)
                .field("max", &cap(*initial, *max))
                .field("jitter", jitter)
                .finish(),
            BackoffKind::Constant(wait, jitter) => f
                .debug_struct("Constant")
                .field("wait", wait)
                .field("jitter", jitter)
                .finish(),
            BackoffKind::Custom(_) => f.write_str("Custom"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn units() -> impl Iterator<Item = f64> {
        (0..1000).map(|n| f64::from(n) / 1000.0)
    }

    #[test]
    fn no_jitter_gives_the_exact_powers_up_to_the_cap() {
        let backoff = Backoff::exponential(500 * MS).jitter(Jitter::None);
        let waits = [1, 2, 3, 4, 5, 6, 1_100, u32::MAX].map(|n| backoff.wait(n, None, 0.7));
        assert_eq!(
            waits,
            [500, 1_000, 2_000, 4_000, 5_000, 5_000, 5_000, 5_000].map(|n| n * MS)
        );
        let third = Backoff::exponential(100 * MS)
            .multiplier(1.5)
            .jitter(Jitter::None);
        assert_eq!(third.wait(3, None, 0.0), 225 * MS);
        // What the gateway promises, and attempt numbers that no multiplication survives.
        assert_eq!(Backoff::constant(7 * MS).wait(1_100, None, 0.9), 7 * MS);
        let zero = Backoff::exponential(Duration::ZERO).multiplier(1e300);
        assert_eq!(zero.wait(1_100, None, 0.9), Duration::ZERO);
        let huge = Backoff::exponential(MS)
            .max(Duration::MAX)
            .jitter(Jitter::None);
        assert_eq!(huge.wait(1_100, None, 0.9), Duration::from_nanos(u64::MAX));
    }

    #[test]
    fn every_jitter_stays_in_its_bounds_and_fills_them() {
        for (jitter, low, high) in [(Jitter::Full, 0, 200), (Jitter::Equal, 100, 200)] {
            let backoff = Backoff::exponential(100 * MS).jitter(jitter);
            let waits = units()
                .map(|u| backoff.wait(2, None, u))
                .collect::<Vec<_>>();
            assert!(waits.iter().all(|w| (low * MS..=high * MS).contains(w)));
            assert_eq!(waits[0], low * MS, "{jitter:?}");
            assert!(waits[999] >= (high - 1) * MS, "{jitter:?}");
            let mean = waits.iter().sum::<Duration>() / 1000;
            assert!(mean.abs_diff((low + high) * MS / 2) < MS, "{jitter:?}");
        }
        for jitter in [
            Jitter::Full,
            Jitter::Equal,
            Jitter::Decorrelated,
            Jitter::None,
        ] {
            let backoff = Backoff::exponential(100 * MS).max(300 * MS).jitter(jitter);
            let mut last = None;
            for retry in 1..1_200 {
                for unit in [0.0, 0.3, 0.999_999] {
                    let wait = backoff.wait(retry, last, unit);
                    assert!(wait <= 300 * MS, "{jitter:?} {retry}");
                    last = Some(wait);
                }
            }
        }
    }

    #[test]
    fn decorrelated_jitter_depends_on_the_last_wait_only() {
        let backoff = Backoff::exponential(100 * MS).jitter(Jitter::Decorrelated);
        assert_eq!(backoff.wait(1, None, 0.0), 100 * MS);
        assert_eq!(backoff.wait(1, None, 0.5), 200 * MS);
        assert_eq!(backoff.wait(9, Some(200 * MS), 0.5), 350 * MS);
    }

    #[test]
    fn what_could_not_work_is_refused() {
        for by in [0.99, 0.0, -2.0, f64::NAN, f64::INFINITY] {
            let error = Backoff::default().multiplier(by).check().unwrap_err();
            assert_eq!(error.field(), "multiplier");
        }
        let error = Backoff::default().max(99 * MS).check().unwrap_err();
        assert_eq!(error.field(), "initial");
        for good in [
            Backoff::default(),
            Backoff::exponential(Duration::from_secs(60)),
            Backoff::exponential(Duration::MAX),
            Backoff::constant(Duration::ZERO),
            Backoff::constant(MS).jitter(Jitter::Full),
            Backoff::constant(MS).jitter(Jitter::Equal),
            Backoff::custom(|_, _| MS),
        ] {
            assert!(good.check().is_ok(), "{good:?}");
        }
        let patient = Backoff::exponential(Duration::from_secs(60)).jitter(Jitter::None);
        assert_eq!(patient.wait(5, None, 0.0), Duration::from_secs(60));
    }

    #[test]
    fn what_would_have_no_effect_is_refused() {
        let custom = || Backoff::custom(|_, _| MS);
        for (backoff, field) in [
            (Backoff::constant(MS).multiplier(2.0), "multiplier"),
            (Backoff::constant(MS).max(9 * MS), "max"),
            (Backoff::constant(MS).jitter(Jitter::Decorrelated), "jitter"),
            (custom().multiplier(2.0), "multiplier"),
            (custom().max(9 * MS), "max"),
            (custom().jitter(Jitter::Full), "jitter"),
        ] {
            let error = backoff.check().unwrap_err();
            assert_eq!(error.field(), field, "{backoff:?}");
        }
    }

    #[test]
    fn a_constant_wait_with_jitter_stays_below_it() {
        let waits = |jitter| {
            let backoff = Backoff::constant(8 * MS).jitter(jitter);
            [0.0, 0.5].map(|unit| backoff.wait(9, Some(MS), unit))
        };
        assert_eq!(waits(Jitter::None), [8 * MS; 2]);
        assert_eq!(waits(Jitter::Equal), [4 * MS, 6 * MS]);
        assert_eq!(waits(Jitter::Full), [Duration::ZERO, 4 * MS]);
    }

    #[test]
    fn a_closure_is_a_backoff() {
        let linear = Backoff::custom(|retry, _| retry * 10 * MS);
        assert_eq!(linear.wait(3, None, 0.0), 30 * MS);
    }
}
