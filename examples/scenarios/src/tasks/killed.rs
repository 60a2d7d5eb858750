//! An instance is killed under load.

use super::fleet::Fleet;
use crate::{
    chart,
    figures::{Figures, ms, percent},
    load::{Ask, Open},
    process::signal,
    stage::{Failed, Stage},
    story::{Story, Table},
};
use std::collections::BTreeSet;
use tokio::{task::block_in_place, time::sleep};

/// Requests a second.
const RATE: f64 = 200.0;

pub(crate) async fn run(stage: &Stage, fleet: &Fleet, story: &mut Story) -> Result<(), Failed> {
    let victim = fleet.instances.last().ok_or("no instance")?;
    let victim = victim.trim_start_matches("http://");
    let id = block_in_place(|| fleet.id_of(victim)).ok_or("the instance is not to be found")?;
    let url = fleet.nginx.clone();
    let mut load = Open::start(&stage.client, RATE, "four instances", move |n| Ask {
        series: "lists",
        url: format!("{url}/tasks?offset={}", n % 20),
    });
    sleep(stage.phase).await;
    load.phase("one killed, then restarted");
    block_in_place(|| signal("KILL", id))?;
    sleep(stage.phase * 2).await;
    let phases = load.stop().await;
    let mut table = Table::new(
        format!(
            "GET /tasks through nginx, {RATE} requests a second, timed from when they were due"
        ),
        &["phase", "answered", "by instances", "p50", "p99", "worst"],
    );
    let (mut count, mut ok) = (0, 0);
    for phase in &phases {
        let figures = Figures::of(&phase.samples);
        let answers = phase.samples.iter().filter_map(|s| s.answer.as_ref());
        let instances: BTreeSet<_> = answers.filter_map(|a| a.served_by.as_ref()).collect();
        table.row([
            phase.name.clone(),
            percent(figures.availability()),
            instances.len().to_string(),
            ms(figures.p50()),
            ms(figures.p99()),
            ms(figures.worst()),
        ]);
        (count, ok) = (count + figures.count, ok + figures.ok);
    }
    story.tables.push(table);
    let title = "Slowest answer while an instance is killed";
    story
        .charts
        .push(chart::latency(title, &phases, &["lists"])?);
    story.promise(
        "a dying instance is passed over: every read is answered",
        format!("{ok} of {count}"),
        ok == count,
    );
    Ok(())
}
