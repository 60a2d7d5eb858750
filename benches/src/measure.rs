//! Batches of about a millisecond, interleaved with batches of clock reads, on one thread or two.

use crate::row::{Calls, Job, Row};
use std::{
    sync::{
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

/// How much is measured.
#[derive(Clone, Copy)]
pub struct Plan {
    pub rounds: usize,
    pub batch: Duration,
    /// A row that sleeps gets fewer rounds, not more time.
    pub row_time: Duration,
}

/// A row of the table, measured with a number of threads.
pub struct Measured {
    pub name: &'static str,
    pub threads: usize,
    /// Each thread's own time per call.
    pub ns: f64,
    /// The same, in clock reads of the same round.
    pub clocks: f64,
    pub allocs: f64,
    /// There were hardly any rounds that nobody disturbed, so this is the median of all.
    pub disturbed: bool,
    /// How many calls of a million had to sleep.
    pub slept: f64,
    pub wrong: u64,
}

/// Clean rounds that a median is good with, and so few that there is none.
const ENOUGH: usize = 30;
const FEW: usize = 5;

/// The calls of one thread between two moments.
#[derive(Clone, Copy)]
struct Batch {
    start: Instant,
    end: Instant,
    calls: Calls,
}

impl Batch {
    fn ns(&self) -> f64 {
        (self.end - self.start).as_nanos() as f64 / f64::from(self.calls.made.max(1))
    }
}

/// What the second thread is asked for.
#[derive(Clone, Copy)]
enum Ask {
    Batch {
        row: usize,
        chunk: u32,
        time: Duration,
    },
    Allocations {
        row: usize,
        calls: u32,
    },
}

/// What it answers.
enum Told {
    Batch(Batch),
    Allocations(u64),
}

/// Measures all rows with one thread or two. The first row is the clock.
pub fn measure(rows: &[Row], threads: usize, plan: Plan) -> Vec<Measured> {
    let start = &Start(AtomicUsize::new(0));
    let runtime = tokio::runtime::Handle::current();
    thread::scope(|scope| {
        let (ask, asked) = channel();
        let (tell, told) = channel();
        let helper = (threads == 2).then(|| {
            scope.spawn(move || {
                let _entered = runtime.enter();
                help(rows, start, &asked, &tell);
            });
            (ask, told)
        });
        let mut bench = Bench {
            jobs: rows.iter().map(Row::job).collect(),
            start,
            helper,
        };
        bench.run(rows, threads, plan)
    })
}

fn help(rows: &[Row], start: &Start, asked: &Receiver<Ask>, tell: &Sender<Told>) {
    let mut jobs: Vec<Job> = rows.iter().map(Row::job).collect();
    while let Ok(ask) = asked.recv() {
        let told = match ask {
            Ask::Batch { row, chunk, time } => {
                Told::Batch(batch(&mut jobs[row], chunk, time, || start.wait()))
            }
            Ask::Allocations { row, calls } => {
                Told::Allocations(allocations(&mut jobs[row], calls))
            }
        };
        if tell.send(told).is_err() {
            return;
        }
    }
}

struct Bench<'a> {
    jobs: Vec<Job>,
    start: &'a Start,
    helper: Option<(Sender<Ask>, Receiver<Told>)>,
}

impl Bench<'_> {
    fn run(&mut self, rows: &[Row], threads: usize, plan: Plan) -> Vec<Measured> {
        let chunks: Vec<u32> = self.jobs.iter_mut().map(chunk).collect();
        let mut series: Vec<Series> = rows.iter().map(|_| Series::default()).collect();
        for round in 0.. {
            let mut measured = 0;
            for (row, series) in series.iter_mut().enumerate() {
                // On a busy machine it takes more rounds until enough of them are clean.
                let wanted = round < plan.rounds || series.clean.len() < ENOUGH;
                if wanted && series.time < plan.row_time {
                    measured += 1;
                    let began = Instant::now();
                    let clock = self.batches(0, chunks[0], plan.batch / 3);
                    let own = self.batches(row, chunks[row], plan.batch);
                    series.time += began.elapsed();
                    series.add(&clock, &own, plan.batch);
                }
            }
            if measured == 0 {
                break;
            }
        }
        let all = rows.iter().zip(series).zip(chunks).enumerate();
        all.map(|(row, ((Row { name, .. }, series), chunk))| {
            let allocs = self.allocations(row, chunk.min(1000));
            series.sum_up(name, threads, allocs)
        })
        .collect()
    }

    /// One batch on each thread, at the same time.
    fn batches(&mut self, row: usize, chunk: u32, time: Duration) -> Vec<Batch> {
        let job = &mut self.jobs[row];
        let Some((ask, told)) = &self.helper else {
            return vec![batch(job, chunk, time, || ())];
        };
        let _ = ask.send(Ask::Batch { row, chunk, time });
        let own = batch(job, chunk, time, || self.start.wait());
        match told.recv() {
            Ok(Told::Batch(other)) => vec![own, other],
            _ => vec![own],
        }
    }

    /// Allocations per call, on the thread where there are the most.
    fn allocations(&mut self, row: usize, calls: u32) -> f64 {
        let mut counted = allocations(&mut self.jobs[row], calls);
        if let Some((ask, told)) = &self.helper {
            let _ = ask.send(Ask::Allocations { row, calls });
            if let Ok(Told::Allocations(others)) = told.recv() {
                counted = counted.max(others);
            }
        }
        counted as f64 / f64::from(calls)
    }
}

/// How many calls take about 20 us: few enough to look at the clock after them.
fn chunk(job: &mut Job) -> u32 {
    let mut calls = 16;
    loop {
        let start = Instant::now();
        let made = job(calls);
        if start.elapsed() > Duration::from_micros(20) || made.made < calls {
            return made.made.clamp(16, 1024);
        }
        calls *= 2;
    }
}

fn batch(job: &mut Job, chunk: u32, time: Duration, wait: impl FnOnce()) -> Batch {
    // What the row before has driven out of the caches comes back first.
    let mut calls = Calls {
        wrong: job(chunk).wrong,
        ..Calls::default()
    };
    wait();
    let start = Instant::now();
    loop {
        let more = job(chunk);
        calls.made += more.made;
        calls.wrong += more.wrong;
        calls.slept += more.slept;
        let end = Instant::now();
        if end - start >= time {
            return Batch { start, end, calls };
        }
    }
}

fn allocations(job: &mut Job, calls: u32) -> u64 {
    // The first ones may be for what stays.
    job(calls);
    let counted = allocation_counter::measure(|| {
        job(calls);
    });
    counted.count_total
}

/// Where both threads meet before a batch.
struct Start(AtomicUsize);

impl Start {
    fn wait(&self) {
        let round = self.0.fetch_add(1, SeqCst) / 2;
        let mut spins = 0_u32;
        while self.0.load(SeqCst) / 2 <= round {
            spins += 1;
            // The other one may need this core.
            if spins.is_multiple_of(1 << 12) {
                thread::yield_now();
            }
            std::hint::spin_loop();
        }
    }
}

#[derive(Default)]
struct Series {
    /// (ns per call, in clock reads) of the rounds that nobody disturbed.
    clean: Vec<(f64, f64)>,
    /// The same of all others.
    disturbed: Vec<(f64, f64)>,
    calls: u64,
    slept: u64,
    wrong: u64,
    time: Duration,
}

impl Series {
    fn add(&mut self, clock: &[Batch], own: &[Batch], time: Duration) {
        let mean =
            |batches: &[Batch]| batches.iter().map(Batch::ns).sum::<f64>() / batches.len() as f64;
        let ns = mean(own);
        let taken = (ns, ns / mean(clock));
        match undisturbed(own, time) && undisturbed(clock, time / 3) {
            true => self.clean.push(taken),
            false => self.disturbed.push(taken),
        }
        for Batch { calls, .. } in own {
            self.calls += u64::from(calls.made);
            self.slept += u64::from(calls.slept);
            self.wrong += u64::from(calls.wrong);
        }
    }

    fn sum_up(mut self, name: &'static str, threads: usize, allocs: f64) -> Measured {
        let clean = self.clean.len();
        // A row that sleeps has no clean round.
        if clean < FEW {
            self.clean.append(&mut self.disturbed);
        }
        let (ns, clocks): (Vec<_>, Vec<_>) = self.clean.into_iter().unzip();
        Measured {
            name,
            threads,
            ns: median(ns),
            clocks: median(clocks),
            allocs,
            disturbed: clean < FEW,
            slept: self.slept as f64 * 1e6 / self.calls.max(1) as f64,
            wrong: self.wrong,
        }
    }
}

/// Whether no thread was taken off its core, and all of them ran together for 90 % of the time.
fn undisturbed(batches: &[Batch], time: Duration) -> bool {
    let start = batches.iter().map(|b| b.start).max();
    let end = batches.iter().map(|b| b.end).min();
    let (Some(start), Some(end)) = (start, end) else {
        return false;
    };
    let together = end.saturating_duration_since(start);
    batches.iter().all(|b| {
        let took = b.end - b.start;
        took < time + Duration::from_micros(60) && together >= took.mul_f64(0.9)
    })
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(f64::NAN)
}
