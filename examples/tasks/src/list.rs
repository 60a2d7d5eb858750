//! Pages of rows.

use crate::{
    db::{Db, Failure},
    query::Page,
};
use serde::Serialize;
use tokio_postgres::{Row, types::ToSql};
use utoipa::ToSchema;

/// Some of the rows, and how many there are.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct List<T> {
    pub(crate) items: Vec<T>,
    /// Of all rows that fit, on whatever page.
    pub(crate) total: i64,
}

/// What is read from a row.
pub(crate) trait Entity: Sized {
    /// Where the rows are.
    const TABLE: &'static str;
    /// What is selected of them.
    const COLUMNS: &'static str;

    fn read(row: &Row) -> Result<Self, tokio_postgres::Error>;
}

/// The row that was returned, if one was.
pub(crate) fn one<T: Entity>(row: Option<Row>) -> Result<Option<T>, Failure> {
    row.as_ref()
        .map(T::read)
        .transpose()
        .map_err(Failure::Refused)
}

/// The row of this id.
pub(crate) async fn by_id<T: Entity>(db: &Db, id: i64) -> Result<Option<T>, Failure> {
    let statement = format!("SELECT {} FROM {} WHERE id = $1", T::COLUMNS, T::TABLE);
    one(db.row(&statement, &[&id]).await?)
}

/// One page of the rows that fit.
pub(crate) async fn page<T: Entity>(
    db: &Db,
    page: Page,
    filter: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<List<T>, Failure> {
    let statement = page.sql(T::TABLE, T::COLUMNS, filter, parameters.len());
    let mut parameters = parameters.to_vec();
    parameters.extend::<[&(dyn ToSql + Sync); 2]>([&page.limit, &page.offset]);
    let rows = db.query(&statement, &parameters).await?;
    read(&rows).map_err(Failure::Refused)
}

fn read<T: Entity>(rows: &[Row]) -> Result<List<T>, tokio_postgres::Error> {
    let total = rows.first().map_or(Ok(0), |row| row.try_get("total"))?;
    let mut items = Vec::with_capacity(rows.len());
    for row in rows {
        if row.try_get::<_, Option<i64>>("id")?.is_some() {
            items.push(T::read(row)?);
        }
    }
    Ok(List { items, total })
}
