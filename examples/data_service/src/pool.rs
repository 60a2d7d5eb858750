//! Connections to Postgres, none of which is ever lent while something still runs on it.

use deadpool_postgres::{
    Manager, ManagerConfig, Object, PoolError, RecyclingMethod, tokio_postgres::types::ToSql,
};
use std::time::Duration;
use tokio_postgres::{Config, NoTls, Row};

/// As many as two processors have use for, and few enough for several instances on one Postgres.
const CONNECTIONS: usize = 16;

#[derive(Clone)]
pub(crate) struct Pool(deadpool_postgres::Pool);

impl Pool {
    /// A pool, which connects when it is first used. With a limit, Postgres itself cancels what
    /// runs longer: a timeout of ours lets go of the answer only, and not of the work.
    pub(crate) fn new(mut config: Config, limit: Option<Duration>) -> Result<Self, String> {
        if let Some(limit) = limit {
            let own = config.get_options().unwrap_or_default();
            let millis = limit.as_millis().max(1);
            config.options(format!("{own} -c statement_timeout={millis}"));
            config.connect_timeout(limit);
        }
        let recycling_method = RecyclingMethod::Fast;
        let manager = Manager::from_config(config, NoTls, ManagerConfig { recycling_method });
        let pool = deadpool_postgres::Pool::builder(manager).max_size(CONNECTIONS);
        pool.build().map(Self).map_err(|error| error.to_string())
    }

    /// A connection, when there is one.
    pub(crate) async fn get(&self) -> Result<Lent, PoolError> {
        self.0.get().await.map(Some).map(Lent)
    }

    /// One statement, in a transaction of its own.
    pub(crate) async fn query(
        &self,
        statement: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, PoolError> {
        let lent = self.get().await?;
        let client = lent.client()?;
        let rows = async {
            let statement = client.prepare_cached(statement).await?;
            client.query(&statement, parameters).await
        };
        let rows = rows.await;
        // It has answered, be it with an error.
        lent.give_back();
        Ok(rows?)
    }
}

/// A connection. Unless it is given back it is closed: whoever was given it next would wait for
/// what was left running on it.
pub(crate) struct Lent(Option<Object>);

impl Lent {
    pub(crate) fn client(&self) -> Result<&Object, PoolError> {
        self.0.as_ref().ok_or(PoolError::Closed)
    }

    pub(crate) fn give_back(mut self) {
        self.0 = None;
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(object) = self.0.take() {
            drop(Object::take(object));
        }
    }
}
