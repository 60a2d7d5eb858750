//! What the write-up saw first: without resilience, a raw 500 when Postgres is away.

use super::item;
use crate::{
    figures::{Figures, ms, percent},
    load::{Ask, closed},
    stage::{Failed, Stage},
    story::{Story, Table},
};
use tokio::task::block_in_place;

pub(crate) async fn run(stage: &mut Stage, story: &mut Story) -> Result<(), Failed> {
    let service = stage.data_service(&[("RESILIENCE", "off")])?;
    let mut table = Table::new(
        "RESILIENCE=off, 200 requests on 10 connections for 100 items",
        &["phase", "answered", "200", "500", "p50", "p99"],
    );
    let mut raw = 0;
    for phase in ["normal", "Postgres killed", "Postgres back"] {
        match phase {
            "Postgres killed" => block_in_place(|| stage.postgres.kill())?,
            "Postgres back" => block_in_place(|| stage.postgres.restart())?,
            _ => {}
        }
        let url = service.url.clone();
        let ask = move |n| Ask {
            series: "item",
            url: item(&url, n % 100 + 1),
        };
        let samples = closed(&stage.client, 10, 200, ask).await;
        let count = |status| samples.iter().filter(|s| s.status() == status).count();
        let figures = Figures::of(&samples);
        if phase == "Postgres killed" {
            raw = count(500);
        }
        table.row([
            phase.to_owned(),
            percent(figures.availability()),
            count(200).to_string(),
            count(500).to_string(),
            ms(figures.p50()),
            ms(figures.p99()),
        ]);
    }
    story.tables.push(table);
    story.promise(
        "RESILIENCE=off shows what the write-up saw: a raw 500 while Postgres is away",
        format!("{raw} of 200 requests"),
        raw == 200,
    );
    Ok(())
}
