//! 200 requests at 20 at a time, on one instance and through nginx over four.

use super::fleet::{Fleet, INSTANCES};
use crate::{
    figures::{Figures, ms},
    load::{Ask, Sample, closed},
    stage::{Failed, Stage},
    story::{Story, Table},
};
use std::collections::BTreeMap;

const REQUESTS: usize = 200;
const AT_ONCE: usize = 20;

pub(crate) async fn run(stage: &Stage, fleet: &Fleet, story: &mut Story) -> Result<(), Failed> {
    let instance = fleet.instances.first().ok_or("no instance")?;
    let mut table = Table::new(
        format!("{REQUESTS} requests for GET /tasks, {AT_ONCE} at a time"),
        &["", "req/s", "mean", "p50", "p99", "failed", "ratio to one"],
    );
    let mut first = None;
    let mut shares = BTreeMap::new();
    for (name, url) in [
        ("one instance", instance),
        ("four behind nginx", &fleet.nginx),
    ] {
        let url = format!("{url}/tasks");
        let ask = move |_| Ask {
            series: "list",
            url: url.clone(),
        };
        // The first round opens the connections.
        closed(&stage.client, AT_ONCE, AT_ONCE, ask.clone()).await;
        let samples = closed(&stage.client, AT_ONCE, REQUESTS, ask).await;
        let figures = Figures::of(&samples);
        let base = *first.get_or_insert_with(|| figures.rate());
        table.row([
            name.to_owned(),
            format!("{:.0}", figures.rate()),
            ms(figures.mean),
            ms(figures.p50()),
            ms(figures.p99()),
            (figures.count - figures.ok).to_string(),
            format!("{:.2}x", figures.rate() / base),
        ]);
        shares = by_instance(&samples);
    }
    story.tables.push(table);
    let mut table = Table::new("Who has answered, through nginx", &["instance", "requests"]);
    for (name, count) in &shares {
        table.row([name.clone(), count.to_string()]);
    }
    story.tables.push(table);
    let even = REQUESTS / INSTANCES;
    let kept = shares.len() == INSTANCES && shares.values().all(|n| n.abs_diff(even) <= even / 10);
    let counts: Vec<_> = shares.values().map(ToString::to_string).collect();
    story.promise(
        format!("an even spread: {even} of {REQUESTS} each, give or take a tenth"),
        counts.join(", "),
        kept,
    );
    Ok(())
}

fn by_instance(samples: &[Sample]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for sample in samples {
        let name = sample.answer.as_ref().and_then(|a| a.served_by.as_deref());
        *counts
            .entry(name.unwrap_or("nobody").to_owned())
            .or_default() += 1;
    }
    counts
}
