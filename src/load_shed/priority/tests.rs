use super::*;
use crate::{clock::Time, rng::Dice};
use std::collections::{BTreeMap, VecDeque};

#[test]
fn equal_users_are_the_same_user() {
    let priority = |user: &str| Priority::new(Criticality::Critical).of_user(user);
    assert_eq!(priority("a"), priority("a"));
    assert_ne!(priority("a"), priority("b"));
    assert_ne!(priority("a"), Criticality::Critical.into());
}

/// A service of ten workers at a hundred calls a second each, a permit for each, and a
/// queue of classes in front of them that holds thirty.
struct Service {
    threshold: Threshold,
    dice: Dice,
    now: f64,
    /// When the calls that hold a permit end.
    ends: Vec<f64>,
    queue: [VecDeque<usize>; 4],
    /// Offered and served, by source.
    seen: BTreeMap<usize, (u32, u32)>,
}

struct Source {
    rate: f64,
    priority: Priority,
}

const PERMITS: usize = 10;

impl Service {
    fn new(seed: u64) -> Self {
        Self {
            threshold: Threshold::new(),
            dice: Dice::new(Some(seed)),
            now: 100.0,
            ends: Vec::new(),
            queue: Default::default(),
            seen: BTreeMap::new(),
        }
    }

    fn exp(&self, mean: f64) -> f64 {
        -mean * (1.0 - self.dice.unit()).ln()
    }

    fn time(&self) -> Time {
        Time((self.now * 1e9) as u64)
    }

    /// The shares of each source that are served, from two seconds on.
    fn run(&mut self, seconds: f64, sources: &[Source]) -> Vec<f64> {
        self.seen.clear();
        let (from, until) = (self.now + 2.0, self.now + seconds);
        let total: f64 = sources.iter().map(|s| s.rate).sum();
        while self.now < until {
            let next = self.now + self.exp(1.0 / total);
            self.end_until(next, from);
            self.now = next;
            let mut at = self.dice.unit() * total;
            let source = sources.iter().position(|s| {
                at -= s.rate;
                at < 0.0
            });
            let source = source.unwrap_or(sources.len() - 1);
            if self.now >= from {
                self.seen.entry(source).or_default().0 += 1;
            }
            self.arrive(source, sources[source].priority, from);
        }
        let share = |(offered, served): (u32, u32)| f64::from(served) / f64::from(offered);
        self.seen.values().copied().map(share).collect()
    }

    fn arrive(&mut self, source: usize, priority: Priority, from: f64) {
        let room = self.ends.len() < PERMITS;
        if !room {
            self.threshold.press(self.time());
        }
        let pressed = self.threshold.is_pressed();
        let unit = self.dice.unit();
        let worth = !pressed || self.threshold.arrives(priority, unit, self.time());
        if room {
            self.start(source, from);
        } else if worth {
            let class = priority.class() as usize;
            self.queue[class].push_back(source);
            if self.queue.iter().map(VecDeque::len).sum::<usize>() > 30 {
                self.queue.iter_mut().rev().find_map(VecDeque::pop_back);
            }
        }
    }

    fn start(&mut self, source: usize, from: f64) {
        if self.threshold.is_pressed() {
            self.threshold.starts();
        }
        self.ends.push(self.now + self.exp(0.01));
        if self.now >= from {
            self.seen.entry(source).or_default().1 += 1;
        }
    }

    fn end_until(&mut self, until: f64, from: f64) {
        loop {
            let first = self.ends.iter().copied().enumerate();
            let first = first.min_by(|a, b| a.1.total_cmp(&b.1));
            let Some((i, end)) = first.filter(|(_, end)| *end <= until) else {
                return;
            };
            self.now = end;
            self.ends.swap_remove(i);
            if let Some(next) = self.queue.iter_mut().find_map(VecDeque::pop_front) {
                self.start(next, from);
            }
        }
    }
}

fn source(rate: f64, priority: impl Into<Priority>) -> Source {
    let priority = priority.into();
    Source { rate, priority }
}

fn users(class: Criticality, rates: impl IntoIterator<Item = f64>) -> Vec<Source> {
    let user = |(n, rate)| source(rate, Priority::new(class).of_user(n));
    rates.into_iter().enumerate().map(user).collect()
}

#[test]
fn the_share_that_is_refused_holds_and_does_not_ratchet() {
    let mut service = Service::new(1);
    let sources = [
        source(300.0, Criticality::Critical),
        source(1_200.0, Criticality::Sheddable),
    ];
    for turn in 0..5 {
        let served = service.run(20.0, &sources);
        let share = service.threshold.share();
        assert!((0.28..0.42).contains(&share), "turn {turn}: {share}");
        let all = (300.0 * served[0] + 1_200.0 * served[1]) / 1_000.0;
        assert!(all > 0.98 && served[0] > 0.999, "turn {turn}: {served:?}");
    }
}

#[test]
fn the_lowest_class_goes_first_and_then_the_next() {
    let classes = Criticality::ALL.map(|class| source(500.0, class));
    let served = Service::new(2).run(30.0, &classes);
    assert!(served[0] > 0.995 && served[1] > 0.9, "{served:?}");
    assert!(served[2] < 0.1 && served[3] < 0.1, "{served:?}");
}

#[test]
fn a_tenfold_overload_of_sheddable_requests_does_not_touch_the_critical_ones() {
    let sources = [
        source(200.0, Criticality::Critical),
        source(9_800.0, Criticality::Sheddable),
    ];
    let served = Service::new(3).run(12.0, &sources);
    assert!(served[0] > 0.999, "{served:?}");
    assert!(
        200.0 * served[0] + 9_800.0 * served[1] > 980.0,
        "{served:?}"
    );
}

#[test]
fn a_flood_sheds_itself_first() {
    // Forty users of ten a second each, and one of two thousand.
    let rates = std::iter::repeat_n(10.0, 40).chain([2_000.0]);
    let served = Service::new(4).run(30.0, &users(Criticality::Critical, rates));
    let worst = served[..40].iter().copied().fold(1.0, f64::min);
    let mean = served[..40].iter().sum::<f64>() / 40.0;
    assert!(mean > 0.95 && worst > 0.9, "{served:?}");
    // By lot, each would have got four calls in ten. What the others leave is the flood's.
    assert!((0.27..0.33).contains(&served[40]), "{}", served[40]);
}

#[test]
fn users_who_ask_for_the_same_get_the_same() {
    let served = Service::new(5).run(62.0, &users(Criticality::Critical, [50.0; 40]));
    let total: f64 = served.iter().sum();
    let squares: f64 = served.iter().map(|s| s * s).sum();
    let jain = total * total / (40.0 * squares);
    assert!(jain > 0.95 && total > 19.5, "{jain} {served:?}");
}

#[test]
fn with_capacity_to_spare_nobody_is_refused_before_and_after_a_flood() {
    let mut service = Service::new(6);
    let half = [
        source(250.0, Criticality::Critical),
        source(250.0, Criticality::Sheddable),
    ];
    let flood = [
        source(250.0, Criticality::Critical),
        source(2_750.0, Criticality::Sheddable),
    ];
    assert_eq!(service.run(30.0, &half), [1.0, 1.0]);
    service.run(10.0, &flood);
    assert!(service.threshold.share() > 0.5);
    let served = service.run(30.0, &half);
    assert!(served.iter().all(|s| *s > 0.999), "{served:?}");
}

#[test]
fn a_queue_that_comes_and_goes_is_not_too_much() {
    let mut service = Service::new(7);
    let sources = [
        source(425.0, Criticality::Critical),
        source(425.0, Criticality::Sheddable),
    ];
    let served = service.run(60.0, &sources);
    assert!(served.iter().all(|s| *s > 0.998), "{served:?}");
}

#[test]
fn without_pressure_nothing_is_counted() {
    let threshold = Threshold::new();
    assert!(!threshold.is_pressed());
    threshold.press(Time(5));
    assert!(threshold.is_pressed());
    // The pressure ends with the first arrival that comes a second later.
    assert!(threshold.arrives(Criticality::Sheddable.into(), 0.9, Time(2_000_000_000)));
    assert!(!threshold.is_pressed());
}

#[test]
fn a_clock_that_jumps_lets_everyone_in() {
    let threshold = Threshold::new();
    for now in [u64::MAX, 0, 1 << 62, 3, u64::MAX - 1] {
        threshold.press(Time(now));
        for n in 0..1_000 {
            threshold.arrives(Priority::default().of_user(n), f64::NAN, Time(now));
        }
        assert!((0.0..=1.0).contains(&threshold.share()));
    }
}
