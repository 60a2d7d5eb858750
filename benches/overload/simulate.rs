//! One run: one scenario, one stack, one seed.

use crate::{
    backend::{Backend, WORK},
    clock, dice,
    net::{Remote, Request, Weather, set_weather},
    record::{self, PATIENCE, Second},
    scenario::{Happens, Phase, Scenario},
    stacks::Stack,
};
use tower::ServiceExt;

/// One in so many requests is critical.
const CRITICAL: usize = 10;

pub(crate) fn simulate(scenario: &'static Scenario, stack: Stack, seed: u64) -> Vec<Second> {
    dice::seed(seed);
    set_weather(Weather::Fair);
    record::take();
    let seconds: u32 = scenario.phases.iter().map(|phase| phase.seconds).sum();
    let length = clock::steps(f64::from(seconds) + PATIENCE);
    clock::run(length, || {
        let backend = Backend::new(scenario.workers, scenario.times);
        let system = stack.build(&backend, scenario.workers, scenario.classes, seed);
        let capacity = scenario.workers as f64 / WORK;
        tokio::spawn(play(scenario, backend, system.clients, capacity));
        tokio::spawn(async move {
            loop {
                record::limit((system.limit)());
                clock::delay(clock::SECOND).await;
            }
        });
    });
    record::take()
}

async fn play(scenario: &Scenario, backend: Backend, clients: Vec<Remote>, capacity: f64) {
    let mut begun = 0.0;
    for phase in &scenario.phases {
        match phase.happens {
            Happens::Nothing => {}
            Happens::Weather(weather) => set_weather(weather),
            Happens::Slow(times) => backend.slow_down(times),
            Happens::Workers(workers) => backend.set_workers(workers),
        }
        begun = arrive(phase, begun, &clients, capacity).await;
    }
}

/// Users come whenever they like, whatever became of those before them.
async fn arrive(phase: &Phase, begun: f64, clients: &[Remote], capacity: f64) -> f64 {
    let mean = 1.0 / (phase.load * capacity);
    let end = begun + f64::from(phase.seconds);
    let mut next = begun + dice::exponential(mean);
    while next < end {
        clock::delay_until(clock::steps(next)).await;
        let critical = dice::below(CRITICAL) == 0;
        let client = clients[dice::below(clients.len())].clone();
        tokio::spawn(user(client, critical));
        next += dice::exponential(mean);
    }
    clock::delay_until(clock::steps(end)).await;
    end
}

async fn user(client: Remote, critical: bool) {
    record::offered(critical);
    let at = clock::now();
    let deadline = None;
    let request = Request { critical, deadline };
    if client.oneshot(request).await.is_ok() {
        record::served(at, critical);
    }
}
