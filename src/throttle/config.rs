use super::{
    Core, NOTHING, Throttle,
    counts::{Recent, ThrottleCounts},
};
use crate::{
    error::{InvalidConfig, Name},
    rng::Dice,
    shared::stripes,
};
use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

/// The settings of a [`Throttle`], begun by [`Throttle::builder`].
///
/// The [module](super#defaults) has a table of the defaults.
#[derive(Debug)]
pub struct ThrottleBuilder {
    name: Name,
    terms: ThrottleTerms,
    seed: Option<u64>,
}

#[derive(Debug)]
pub(super) struct ThrottleTerms {
    pub(super) window: Duration,
    multiplier: f64,
    minimum_calls: u32,
    max_rejection: f64,
}

impl ThrottleTerms {
    /// Returns the share of calls to hold back.
    pub(super) fn probability(&self, recent: Recent) -> f64 {
        let (calls, accepted) = (recent.calls as f64, recent.accepted as f64);
        let surplus = calls - self.multiplier * accepted - f64::from(self.minimum_calls);
        (surplus / (calls + 1.0)).clamp(0.0, self.max_rejection)
    }
}

impl ThrottleBuilder {
    pub(super) fn new(name: Name) -> Self {
        Self {
            name,
            terms: ThrottleTerms {
                window: Duration::from_secs(1),
                multiplier: 2.0,
                minimum_calls: 2,
                max_rejection: 0.8,
            },
            seed: None,
        }
    }

    /// Sets how long calls are remembered, in steps of a tenth. From 10 ms to an hour. The default
    /// is 1 s.
    ///
    /// It takes up to two windows after an outage until all calls are sent again, since those that
    /// were refused have to leave the window.
    #[must_use]
    pub fn window(mut self, window: Duration) -> Self {
        self.terms.window = window;
        self
    }

    /// Sets how many calls are sent for each one that is accepted. From 1 to 1000.
    ///
    /// The default is 2: the service has to refuse no more than one call for each one that it
    /// accepts, and the throttle notices when it can do more. With 1.1, only about one call in ten
    /// is sent in vain, beside the [minimum](Self::minimum_calls).
    #[must_use]
    pub fn multiplier(mut self, multiplier: f64) -> Self {
        self.terms.multiplier = multiplier;
        self
    }

    /// Sets how many calls in a window may be refused before any call is held back. The default
    /// is 2.
    ///
    /// With 0, a client with few calls may hold back the next one after a single refusal, even when
    /// the service is half idle.
    #[must_use]
    pub fn minimum_calls(mut self, calls: u32) -> Self {
        self.terms.minimum_calls = calls;
        self
    }

    /// Sets the largest share of calls that may be held back. From 0, which never holds anything
    /// back, to 0.999. The default is 0.8.
    ///
    /// The rest of the calls find out when the service has room again. With 1, none would, and the
    /// throttle would never recover.
    #[must_use]
    pub fn max_rejection(mut self, share: f64) -> Self {
        self.terms.max_rejection = share;
        self
    }

    /// Makes the throttle's choices repeatable, for tests. They are random by default.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Builds the throttle.
    ///
    /// # Errors
    /// [`InvalidConfig`] if a setting is out of its range.
    pub fn build(self) -> Result<Throttle, InvalidConfig> {
        let ThrottleTerms {
            window,
            multiplier,
            max_rejection,
            ..
        } = self.terms;
        let check = |valid, field, given: &dyn std::fmt::Debug, accepts| {
            InvalidConfig::check(valid, "throttle", field, given, accepts)
                .map_err(|invalid| invalid.named(self.name))
        };
        let windows = Duration::from_millis(10)..=Duration::from_secs(3600);
        check(windows.contains(&window), "window", &window, "10ms to 1h")?;
        let valid = (1.0..=1000.0).contains(&multiplier);
        check(valid, "multiplier", &multiplier, "from 1 to 1000")?;
        let valid = (0.0..=MOST).contains(&max_rejection);
        check(valid, "max_rejection", &max_rejection, "from 0 to 0.999")?;
        Ok(self.make())
    }

    pub(super) fn make(self) -> Throttle {
        Throttle(Arc::new(Core {
            name: self.name.as_str(),
            counts: ThrottleCounts::new(self.terms.window, stripes()),
            terms: self.terms,
            pressure: AtomicU64::new(0),
            cached: AtomicU64::new(NOTHING),
            dice: Dice::new(self.seed),
        }))
    }
}

/// Lets one call in a thousand through, so that the way back is found in a time that can be waited
/// for.
const MOST: f64 = 0.999;

#[cfg(test)]
mod tests {
    use super::*;

    fn probability(calls: u64, accepted: u64) -> f64 {
        let recent = Recent { calls, accepted };
        ThrottleBuilder::new(Name::from("t"))
            .terms
            .probability(recent)
    }

    #[test]
    fn nothing_is_held_back_below_the_minimum_and_never_more_than_the_cap() {
        for few in 0..=2 {
            assert_eq!(probability(few, 0), 0.0, "{few}");
        }
        assert_eq!(probability(3, 0), 0.25);
        assert_eq!(probability(u64::MAX, 0), 0.8);
        // Twice the accepted, and two.
        assert_eq!(probability(202, 100), 0.0);
        assert_eq!(probability(203, 100), 1.0 / 204.0);
    }
}
