//! The scenarios and what is measured in them. Capacity is workers by service time.

use super::sim::{Phase, Second, Service, Setup, Sim};
use buttress::load_shed::limit::Limit;
use std::collections::BTreeMap;

/// Figures by name, one for each seed.
#[derive(Debug, Default)]
pub(crate) struct Table(BTreeMap<String, Vec<f64>>);

const MEAN: f64 = 0.01;

impl Table {
    fn add(&mut self, name: impl Into<String>, figure: f64) {
        self.0.entry(name.into()).or_default().push(figure);
    }

    fn get(&self, name: &str) -> &[f64] {
        assert!(self.0.contains_key(name), "no {name}");
        &self.0[name]
    }

    pub(crate) fn mean(&self, name: &str) -> f64 {
        let all = self.get(name);
        all.iter().sum::<f64>() / all.len() as f64
    }

    pub(crate) fn min(&self, name: &str) -> f64 {
        self.get(name).iter().copied().fold(f64::INFINITY, f64::min)
    }

    pub(crate) fn max(&self, name: &str) -> f64 {
        self.get(name)
            .iter()
            .copied()
            .fold(f64::NEG_INFINITY, f64::max)
    }

    pub(crate) fn print(&self, title: &str) {
        println!("\n{title:32}      mean       min       max");
        for name in self.0.keys() {
            let (mean, min, max) = (self.mean(name), self.min(name), self.max(name));
            println!("{name:32} {mean:9.3} {min:9.3} {max:9.3}");
        }
    }
}

/// One limit in all scenarios.
pub(crate) struct Course<'a, L, F: Fn() -> L> {
    pub(crate) new: &'a F,
    pub(crate) seed: u64,
    pub(crate) by_arrivals: bool,
}

impl<L: Limit, F: Fn() -> L> Course<'_, L, F> {
    pub(crate) fn run(&self, service: Service, throttle: bool, phases: &[Phase]) -> Vec<Second> {
        let setup = Setup {
            seed: self.seed,
            service,
            throttle,
            by_arrivals: self.by_arrivals,
        };
        Sim::new((self.new)(), setup).run(phases)
    }

    /// Half, twice and ten times the capacity, and half of it again.
    pub(crate) fn steps(&self, name: &str, service: Service, workers: usize, table: &mut Table) {
        let step = match workers {
            1 => 40,
            200 => 14,
            _ => 25,
        };
        let load = |load| phase(step as f64, load, workers);
        let seen = self.run(
            service,
            true,
            &[load(0.5), load(2.0), load(10.0), load(0.5)],
        );
        let capacity = workers as f64 / MEAN;
        let (twice, tenfold) = (&seen[step..2 * step], &seen[2 * step..3 * step]);
        table.add(format!("{name} 2x goodput"), served(&twice[6..]) / capacity);
        table.add(format!("{name} 2x p99"), p99(&twice[6..]));
        table.add(format!("{name} 2x p99, first 6 s"), p99_of_all(&twice[..6]));
        table.add(format!("{name} 2x limit"), mean_limit(&twice[6..]));
        table.add(
            format!("{name} 10x goodput"),
            served(&tenfold[6..]) / capacity,
        );
        table.add(format!("{name} 10x p99"), p99(&tenfold[6..]));
        // From the start-up on, and from when the throttles have let go.
        table.add(format!("{name} sheds at 0.5x"), shed(&seen[3..step]));
        table.add(
            format!("{name} sheds at 0.5x again"),
            shed(&seen[3 * step + 3..]),
        );
    }

    /// Workers that come and go at twice the capacity.
    pub(crate) fn changes(&self, table: &mut Table) {
        let phases = [(10, 0.5), (10, 2.0), (5, 2.0), (20, 2.0), (10, 2.0)];
        let phases = phases.map(|(workers, load)| phase(25.0, load, workers));
        let seen = self.run(Service::Lognormal(1.0), true, &phases);
        for (i, phase) in phases.iter().enumerate().skip(1) {
            let goodput = served(&seen[25 * i + 10..25 * (i + 1)]);
            table.add("workers change", goodput * MEAN / phase.workers as f64);
        }
    }

    /// Everything takes five times as long for a while.
    pub(crate) fn slow(&self, table: &mut Table) {
        let slow = Phase {
            seconds: 40.0,
            mean: 5.0 * MEAN,
            ..phase(1.0, 0.7, 10)
        };
        let phases = [phase(20.0, 0.7, 10), slow, phase(20.0, 0.7, 10)];
        let seen = self.run(Service::Lognormal(1.0), true, &phases);
        table.add("slow goodput", served(&seen[30..60]) / 200.0);
        table.add("slow goodput, first 10 s", served(&seen[20..30]) / 200.0);
        table.add("slow p99", p99(&seen[30..60]));
        table.add("slow, after", served(&seen[65..]) / 700.0);
    }

    /// Ten minutes at twice the capacity.
    pub(crate) fn soak(&self, table: &mut Table) {
        let seen = self.run(Service::Lognormal(1.0), true, &[phase(620.0, 2.0, 10)]);
        let (first, last) = (&seen[20..140], &seen[500..]);
        table.add("soak goodput", served(&seen[20..]) / 1000.0);
        table.add("soak p99 drift", p99(last) / p99(first) - 1.0);
        let minute = |of: &[Second]| mean_limit(of);
        table.add(
            "soak limit drift",
            minute(&seen[560..]) / minute(&seen[20..80]) - 1.0,
        );
    }

    /// No retries are budgeted away by a throttle here: only the server's half.
    pub(crate) fn without_throttle(&self, table: &mut Table) {
        let seen = self.run(Service::Lognormal(1.0), false, &[phase(25.0, 10.0, 10)]);
        table.add("no throttle 10x goodput", served(&seen[6..]) / 1000.0);
    }
}

pub(crate) fn phase(seconds: f64, load: f64, workers: usize) -> Phase {
    Phase {
        seconds,
        rate: load * workers as f64 / MEAN,
        workers,
        mean: MEAN,
    }
}

pub(crate) fn served(seconds: &[Second]) -> f64 {
    mean(seconds, |s| f64::from(s.served))
}

pub(crate) fn mean_limit(seconds: &[Second]) -> f64 {
    mean(seconds, |s| s.limit)
}

fn mean(seconds: &[Second], of: impl Fn(&Second) -> f64) -> f64 {
    seconds.iter().map(of).sum::<f64>() / seconds.len() as f64
}

fn shed(seconds: &[Second]) -> f64 {
    seconds.iter().map(|s| f64::from(s.shed)).sum()
}

/// The median of the seconds' p99, in milliseconds.
pub(crate) fn p99(seconds: &[Second]) -> f64 {
    let each = seconds.iter().map(|s| p99_of_all(std::slice::from_ref(s)));
    quantile(each.collect(), 0.5)
}

/// The p99 over all these seconds.
fn p99_of_all(seconds: &[Second]) -> f64 {
    let all = seconds.iter().flat_map(|s| &s.latencies);
    1e3 * quantile(all.copied().collect(), 0.99)
}

fn quantile(mut all: Vec<f64>, q: f64) -> f64 {
    all.sort_by(f64::total_cmp);
    let i = (q * all.len() as f64) as usize;
    all.get(i.min(all.len().saturating_sub(1)))
        .copied()
        .unwrap_or(f64::NAN)
}
