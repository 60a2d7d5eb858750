//! Query strings: every parameter is known, there once, and understood, or the answer is a 400.

use crate::problem::{Problem, Wrong};
use axum::{
    extract::{FromRequestParts, Query},
    http::{StatusCode, request::Parts},
};
use std::{fmt::Display, ops::RangeInclusive};

/// The parameters of a request, to be taken out one by one.
pub(crate) struct Parameters {
    given: Vec<(String, String)>,
    wrong: Vec<Wrong>,
    known: Vec<&'static str>,
}

impl<S: Send + Sync> FromRequestParts<S> for Parameters {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Query::from_request_parts(parts, state).await {
            Ok(Query(given)) => Ok(Self {
                given,
                wrong: Vec::new(),
                known: Vec::new(),
            }),
            Err(error) => Err(Problem::new(StatusCode::BAD_REQUEST, error.body_text())),
        }
    }
}

impl Parameters {
    /// The parameter of this name, as `parse` understands it.
    pub(crate) fn take<T>(
        &mut self,
        name: &'static str,
        accepts: impl Display,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        self.known.push(name);
        let mut values = self.given.extract_if(.., |(given, _)| given == name);
        let (_, value) = values.next()?;
        if values.count() > 0 {
            self.wrong.push(Wrong::new(name, "may be given only once"));
            return None;
        }
        let parsed = parse(&value);
        if parsed.is_none() {
            let message = format!("must be {accepts}, and not {value:?}");
            self.wrong.push(Wrong::new(name, message));
        }
        parsed
    }

    pub(crate) fn number(&mut self, name: &'static str, range: RangeInclusive<i64>) -> Option<i64> {
        let accepts = format!("a whole number from {} to {}", range.start(), range.end());
        self.take(name, accepts, |text| {
            text.parse().ok().filter(|number| range.contains(number))
        })
    }

    /// Which of the rows, in which order.
    pub(crate) fn page(&mut self, sorts: &'static [&'static str]) -> Page {
        let accepts = format!("one of {}, or one with a - before it", sorts.join(", "));
        let sort = self.take("sort", accepts, |text| {
            let (key, descending) = match text.strip_prefix('-') {
                Some(key) => (key, true),
                None => (text, false),
            };
            let key = sorts.iter().find(|sort| **sort == key)?;
            Some(Sort { key, descending })
        });
        Page {
            sort: sort.unwrap_or(Sort {
                key: "id",
                descending: false,
            }),
            limit: self.number("limit", 1..=1_000).unwrap_or(100),
            offset: self.number("offset", 0..=1_000_000_000).unwrap_or(0),
        }
    }

    /// This, if nothing is wrong and nothing is left.
    pub(crate) fn done<T>(mut self, understood: T) -> Result<T, Problem> {
        for (name, _) in self.given {
            let message = format!("is not known here; there are {}", self.known.join(", "));
            self.wrong.push(Wrong::new(name, message));
        }
        match self.wrong.is_empty() {
            true => Ok(understood),
            false => Err(Problem::fields(StatusCode::BAD_REQUEST, self.wrong)),
        }
    }
}

/// Which of the rows, in which order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Page {
    pub(crate) sort: Sort,
    pub(crate) limit: i64,
    pub(crate) offset: i64,
}

/// One of the columns that were offered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sort {
    pub(crate) key: &'static str,
    pub(crate) descending: bool,
}

impl Sort {
    /// Rows that are equal in it are in the order of their ids, so that pages do not overlap.
    fn sql(self) -> String {
        let way = if self.descending { "DESC" } else { "ASC" };
        match self.key {
            "id" => format!("id {way}"),
            key => format!("{key} {way}, id {way}"),
        }
    }
}

impl Page {
    /// A statement for one page of a table, with the number of all rows as `total` in each: both as
    /// of one moment. An empty page is one row whose `id` is null. The last two parameters are the
    /// page's.
    pub(crate) fn sql(
        &self,
        table: &str,
        columns: &str,
        filter: &str,
        parameters: usize,
    ) -> String {
        let (limit, offset) = (parameters + 1, parameters + 2);
        let order = self.sort.sql();
        format!(
            "SELECT total, page.* FROM (SELECT count(*) AS total FROM {table} {filter}) AS counted \
             LEFT JOIN (SELECT {columns}, row_number() OVER (ORDER BY {order}) AS place FROM \
             (SELECT * FROM {table} {filter} ORDER BY {order} LIMIT ${limit} OFFSET ${offset}) \
             AS picked) AS page ON true ORDER BY place"
        )
    }
}
