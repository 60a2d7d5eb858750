//! What a limit is put in front of, and what came of it.

/// How long calls take that do not wait.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Times {
    Constant,
    /// Evenly between 20 % less and 20 % more.
    Even,
    Exponential,
    /// Lognormal with a sigma of 2: the longest of a hundred takes a hundred times the median.
    Lognormal,
    /// One in twenty takes a hundred times as long as the others.
    Bimodal,
}

/// What befalls the service, and when: in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Happens {
    Nothing,
    /// It stands still for so long.
    Pause(f64, f64),
    /// It takes so many times as long for so long.
    Slow(f64, f64, f64),
    /// It has so many times as many workers, for so long.
    Workers(f64, f64, f64),
    /// It has no queue: calls that find no worker fail within a millisecond.
    NoQueue,
    /// One call in seven is never answered.
    Hangs,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Cell {
    pub(crate) workers: usize,
    pub(crate) times: Times,
    /// Seconds.
    pub(crate) mean: f64,
    /// Calls offered, as a multiple of what the service can do.
    pub(crate) load: f64,
    pub(crate) queued: bool,
    /// After how many seconds a caller leaves.
    pub(crate) patience: f64,
    pub(crate) streams: usize,
    pub(crate) happens: Happens,
    pub(crate) seconds: f64,
    pub(crate) seed: u64,
}

/// What became of the calls that came after the first seconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outcomes {
    pub(crate) offered: u64,
    pub(crate) served: u64,
    pub(crate) shed: u64,
    /// Of what was served, once the limit has settled, in seconds.
    pub(crate) p99: f64,
    /// The highest limit, and the last one.
    pub(crate) highest: usize,
    pub(crate) limit: usize,
    /// Served in the ten seconds that begin two seconds after what happens is over.
    pub(crate) back: u64,
    pub(crate) long_lived: usize,
}

impl Happens {
    /// Returns when it is over.
    pub(crate) fn over(self) -> Option<f64> {
        match self {
            Self::Pause(from, lasts)
            | Self::Slow(from, lasts, _)
            | Self::Workers(from, lasts, _) => Some(from + lasts),
            Self::Nothing | Self::NoQueue | Self::Hangs => None,
        }
    }
}
