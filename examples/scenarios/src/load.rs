//! Load over TCP, and what became of it.

use crate::client::{Answer, Client};
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    sync::oneshot,
    task::JoinHandle,
    time::{sleep_until, timeout},
};

/// When nobody waits any longer. What takes longer counts as not answered.
const PATIENCE: Duration = Duration::from_secs(10);

/// What to ask for, and in which series to count it.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) series: &'static str,
    pub(crate) url: String,
}

/// What became of one request.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) series: &'static str,
    /// When it was to be sent, which may be earlier than when it was.
    pub(crate) due: Instant,
    /// From then until its answer was read.
    pub(crate) took: Duration,
    /// None: no answer.
    pub(crate) answer: Option<Answer>,
}

impl Sample {
    pub(crate) fn status(&self) -> u16 {
        self.answer.as_ref().map_or(0, |answer| answer.status)
    }

    pub(crate) fn is_ok(&self) -> bool {
        matches!(self.status(), 200..=299 | 404)
    }

    pub(crate) fn is_stale(&self) -> bool {
        self.answer.as_ref().is_some_and(|answer| answer.stale)
    }
}

/// Sends one, due at this time.
pub(crate) async fn send(client: &Client, ask: Ask, due: Instant) -> Sample {
    let answer = timeout(PATIENCE, client.get(&ask.url)).await;
    Sample {
        series: ask.series,
        due,
        took: due.elapsed(),
        answer: answer.ok().flatten(),
    }
}

/// Closed loop: so many connections, each of which sends its next request when it has the answer
/// to the last, as hey and ab do. A stall makes it send less, and is counted once per connection.
pub(crate) async fn closed(
    client: &Client,
    connections: usize,
    requests: usize,
    ask: impl Fn(usize) -> Ask + Send + Sync + 'static,
) -> Vec<Sample> {
    let (ask, next) = (Arc::new(ask), Arc::new(AtomicUsize::new(0)));
    let workers = (0..connections).map(|_| {
        let (client, ask, next) = (client.clone(), Arc::clone(&ask), Arc::clone(&next));
        tokio::spawn(async move {
            let mut samples = Vec::new();
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= requests {
                    return samples;
                }
                samples.push(send(&client, ask(n), Instant::now()).await);
            }
        })
    });
    gather(workers.collect()).await
}

/// All at once.
pub(crate) async fn burst(client: &Client, asks: Vec<Ask>) -> Vec<Sample> {
    let due = Instant::now();
    let sent = asks.into_iter().map(|ask| {
        let client = client.clone();
        tokio::spawn(async move { vec![send(&client, ask, due).await] })
    });
    gather(sent.collect()).await
}

async fn gather(workers: Vec<JoinHandle<Vec<Sample>>>) -> Vec<Sample> {
    let mut all = Vec::new();
    for worker in workers {
        all.extend(worker.await.unwrap_or_default());
    }
    all
}

/// Open loop: requests are due at a fixed rate, whatever became of those before, and are timed from
/// when they were due. A stall cannot hide.
pub(crate) struct Open {
    samples: Arc<Mutex<Vec<Sample>>>,
    stop: oneshot::Sender<()>,
    running: JoinHandle<()>,
    phases: Vec<(String, Instant)>,
    begun: Instant,
}

/// What became of the requests that were due in some phase.
pub(crate) struct Phase {
    pub(crate) name: String,
    /// In seconds from the beginning of the load.
    pub(crate) from: f64,
    pub(crate) until: f64,
    pub(crate) samples: Vec<Sample>,
}

impl Open {
    /// Starts it, at so many requests a second, in its first phase.
    pub(crate) fn start(
        client: &Client,
        rate: f64,
        phase: &str,
        mut ask: impl FnMut(usize) -> Ask + Send + 'static,
    ) -> Self {
        let begun = Instant::now();
        let samples = Arc::new(Mutex::new(Vec::new()));
        let (stop, mut stopped) = oneshot::channel();
        let (client, kept) = (client.clone(), Arc::clone(&samples));
        let running = tokio::spawn(async move {
            let mut sent = Vec::new();
            for n in 0.. {
                let due = begun + Duration::from_secs_f64(n as f64 / rate);
                tokio::select! {
                    () = sleep_until(due.into()) => {}
                    _ = &mut stopped => break,
                }
                let (client, kept, ask) = (client.clone(), Arc::clone(&kept), ask(n));
                sent.push(tokio::spawn(async move {
                    let sample = send(&client, ask, due).await;
                    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                    kept.push(sample);
                }));
            }
            for sent in sent {
                let _ = sent.await;
            }
        });
        Self {
            samples,
            stop,
            running,
            phases: vec![(phase.to_owned(), begun)],
            begun,
        }
    }

    /// From now on it is another phase.
    pub(crate) fn phase(&mut self, name: &str) {
        self.phases.push((name.to_owned(), Instant::now()));
    }

    /// Ends it, when the last answer is there.
    pub(crate) async fn stop(self) -> Vec<Phase> {
        let end = Instant::now();
        let _ = self.stop.send(());
        let _ = self.running.await;
        let samples = self.samples.lock();
        let samples = samples.unwrap_or_else(PoisonError::into_inner);
        let ends = self.phases.iter().skip(1).map(|(_, begun)| *begun);
        let phases = self.phases.iter().zip(ends.chain([end]));
        let phases = phases.map(|((name, from), until)| Phase {
            name: name.clone(),
            from: from.duration_since(self.begun).as_secs_f64(),
            until: until.duration_since(self.begun).as_secs_f64(),
            samples: samples
                .iter()
                .filter(|sample| (*from..until).contains(&sample.due))
                .cloned()
                .collect(),
        });
        phases.collect()
    }
}
