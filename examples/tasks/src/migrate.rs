//! The schema.

use crate::{db::Db, log};
use deadpool_postgres::Object;
use std::{error::Error, time::Duration};

refinery::embed_migrations!("migrations");

/// Any number, the same for all instances.
const LOCK: i64 = 0x7461_736b_7300;

/// Brings the schema up to date. Instances that start together do it one after the other, and all
/// but the first have nothing to do.
async fn migrate(db: &Db) -> Result<(), Box<dyn Error + Send + Sync>> {
    // Never back to the pool: with the connection go its lock and its lack of a time limit.
    let mut client = Object::take(db.connection().await?);
    client.batch_execute("SET statement_timeout = 0").await?;
    client
        .execute("SELECT pg_advisory_lock($1)", &[&LOCK])
        .await?;
    migrations::runner().run_async(&mut *client).await?;
    Ok(())
}

/// Tries once and, if Postgres is away, again and again from a task of its own: the instance can
/// say meanwhile that it is.
pub(crate) async fn start(db: Db) {
    if attempt(&db).await {
        return;
    }
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            if attempt(&db).await {
                return;
            }
        }
    });
}

async fn attempt(db: &Db) -> bool {
    match migrate(db).await {
        Ok(()) => true,
        Err(error) => {
            log::line(format_args!("the schema is not up to date yet: {error}"));
            false
        }
    }
}
