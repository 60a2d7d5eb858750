//! Redis and Postgres killed, hanging, slow, and back, under a load that does not wait.

use super::item;
use crate::{
    chart,
    figures::{Figures, ms, percent},
    load::{Ask, Open, Phase, Sample},
    proxy::Fault,
    stage::{Failed, Service, Stage, until},
    story::{Story, Table},
};
use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};
use tokio::{task::block_in_place, time::sleep};

/// Requests a second.
const RATE: f64 = 400.0;
/// Keys that were asked for before, and are again and again.
const CACHED: usize = 100;
/// Keys that nobody has asked for: the load's from the first on, those that look for a recovery
/// from the second.
const UNCACHED: usize = 1_000;
const PROBES: usize = 50_000;
/// The phase in which all is well: before, between and after the outages, all of it together. So what
/// the machine does beside is in what the outages are compared with, too.
const NORMAL: &str = "normal";
/// Fresh for so short a time that every outage outlasts it.
const SETTINGS: [(&str, &str); 1] = [("CACHE_TTL_SECONDS", "1")];

pub(crate) async fn run(stage: &mut Stage, story: &mut Story) -> Result<(), Failed> {
    let service = stage.data_service_behind_proxy(&SETTINGS)?;
    for id in 1..=CACHED {
        stage.client.get(&item(&service.url, id)).await;
    }
    let url = service.url.clone();
    let mut load = Open::start(&stage.client, RATE, NORMAL, move |n| match n % 8 {
        7 => Ask {
            series: "uncached",
            url: item(&url, UNCACHED + n / 8),
        },
        _ => Ask {
            series: "cached",
            url: item(&url, n % CACHED + 1),
        },
    });
    sleep(stage.phase).await;

    let mut recoveries = Vec::new();
    load.phase("Redis killed");
    block_in_place(|| stage.redis.kill())?;
    sleep(stage.phase).await;
    block_in_place(|| stage.redis.restart())?;
    load.phase("Redis back");
    recoveries.push(("Redis, killed", redis_is_used(stage).await));
    well(&mut load, stage).await;

    block_in_place(|| stage.redis.suspend())?;
    load.phase("Redis hangs");
    sleep(stage.phase).await;
    block_in_place(|| stage.redis.resume())?;
    load.phase("Redis answers");
    recoveries.push(("Redis, hanging", redis_is_used(stage).await));
    well(&mut load, stage).await;

    load.phase("Postgres killed");
    block_in_place(|| stage.postgres.kill())?;
    sleep(stage.phase).await;
    block_in_place(|| stage.postgres.restart())?;
    load.phase("Postgres back");
    recoveries.push(("Postgres, killed", postgres_is_used(stage, &service).await));
    recoveries.push((
        "cached items, Postgres killed",
        all_is_new(stage, &service).await,
    ));
    well(&mut load, stage).await;

    block_in_place(|| stage.postgres.suspend())?;
    load.phase("Postgres hangs");
    sleep(stage.outage()).await;
    block_in_place(|| stage.postgres.resume())?;
    load.phase("Postgres answers");
    recoveries.push(("Postgres, hanging", postgres_is_used(stage, &service).await));
    recoveries.push((
        "cached items, Postgres hanging",
        all_is_new(stage, &service).await,
    ));
    well(&mut load, stage).await;

    load.phase("Postgres 20 ms late");
    stage.proxy.set(Fault::Late(Duration::from_millis(20)));
    sleep(stage.phase).await;
    load.phase("connections reset");
    stage.proxy.set(Fault::Reset);
    sleep(stage.phase).await;
    stage.proxy.set(Fault::None);
    load.phase("no more resets");
    recoveries.push(("Postgres, resets", postgres_is_used(stage, &service).await));
    well(&mut load, stage).await;

    // Every connection waits for the lock.
    let lock = stage
        .sql("BEGIN; LOCK TABLE items IN ACCESS EXCLUSIVE MODE")
        .await?;
    load.phase("pool exhausted");
    sleep(stage.outage()).await;
    lock.batch_execute("COMMIT").await?;
    load.phase("pool free");
    recoveries.push(("Postgres, pool", postgres_is_used(stage, &service).await));
    well(&mut load, stage).await;
    let phases = load.stop().await;

    story.tables.push(table(&phases));
    let title = "Slowest answer while servers die, hang and come back";
    let chart = chart::latency(title, &phases, &["cached", "uncached"])?;
    story.charts.push(chart);
    promises(story, &phases);
    for (name, took) in recoveries {
        story.promise(
            format!("{name}: as before within 2 s of the return"),
            ms(took),
            took <= Duration::from_secs(2),
        );
    }
    Ok(())
}

async fn well(load: &mut Open, stage: &Stage) {
    load.phase(NORMAL);
    sleep(stage.phase / 2).await;
}

/// How long until the service stores answers in Redis again.
async fn redis_is_used(stage: &Stage) -> Duration {
    let before = block_in_place(|| stage.keys_in_redis()).unwrap_or(0);
    until(async || {
        let keys = block_in_place(|| stage.keys_in_redis());
        keys.is_some_and(|keys| keys > before)
    })
    .await
}

/// How long until an item is answered with that only Postgres knows.
async fn postgres_is_used(stage: &Stage, service: &Service) -> Duration {
    static NEXT: AtomicUsize = AtomicUsize::new(PROBES);
    until(async || {
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let answer = stage.client.get(&item(&service.url, id)).await;
        answer.is_some_and(|answer| answer.status == 200)
    })
    .await
}

/// How long until every cached item is as new as it was before: a second or so, and not as old as
/// the outage.
async fn all_is_new(stage: &Stage, service: &Service) -> Duration {
    until(async || {
        for id in 1..=CACHED {
            let answer = stage.client.get(&item(&service.url, id)).await;
            if answer.is_none_or(|answer| answer.age.is_none_or(|age| age > 1)) {
                return false;
            }
        }
        true
    })
    .await
}

fn table(phases: &[Phase]) -> Table {
    let mut table = Table::new(
        format!(
            "{RATE} requests a second, seven of eight for {CACHED} cached items, timed from when they were due"
        ),
        &[
            "phase", "cached", "stale", "p50", "p99", "worst", "uncached", "p50", "p99", "worst",
        ],
    );
    let mut names: Vec<&str> = Vec::new();
    for phase in phases {
        if !names.contains(&phase.name.as_str()) {
            names.push(&phase.name);
        }
    }
    for name in names {
        let cached = Figures::of(samples(phases, name).filter(|s| s.series == "cached"));
        let uncached = Figures::of(samples(phases, name).filter(|s| s.series == "uncached"));
        let stale = 100.0 * cached.stale as f64 / cached.count.max(1) as f64;
        table.row([
            name.to_owned(),
            percent(cached.availability()),
            percent(stale),
            ms(cached.p50()),
            ms(cached.p99()),
            ms(cached.worst()),
            percent(uncached.availability()),
            ms(uncached.p50()),
            ms(uncached.p99()),
            ms(uncached.worst()),
        ]);
    }
    table
}

/// Those of all phases of this name.
fn samples<'a>(phases: &'a [Phase], name: &'a str) -> impl Iterator<Item = &'a Sample> {
    let phases = phases.iter().filter(move |phase| phase.name == name);
    phases.flat_map(|phase| &phase.samples)
}

fn promises(story: &mut Story, phases: &[Phase]) {
    let of = |name: &str, series: &str| {
        Figures::of(samples(phases, name).filter(|sample| sample.series == series))
    };
    let normal = of(NORMAL, "cached");
    for name in ["Postgres killed", "Postgres hangs"] {
        let figures = of(name, "cached");
        let kept = figures.ok == figures.count && figures.p99() <= 2 * normal.p99();
        story.promise(
            format!("{name}: every read of a cached key is answered, p99 within 2x of normal"),
            format!(
                "{} of {}, p99 {} (normal {})",
                figures.ok,
                figures.count,
                ms(figures.p99()),
                ms(normal.p99())
            ),
            kept,
        );
    }
    let killed = of("Postgres killed", "uncached");
    story.promise(
        "Postgres killed: who asks for an uncached key is told so in milliseconds",
        format!("p50 {}, p99 {}", ms(killed.p50()), ms(killed.p99())),
        killed.p99() < Duration::from_millis(50),
    );
    let killed = ["cached", "uncached"].map(|series| of("Redis killed", series));
    story.promise(
        "Redis killed: Postgres answers",
        format!(
            "{} of cached, {} of uncached keys",
            percent(killed[0].availability()),
            percent(killed[1].availability())
        ),
        killed.iter().all(|figures| figures.ok == figures.count),
    );
    hanging(story, phases);
}

/// While Redis hangs: what it costs before its breaker has opened, and after.
fn hanging(story: &mut Story, phases: &[Phase]) {
    /// The service's default.
    const TIMEOUT: Duration = Duration::from_millis(100);
    /// Timers have a tick of a millisecond, and fire after it.
    const TICKS: Duration = Duration::from_millis(2);
    let hangs = || samples(phases, "Redis hangs");
    let begun = hangs().map(|sample| sample.due).min();
    let early = |due| begun.is_some_and(|begun| due < begun + Duration::from_millis(500));
    let (first, later): (Vec<_>, Vec<_>) = hangs().partition(|sample| early(sample.due));
    let normal = Figures::of(samples(phases, NORMAL));
    // A processor that the load, the service and the servers share makes p99 differ by some
    // milliseconds between one normal stretch and the next: less than that cannot be told apart.
    let stretches = phases.iter().filter(|phase| phase.name == NORMAL);
    let slowest = stretches
        .map(|phase| Figures::of(phase.samples.iter()).p99())
        .max();
    let differs = slowest.unwrap_or_default().saturating_sub(normal.p99());
    for (when, figures, most) in [
        (
            "first 500 ms: adds at most its timeout to p99",
            Figures::of(first),
            TIMEOUT + TICKS,
        ),
        (
            "breaker open: adds at most 1 ms to p99, or what normal times differ by",
            Figures::of(later),
            differs.max(Duration::from_millis(1)),
        ),
    ] {
        let added = figures.p99().saturating_sub(normal.p99());
        let all = figures.ok == figures.count;
        story.promise(
            format!("Redis hangs, {when}"),
            format!(
                "{} of {} ({} to {}), {} answered",
                ms(added),
                ms(most),
                ms(normal.p99()),
                ms(figures.p99()),
                percent(figures.availability())
            ),
            added <= most && all,
        );
    }
}
