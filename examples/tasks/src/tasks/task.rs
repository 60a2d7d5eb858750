//! What a task is.

use crate::{
    body::{present, said, storable},
    list::Entity,
};
use garde::Validate;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeOwned, Error, IntoDeserializer, value::Error as Unknown},
};
use time::{Date, OffsetDateTime};
use tokio_postgres::Row;
use utoipa::ToSchema;

time::serde::format_description!(day, Date, "[year]-[month]-[day]");

/// Something to do.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Task {
    pub(crate) id: i64,
    title: String,
    description: Option<String>,
    status: Status,
    priority: Priority,
    #[serde(with = "day::option")]
    due_date: Option<Date>,
    user_id: Option<i64>,
    category_id: Option<i64>,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
}

/// How far it is.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    #[default]
    Pending,
    InProgress,
    Completed,
}

/// How much it matters.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Priority {
    Low,
    #[default]
    Medium,
    High,
}

/// A task to be.
#[derive(Deserialize, Validate, ToSchema, Default)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct NewTask {
    #[garde(required, length(chars, max = 200), custom(said))]
    #[schema(required, nullable = false, max_length = 200, pattern = r"\S")]
    pub(crate) title: Option<String>,
    #[garde(length(chars, max = 10_000), custom(storable))]
    #[schema(max_length = 10_000)]
    pub(crate) description: Option<String>,
    /// `pending` if not given.
    #[garde(skip)]
    pub(crate) status: Option<Status>,
    /// `medium` if not given.
    #[garde(skip)]
    pub(crate) priority: Option<Priority>,
    #[serde(deserialize_with = "some_day")]
    #[garde(skip)]
    pub(crate) due_date: Option<Date>,
    #[garde(skip)]
    pub(crate) user_id: Option<i64>,
    #[garde(skip)]
    pub(crate) category_id: Option<i64>,
}

/// What to change of a task: what is left out stays, and `null` takes away.
#[derive(Deserialize, Validate, ToSchema, Default)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TaskChange {
    #[serde(deserialize_with = "present")]
    #[garde(length(chars, max = 200), custom(said))]
    #[schema(value_type = String, required = false, max_length = 200, pattern = r"\S")]
    pub(crate) title: Option<String>,
    #[serde(deserialize_with = "present")]
    #[garde(length(chars, max = 10_000), custom(storable))]
    #[schema(value_type = Option<String>, max_length = 10_000)]
    pub(crate) description: Option<Option<String>>,
    #[serde(deserialize_with = "present")]
    #[garde(skip)]
    #[schema(value_type = Status, required = false)]
    pub(crate) status: Option<Status>,
    #[serde(deserialize_with = "present")]
    #[garde(skip)]
    #[schema(value_type = Priority, required = false)]
    pub(crate) priority: Option<Priority>,
    #[serde(deserialize_with = "present_day")]
    #[garde(skip)]
    #[schema(value_type = Option<Date>)]
    pub(crate) due_date: Option<Option<Date>>,
    #[serde(deserialize_with = "present")]
    #[garde(skip)]
    #[schema(value_type = Option<i64>)]
    pub(crate) user_id: Option<Option<i64>>,
    #[serde(deserialize_with = "present")]
    #[garde(skip)]
    #[schema(value_type = Option<i64>)]
    pub(crate) category_id: Option<Option<i64>>,
}

fn some_day<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Date>, D::Error> {
    let wrong = |_| D::Error::custom("must be a date such as 2030-12-31");
    day::option::deserialize(from).map_err(wrong)
}

fn present_day<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Option<Date>>, D::Error> {
    some_day(from).map(Some)
}

impl Status {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
        }
    }
}

impl Priority {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

/// The value of this word, as serde knows it.
pub(crate) fn from_word<T: DeserializeOwned>(word: &str) -> Option<T> {
    T::deserialize(word.into_deserializer())
        .map_err(|_: Unknown| ())
        .ok()
}

impl Entity for Task {
    const TABLE: &'static str = "tasks";
    const COLUMNS: &'static str = "id, title, description, status::text, priority::text, due_date, \
                                   user_id, category_id, created_at, updated_at";

    fn read(row: &Row) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            id: row.try_get("id")?,
            title: row.try_get("title")?,
            description: row.try_get("description")?,
            // The column has no other words.
            status: from_word(row.try_get("status")?).unwrap_or_default(),
            priority: from_word(row.try_get("priority")?).unwrap_or_default(),
            due_date: row.try_get("due_date")?,
            user_id: row.try_get("user_id")?,
            category_id: row.try_get("category_id")?,
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
        })
    }
}
