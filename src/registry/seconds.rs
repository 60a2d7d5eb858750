//! Durations as plain seconds: a number that a person and a dashboard can read.

use serde::Serializer;
use std::time::Duration;

/// Something that may be a duration.
pub(crate) trait Seconds {
    fn seconds(&self) -> Option<f64>;
}

impl Seconds for Duration {
    fn seconds(&self) -> Option<f64> {
        Some(self.as_secs_f64())
    }
}

impl Seconds for Option<Duration> {
    fn seconds(&self) -> Option<f64> {
        self.map(|time| time.as_secs_f64())
    }
}

/// Serialises a duration as seconds, for `#[serde(serialize_with = ...)]`.
pub(crate) fn seconds<S: Serializer>(
    time: &impl Seconds,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match time.seconds() {
        Some(seconds) => serializer.serialize_f64(seconds),
        None => serializer.serialize_none(),
    }
}
