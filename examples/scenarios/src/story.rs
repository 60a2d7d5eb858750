//! What a scenario has to tell.

use std::fmt::Write;

/// A scenario's results.
#[derive(Debug, Default)]
pub(crate) struct Story {
    pub(crate) name: &'static str,
    pub(crate) tables: Vec<Table>,
    /// Each an SVG.
    pub(crate) charts: Vec<String>,
    pub(crate) promises: Vec<Promise>,
    /// What was run.
    pub(crate) commands: Vec<String>,
}

/// Something that must hold, and what was measured.
#[derive(Debug)]
pub(crate) struct Promise {
    pub(crate) says: String,
    pub(crate) measured: String,
    pub(crate) kept: bool,
}

#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) title: String,
    pub(crate) head: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Story {
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            ..Self::default()
        }
    }

    pub(crate) fn promise(
        &mut self,
        says: impl Into<String>,
        measured: impl Into<String>,
        kept: bool,
    ) {
        self.promises.push(Promise {
            says: says.into(),
            measured: measured.into(),
            kept,
        });
    }

    pub(crate) fn is_kept(&self) -> bool {
        self.promises.iter().all(|promise| promise.kept)
    }

    /// As text.
    pub(crate) fn text(&self) -> String {
        let mut out = format!("\n=== {} ===\n", self.name);
        for table in &self.tables {
            let _ = write!(out, "\n{}\n{}", table.title, table.text());
        }
        out.push('\n');
        for Promise {
            says,
            measured,
            kept,
        } in &self.promises
        {
            let _ = writeln!(out, "{}  {says}: {measured}", verdict(*kept));
        }
        out
    }
}

pub(crate) fn verdict(kept: bool) -> &'static str {
    if kept { "PASS" } else { "FAIL" }
}

impl Table {
    pub(crate) fn new(title: impl Into<String>, head: &[&str]) -> Self {
        Self {
            title: title.into(),
            head: head.iter().map(ToString::to_string).collect(),
            rows: Vec::new(),
        }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = impl Into<String>>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    fn text(&self) -> String {
        let lines = || std::iter::once(&self.head).chain(&self.rows);
        let width = |column: usize| {
            let cells = lines().filter_map(|line| line.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        let mut out = String::new();
        for line in lines() {
            for (n, (cell, width)) in line.iter().zip(&widths).enumerate() {
                // Names to the left, figures to the right.
                let _ = match n {
                    0 => write!(out, "  {cell:<width$}"),
                    _ => write!(out, "  {cell:>width$}"),
                };
            }
            out.push('\n');
        }
        out
    }
}
