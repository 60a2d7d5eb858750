//! What is done to the system, and when.

use crate::{backend::Times, net::Weather};

pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// What it is about, for the table.
    pub(crate) title: &'static str,
    pub(crate) workers: usize,
    pub(crate) times: Times,
    pub(crate) phases: Vec<Phase>,
}

pub(crate) struct Phase {
    pub(crate) name: &'static str,
    pub(crate) seconds: u32,
    /// Of these, how many are left out at the beginning of what is measured as steady.
    pub(crate) settling: u32,
    /// Requests offered, as a multiple of the backend's capacity in good health.
    pub(crate) load: f64,
    /// What the backend can do in this phase, as a multiple of the same.
    pub(crate) capacity: f64,
    pub(crate) happens: Happens,
    /// Whether it is after the trouble, so that the time until all is well counts.
    pub(crate) recovery: bool,
}

/// At the beginning of a phase.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Happens {
    Nothing,
    Weather(Weather),
    /// Everything takes so many times longer.
    Slow(f64),
    Workers(usize),
}
use Happens::{Nothing, Slow, Workers};

/// How long the phases are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Length {
    Full,
    Quick,
    Smoke,
}

impl Length {
    fn of(self, full: u32, quick: u32, smoke: u32) -> u32 {
        match self {
            Self::Full => full,
            Self::Quick => quick,
            Self::Smoke => smoke,
        }
    }
}

fn phase(name: &'static str, seconds: u32, load: f64) -> Phase {
    Phase {
        name,
        seconds,
        settling: 10.min(seconds / 2),
        load,
        capacity: 1.0,
        happens: Nothing,
        recovery: false,
    }
}

impl Phase {
    fn happens(self, happens: Happens, capacity: f64) -> Self {
        Self {
            happens,
            capacity,
            ..self
        }
    }

    fn after(self) -> Self {
        Self {
            recovery: true,
            ..self
        }
    }
}

pub(crate) fn scenarios(length: Length) -> Vec<Scenario> {
    let scenario = |name, title, phases| Scenario {
        name,
        title,
        workers: 10,
        times: Times::Lognormal(1.0),
        phases,
    };
    let steps = |name, title, workers, times| Scenario {
        name,
        title,
        workers,
        times,
        phases: vec![
            phase("0.5x", length.of(20, 15, 5), 0.5),
            phase("2x", length.of(40, 25, 8), 2.0),
            phase("10x", length.of(40, 25, 8), 10.0),
            phase("back", length.of(30, 25, 10), 0.5).after(),
        ],
    };
    let outage = |name, title, happens, capacity| {
        scenario(
            name,
            title,
            vec![
                phase("before", length.of(15, 12, 5), 0.7),
                phase("during", length.of(30, 30, 10), 0.7).happens(happens, capacity),
                phase("after", length.of(40, 25, 10), 0.7)
                    .happens(
                        match happens {
                            Slow(_) => Slow(1.0),
                            _ => Happens::Weather(Weather::Fair),
                        },
                        1.0,
                    )
                    .after(),
            ],
        )
    };
    let soak = length.of(300, 90, 20);
    vec![
        steps("S1", "steps", 10, Times::Lognormal(1.0)),
        outage("S2a", "errors", Happens::Weather(Weather::Errors), 1.0),
        outage("S2b", "black hole", Happens::Weather(Weather::Hole), 1.0),
        outage("S3", "five times slower", Slow(5.0), 0.2),
        scenario(
            "S4",
            "soak",
            vec![
                phase("first", soak / 5, 2.0),
                phase("middle", soak - 2 * (soak / 5), 2.0),
                phase("last", soak / 5, 2.0),
            ],
        ),
        scenario(
            "S6",
            "criticality",
            vec![
                phase("2x", length.of(40, 25, 8), 2.0),
                phase("10x", length.of(40, 25, 8), 10.0),
            ],
        ),
        scenario(
            "S7",
            "workers",
            vec![
                phase("10", length.of(30, 25, 8), 2.0),
                phase("5", length.of(30, 25, 8), 2.0).happens(Workers(5), 0.5),
                phase("20", length.of(30, 25, 8), 2.0).happens(Workers(20), 2.0),
                phase("10 again", length.of(30, 25, 8), 2.0).happens(Workers(10), 1.0),
            ],
        ),
        steps("cv2", "service times of CV 2", 10, Times::Lognormal(2.0)),
        steps(
            "cv0.3",
            "service times of CV 0.3",
            10,
            Times::Lognormal(0.3),
        ),
        steps("bimodal", "bimodal service times", 10, Times::Bimodal),
        steps("c1", "one worker", 1, Times::Lognormal(1.0)),
        steps("c200", "200 workers", 200, Times::Lognormal(1.0)),
    ]
}
