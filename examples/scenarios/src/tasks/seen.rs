//! Whether a read after an acknowledged write, on any instance, sees it.

use super::fleet::Fleet;
use crate::{
    client::Answer,
    stage::{Failed, Stage},
    story::Story,
};

pub(crate) async fn run(stage: &Stage, fleet: &Fleet, story: &mut Story) -> Result<(), Failed> {
    let rounds = stage.scaled(100);
    let (mut reads, mut missed, mut pending) = (0, 0, 0);
    for n in 0..rounds {
        // In every cache there is, before it is outdated.
        for instance in &fleet.instances {
            stage.client.get(&newest(instance)).await;
        }
        let title = format!("seen {n}");
        let task = format!(r#"{{"title": "{title}"}}"#);
        let written = stage
            .client
            .post(&format!("{}/tasks", fleet.nginx), task)
            .await;
        if written.is_none_or(|answer| answer.status != 201) {
            pending += 1;
            continue;
        }
        for instance in &fleet.instances {
            let answer = stage.client.get(&newest(instance)).await;
            reads += 1;
            missed += usize::from(!answer.is_some_and(|answer| says(&answer, &title)));
        }
    }
    story.promise(
        "a read after an acknowledged write sees it, on every instance",
        format!(
            "{missed} of {reads} reads missed it ({pending} of {rounds} writes not acknowledged)"
        ),
        missed == 0 && pending == 0,
    );
    Ok(())
}

fn newest(instance: &str) -> String {
    format!("{instance}/tasks?sort=-id&limit=1")
}

fn says(answer: &Answer, title: &str) -> bool {
    String::from_utf8_lossy(&answer.body).contains(&format!("\"{title}\""))
}
