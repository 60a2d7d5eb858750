//! Tells Redis what could not be said to it when it was time.

use crate::{cached::Lists, db::Db, log};
use deadpool_postgres::{ClientWrapper, Object};
use std::{collections::BTreeSet, error::Error, time::Duration};
use tokio::time::{sleep, timeout};

type Failed = Box<dyn Error + Send + Sync>;

/// How often to look.
const PAUSE: Duration = Duration::from_millis(250);
/// Longer than any of it takes.
const PATIENCE: Duration = Duration::from_secs(10);

/// Looks for notes for ever. Every instance does: those of one that was killed between its commit
/// and its invalidation are found by the others.
pub(crate) async fn run(db: Db, lists: Lists) {
    let mut connection = None;
    loop {
        sleep(PAUSE).await;
        let client = match connection.take() {
            Some(client) => Ok(client),
            // One of its own, which does not go back to the pool: not with a transaction open.
            None => db.connection().await.map(Object::take),
        };
        let Ok(client) = client else { continue };
        // A connection on which something went wrong is not used again.
        if let Ok(Ok((client, told))) = timeout(PATIENCE, round(client, &lists)).await {
            connection = Some(client);
            if told > 0 {
                log::line(format_args!("{told} pending invalidations are done"));
            }
        }
    }
}

/// Takes the notes that no other instance is at and, when Redis has been told, deletes them.
async fn round(mut client: ClientWrapper, lists: &Lists) -> Result<(ClientWrapper, usize), Failed> {
    // Those that are younger are likely to be done by who wrote them, any moment.
    const TAKE: &str = "SELECT id, tag FROM invalidations \
                        WHERE noted_at < now() - interval '500 milliseconds' \
                        ORDER BY id LIMIT 1000 FOR UPDATE SKIP LOCKED";
    let transaction = client.transaction().await?;
    let take = transaction.prepare_cached(TAKE).await?;
    let rows = transaction.query(&take, &[]).await?;
    let mut told = Vec::new();
    let mut tags = BTreeSet::new();
    for row in &rows {
        told.push(row.try_get::<_, i64>("id")?);
        tags.insert(row.try_get::<_, &str>("tag")?);
    }
    for tag in tags {
        if lists.invalidate_tag(tag).await.is_err() {
            // Nothing is lost: the rollback leaves all of them for the next round.
            told.clear();
            break;
        }
    }
    if told.is_empty() {
        transaction.rollback().await?;
    } else {
        let delete = "DELETE FROM invalidations WHERE id = ANY($1)";
        transaction.execute(delete, &[&told]).await?;
        transaction.commit().await?;
    }
    Ok((client, told.len()))
}
