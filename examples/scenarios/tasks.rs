//! The Task Management API.

use crate::{stage::Failed, story::Story};

pub(crate) async fn run(_quick: bool) -> Result<Story, Failed> {
    Ok(Story::new("tasks"))
}
