//! Does what writes have left undone: their notes in Postgres say which cached answers they have
//! outdated, and stay until Redis has been told.

use crate::{
    cached,
    guarded::Guarded,
    items::{Failure, Items},
};
use buttress::{Error, Timeout};
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::time::sleep;

/// Between two looks; each is one small query.
const PAUSE: Duration = Duration::from_millis(500);

/// Makes the tables if Postgres is there.
///
/// # Errors
/// If it is not: then the service can start without, and [`work`] will see to it.
pub(crate) async fn prepare(guarded: &Guarded) -> Result<(), Error<Failure>> {
    // Past the breaker: requests that fail for want of the tables keep it open, and would take
    // every probe from whoever is to make them.
    let timeout = Timeout::new("tables", Duration::from_secs(5));
    let prepare = async || guarded.items.prepare().await.map_err(Error::Service);
    timeout.run(prepare).await
}

/// Makes the tables as soon as Postgres is there, then works off the outbox, for ever.
pub(crate) async fn work(guarded: Arc<Guarded>) -> Infallible {
    while prepare(&guarded).await.is_err() {
        sleep(PAUSE).await;
    }
    loop {
        sleep(PAUSE).await;
        let notes = guarded.postgres(async |items: Items| items.notes().await);
        // Without Postgres there is nothing to do: nobody can write either.
        for (note, item) in notes.await.unwrap_or_default() {
            if cached::outdate(&guarded.answers, item).await.is_err() {
                // Redis is not there: the others would not fare better.
                break;
            }
            let done = guarded.postgres(async move |items: Items| items.done(&[note]).await);
            if done.await.is_err() {
                break;
            }
        }
    }
}
