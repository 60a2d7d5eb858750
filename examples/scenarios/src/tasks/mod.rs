//! The Task Management API: cold and warm, one instance and four, and one of the four killed.

mod fleet;
mod killed;
mod seen;
mod spread;
mod warm;

use crate::{
    stage::{Failed, Stage},
    story::Story,
};
use fleet::Fleet;

pub(crate) async fn run(quick: bool) -> Result<Story, Failed> {
    let mut story = Story::new("tasks");
    let mut stage = Stage::new(quick).await?;
    let fleet = Fleet::start(&mut stage)?;
    fleet.fill(&stage).await?;
    warm::run(&stage, &fleet, &mut story).await?;
    spread::run(&stage, &fleet, &mut story).await?;
    seen::run(&stage, &fleet, &mut story).await?;
    killed::run(&stage, &fleet, &mut story).await?;
    story.commands = stage.commands;
    Ok(story)
}
