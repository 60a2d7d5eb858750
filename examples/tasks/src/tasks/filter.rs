//! Which tasks are asked for.

use super::task::{Status, Task, from_word};
use crate::{
    db::{Db, Failure},
    list::{self, List},
    problem::Problem,
    query::{Page, Parameters},
};
use std::fmt::Write;
use tokio_postgres::types::ToSql;

/// The query of `GET /tasks`, understood.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    status: Option<Status>,
    user_id: Option<i64>,
    category_id: Option<i64>,
    search: Option<String>,
    page: Page,
}

const SORTS: &[&str] = &[
    "id",
    "title",
    "status",
    "priority",
    "due_date",
    "created_at",
    "updated_at",
];

impl Filter {
    pub(crate) fn from_query(mut query: Parameters) -> Result<Self, Problem> {
        let statuses = "pending, in_progress or completed";
        let text =
            |text: &str| (!text.contains('\0') && text.len() <= 1_000).then(|| text.to_owned());
        let filter = Self {
            status: query.take("status", statuses, from_word),
            user_id: query.number("user_id", 0..=i64::MAX),
            category_id: query.number("category_id", 0..=i64::MAX),
            search: query.take("search", "a text of at most 1000 bytes", text),
            page: query.page(SORTS),
        };
        query.done(filter)
    }

    /// The same for every query that has the same answer, in whatever order it was written.
    pub(crate) fn key(&self) -> String {
        let Page {
            sort,
            limit,
            offset,
        } = self.page;
        let way = if sort.descending { "-" } else { "" };
        let mut key = format!("{way}{} {limit} {offset}", sort.key);
        // Writing to a string cannot fail.
        if let Some(status) = self.status {
            let _ = write!(key, " status={}", status.word());
        }
        if let Some(id) = self.user_id {
            let _ = write!(key, " user={id}");
        }
        if let Some(id) = self.category_id {
            let _ = write!(key, " category={id}");
        }
        // Last: whatever it contains, nothing comes after it.
        if let Some(text) = &self.search {
            let _ = write!(key, " search={text}");
        }
        key
    }

    /// Reads them from Postgres.
    pub(crate) async fn read(&self, db: &Db) -> Result<List<Task>, Failure> {
        let status = self.status.map(Status::word);
        let search = self.search.as_deref().map(pattern);
        let mut conditions: Vec<String> = Vec::new();
        let mut parameters: Vec<&(dyn ToSql + Sync)> = Vec::new();
        let mut only = |condition: &str, parameter| {
            parameters.push(parameter);
            conditions.push(condition.replace('?', &format!("${}", parameters.len())));
        };
        // Text that Postgres makes a word of: the driver knows nothing of our types.
        if let Some(status) = &status {
            only("status = ?::text::task_status", status);
        }
        if let Some(id) = &self.user_id {
            only("user_id = ?", id);
        }
        if let Some(id) = &self.category_id {
            only("category_id = ?", id);
        }
        if let Some(pattern) = &search {
            // As the index has it.
            only(
                r"(title || E'\n' || coalesce(description, '')) ILIKE ?",
                pattern,
            );
        }
        let filter = match conditions.is_empty() {
            true => String::new(),
            false => format!("WHERE {}", conditions.join(" AND ")),
        };
        list::page(db, self.page, &filter, &parameters).await
    }
}

/// Finds the text anywhere, and nothing but the text.
fn pattern(text: &str) -> String {
    let mut pattern = String::from("%");
    for c in text.chars() {
        if matches!(c, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern + "%"
}
