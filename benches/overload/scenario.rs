//! What is done to the system, and when.

use crate::{backend::Times, net::Weather};

pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) workers: usize,
    pub(crate) times: Times,
    /// Whether requests have classes that are told apart.
    pub(crate) classes: bool,
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
    let of = |full, quick, smoke| match length {
        Length::Full => full,
        Length::Quick => quick,
        Length::Smoke => smoke,
    };
    let scenario = |name, phases| Scenario {
        name,
        workers: 10,
        times: Times::Lognormal(1.0),
        classes: false,
        phases,
    };
    let (calm, busy, back) = (of(20, 15, 8), of(35, 25, 10), of(25, 20, 12));
    let half = || phase("0.5x", calm, 0.5);
    let twice = || phase("2x", busy, 2.0);
    let tenfold = || phase("10x", busy, 10.0);
    let again = || phase("back", back, 0.5).after();
    let steps = |name, workers, times| Scenario {
        workers,
        times,
        ..scenario(name, vec![half(), twice(), tenfold(), again()])
    };
    let trouble = |name, begins, ends, capacity| {
        let before = phase("before", calm, 0.7);
        let during = phase("during", of(40, 30, 20), 0.7).happens(begins, capacity);
        let after = phase("after", back, 0.7).happens(ends, 1.0).after();
        scenario(name, vec![before, during, after])
    };
    let weather = |name, weather| {
        let (begins, ends) = (Happens::Weather(weather), Happens::Weather(Weather::Fair));
        trouble(name, begins, ends, 1.0)
    };
    // With twenty times as many requests a second, shorter phases tell as much: five seeds served
    // 0.990 at 2x in 20 s of it as they did in 35 s.
    let large = vec![
        phase("0.5x", of(10, 10, 8), 0.5),
        phase("2x", of(20, 20, 10), 2.0),
        phase("back", 12, 0.5).after(),
    ];
    let soak = of(300, 120, 40);
    let workers =
        |name, n, capacity| phase(name, of(35, 25, 12), 2.0).happens(Workers(n), capacity);
    vec![
        steps("S1", 10, Times::Lognormal(1.0)),
        weather("S2a", Weather::Errors),
        weather("S2b", Weather::Hole),
        trouble("S3", Slow(5.0), Slow(1.0), 0.2),
        scenario(
            "S4",
            vec![
                phase("first", soak / 5 + 10, 2.0),
                phase("middle", soak - 2 * (soak / 5), 2.0),
                Phase {
                    settling: 0,
                    ..phase("last", soak / 5, 2.0)
                },
            ],
        ),
        Scenario {
            classes: true,
            ..scenario("S6", vec![half(), twice(), tenfold()])
        },
        scenario(
            "S7",
            vec![
                workers("10", 10, 1.0),
                workers("5", 5, 0.5),
                workers("20", 20, 2.0),
                workers("10 again", 10, 1.0),
            ],
        ),
        steps("cv2", 10, Times::Lognormal(2.0)),
        steps("cv0.3", 10, Times::Lognormal(0.3)),
        steps("bimodal", 10, Times::Bimodal),
        steps("c1", 1, Times::Lognormal(1.0)),
        Scenario {
            workers: 200,
            // At ten times 20,000 a second, the benchmark would be overloaded itself.
            ..scenario("c200", large)
        },
    ]
}
