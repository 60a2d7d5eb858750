//! Ten thousand misses of one key at once.

use super::item;
use crate::{
    figures::{Figures, ms, percent},
    load::{Ask, burst},
    stage::{Failed, Service, Stage},
    story::{Story, Table},
};
use std::time::Duration;
use tokio::time::sleep;

const MISSES: usize = 10_000;

pub(crate) async fn run(stage: &mut Stage, story: &mut Story) -> Result<(), Failed> {
    // All of them are to be let in, and to wait for as long as it takes: also for Redis, which
    // shares its processors with ten thousand connections here. (With a Redis that is slower than
    // its timeout an instance goes on without, and it is one query for each of them.)
    let settings = [
        ("REDIS_TIMEOUT_SECONDS", "5"),
        ("MAX_CONCURRENT", "20000"),
        ("POSTGRES_TIMEOUT_SECONDS", "10"),
    ];
    let services: Vec<Service> = (0..4)
        .map(|_| stage.data_service(&settings))
        .collect::<Result<_, _>>()?;
    let mut table = Table::new(
        format!("{MISSES} requests at once for one key that is in no cache"),
        &["", "answered", "queries in Postgres", "worst"],
    );
    for (n, (name, instances)) in [("one instance", 1), ("four instances", 4)]
        .into_iter()
        .enumerate()
    {
        let id = 70_000 + n;
        let urls = services.iter().take(instances);
        let urls: Vec<_> = urls.map(|service| item(&service.url, id)).collect();
        // Postgres counts for itself: it writes down every statement.
        stage.sql("ALTER SYSTEM SET log_statement = 'all'").await?;
        stage.sql("SELECT pg_reload_conf()").await?;
        sleep(Duration::from_millis(200)).await;
        let before = asked(stage);
        // While the table is locked, all of them miss.
        let lock = stage
            .sql("BEGIN; LOCK TABLE items IN ACCESS EXCLUSIVE MODE")
            .await?;
        let asks = urls.iter().cycle().take(MISSES).map(|url| Ask {
            series: "item",
            url: url.clone(),
        });
        let (client, asks) = (stage.client.clone(), asks.collect());
        let running = tokio::spawn(async move { burst(&client, asks).await });
        sleep(Duration::from_millis(1500)).await;
        lock.batch_execute("COMMIT").await?;
        let figures = Figures::of(&running.await?);
        let queries = asked(stage) - before;
        stage.sql("ALTER SYSTEM RESET log_statement").await?;
        stage.sql("SELECT pg_reload_conf()").await?;
        table.row([
            name.to_owned(),
            percent(figures.availability()),
            queries.to_string(),
            ms(figures.worst()),
        ]);
        story.promise(
            format!("{MISSES} misses of one key at once on {name} make one query"),
            format!(
                "{queries} in Postgres's own log, {} answered",
                percent(figures.availability())
            ),
            queries == 1 && figures.ok == MISSES,
        );
    }
    story.tables.push(table);
    Ok(())
}

/// How many times Postgres was asked for one item.
fn asked(stage: &Stage) -> usize {
    let log = stage.postgres.log();
    let executed = log.lines().filter(|line| line.contains("execute "));
    executed
        .filter(|line| line.contains("FROM items WHERE id ="))
        .count()
}
