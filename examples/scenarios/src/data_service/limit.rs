//! A thousand requests at once against a limit of a hundred.

use super::item;
use crate::{
    figures::{Figures, ms},
    load::{Ask, burst},
    stage::{Failed, Stage},
    story::{Story, Table},
};
use std::time::Duration;
use tokio::time::sleep;

const REQUESTS: usize = 1000;
const LIMIT: usize = 100;

pub(crate) async fn run(stage: &mut Stage, story: &mut Story) -> Result<(), Failed> {
    let limit = LIMIT.to_string();
    let settings = [
        ("MAX_CONCURRENT", limit.as_str()),
        ("POSTGRES_TIMEOUT_SECONDS", "10"),
    ];
    let service = stage.data_service(&settings)?;
    // Nobody is answered while the table is locked, so all that are let in are in at once.
    let lock = stage
        .sql("BEGIN; LOCK TABLE items IN ACCESS EXCLUSIVE MODE")
        .await?;
    let asks = (0..REQUESTS).map(|n| Ask {
        series: "item",
        url: item(&service.url, 60_000 + n),
    });
    let (client, asks) = (stage.client.clone(), asks.collect());
    let running = tokio::spawn(async move { burst(&client, asks).await });
    sleep(Duration::from_secs(1)).await;
    lock.batch_execute("COMMIT").await?;
    let samples = running.await?;
    let of = |status| samples.iter().filter(move |s| s.status() == status);
    let refused = of(503).filter(|s| s.answer.as_ref().is_some_and(|a| a.retry_after));
    let (served, refused) = (Figures::of(of(200)), Figures::of(refused));
    let mut table = Table::new(
        format!(
            "{REQUESTS} requests at once against MAX_CONCURRENT={LIMIT}, Postgres locked for 1 s"
        ),
        &["", "requests", "p50", "p99", "worst"],
    );
    for (name, figures) in [("200", &served), ("503 with Retry-After", &refused)] {
        table.row([
            name.to_owned(),
            figures.count.to_string(),
            ms(figures.p50()),
            ms(figures.p99()),
            ms(figures.worst()),
        ]);
    }
    story.tables.push(table);
    story.promise(
        format!("{LIMIT} at most at once, the rest pushed back with 503 and Retry-After"),
        format!("{} served, {} pushed back", served.count, refused.count),
        served.count == LIMIT && served.count + refused.count == REQUESTS,
    );
    Ok(())
}
