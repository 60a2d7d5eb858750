//! Numbers out of samples.

use crate::load::Sample;
use std::time::{Duration, Instant};

/// What some samples amount to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) count: usize,
    pub(crate) ok: usize,
    pub(crate) stale: usize,
    /// From the first that was due to the last answer.
    pub(crate) lasted: Duration,
    pub(crate) mean: Duration,
    /// In order.
    times: Vec<Duration>,
}

impl Figures {
    pub(crate) fn of<'a>(samples: impl IntoIterator<Item = &'a Sample>) -> Self {
        let samples: Vec<_> = samples.into_iter().collect();
        let mut times: Vec<_> = samples.iter().map(|sample| sample.took).collect();
        times.sort_unstable();
        let first = samples.iter().map(|sample| sample.due).min();
        let last: Option<Instant> = samples.iter().map(|sample| sample.due + sample.took).max();
        let total: Duration = times.iter().sum();
        Self {
            count: samples.len(),
            ok: samples.iter().filter(|sample| sample.is_ok()).count(),
            stale: samples.iter().filter(|sample| sample.is_stale()).count(),
            lasted: first.zip(last).map_or(Duration::ZERO, |(a, b)| b - a),
            mean: total / u32::try_from(times.len().max(1)).unwrap_or(u32::MAX),
            times,
        }
    }

    /// Answers a second.
    pub(crate) fn rate(&self) -> f64 {
        self.count as f64 / self.lasted.as_secs_f64().max(1e-9)
    }

    /// The smallest time within which this share was answered.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        let rank = (self.times.len() as f64 * share).ceil() as usize;
        let at = rank.clamp(1, self.times.len().max(1)) - 1;
        self.times.get(at).copied().unwrap_or_default()
    }

    pub(crate) fn p50(&self) -> Duration {
        self.quantile(0.5)
    }

    pub(crate) fn p99(&self) -> Duration {
        self.quantile(0.99)
    }

    pub(crate) fn worst(&self) -> Duration {
        self.times.last().copied().unwrap_or_default()
    }

    /// The share that was answered well, in percent.
    pub(crate) fn availability(&self) -> f64 {
        100.0 * self.ok as f64 / self.count.max(1) as f64
    }
}

pub(crate) fn ms(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1e3;
    match ms {
        ms if ms < 10.0 => format!("{ms:.2} ms"),
        ms if ms < 100.0 => format!("{ms:.1} ms"),
        ms => format!("{ms:.0} ms"),
    }
}

/// Cut, not rounded: 100 % is all.
pub(crate) fn percent(share: f64) -> String {
    if share == 100.0 {
        "100 %".to_owned()
    } else {
        format!("{:.1} %", (share * 10.0).floor() / 10.0)
    }
}
