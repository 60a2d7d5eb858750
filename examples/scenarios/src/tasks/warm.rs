//! 500 requests at 50 at a time, with a cold cache and with a warm one.

use super::fleet::Fleet;
use crate::{
    chart,
    figures::{Figures, ms, percent},
    load::{Ask, closed},
    stage::{Failed, Stage},
    story::{Story, Table},
};

const REQUESTS: usize = 500;
const AT_ONCE: usize = 50;

pub(crate) async fn run(stage: &Stage, fleet: &Fleet, story: &mut Story) -> Result<(), Failed> {
    let instance = fleet.instances.first().ok_or("no instance")?;
    let measure = async || {
        let url = instance.clone();
        // Every query is another, so none of the first 500 finds another's answer.
        let ask = move |n| Ask {
            series: "list",
            url: format!("{url}/tasks?limit=100&offset={n}"),
        };
        Figures::of(&closed(&stage.client, AT_ONCE, REQUESTS, ask).await)
    };
    let (cold, warm) = (measure().await, measure().await);
    let mut table = Table::new(
        format!(
            "{REQUESTS} requests for GET /tasks, {AT_ONCE} at a time, one instance; cold: {REQUESTS} different queries, warm: the same again"
        ),
        &[
            "",
            "req/s",
            "mean",
            "p50",
            "p90",
            "p99",
            "worst",
            "failed",
            "ratio to cold",
        ],
    );
    table.row([
        "write-up, cold",
        "758",
        "64 ms",
        "",
        "",
        "",
        "400-480 ms",
        "0",
        "1.00x",
    ]);
    table.row([
        "write-up, warm",
        "2400",
        "20 ms",
        "19 ms",
        "23 ms",
        "< 40 ms",
        "",
        "0",
        "3.17x",
    ]);
    for (name, figures) in [("cold", &cold), ("warm", &warm)] {
        table.row([
            name.to_owned(),
            format!("{:.0}", figures.rate()),
            ms(figures.mean),
            ms(figures.p50()),
            ms(figures.quantile(0.9)),
            ms(figures.p99()),
            ms(figures.worst()),
            (figures.count - figures.ok).to_string(),
            format!("{:.2}x", figures.rate() / cold.rate()),
        ]);
    }
    story.tables.push(table);
    story.charts.push(chart::bars(
        "GET /tasks, requests per second",
        &[
            ("write-up, cold", 758.0),
            ("write-up, warm", 2400.0),
            ("ours, cold", cold.rate()),
            ("ours, warm", warm.rate()),
        ],
    )?);
    story.promise(
        "cold or warm, no request fails",
        format!(
            "{} and {}",
            percent(cold.availability()),
            percent(warm.availability())
        ),
        cold.ok == REQUESTS && warm.ok == REQUESTS,
    );
    story.promise(
        "a warm cache is faster than a cold one",
        format!("{:.1}x", warm.rate() / cold.rate()),
        warm.rate() > cold.rate(),
    );
    Ok(())
}
