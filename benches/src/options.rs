//! What a run is told, and how it is done.

use crate::{
    measure::{self, Measured, Plan},
    row::Row,
};
use std::{env, io, time::Duration};
use tokio::runtime::Runtime;

pub struct Options {
    smoke: bool,
    only: Option<String>,
}

impl Options {
    /// Those on the command line; `None`, with a word of explanation, if one is unknown.
    pub fn read() -> Option<Self> {
        let mut args = env::args().skip(1);
        let (mut smoke, mut only) = (false, None);
        while let Some(arg) = args.next() {
            match &*arg {
                "--smoke" => smoke = true,
                "--only" => only = args.next(),
                // Cargo's own.
                "--bench" => {}
                other => {
                    eprintln!("unknown argument {other}; known are --smoke and --only SUBSTRING");
                    return None;
                }
            }
        }
        Some(Self { smoke, only })
    }

    /// Measures the rows with one thread, and fresh ones with two.
    pub fn measure(&self, rows: impl Fn() -> Vec<Row>) -> Vec<Measured> {
        let mut all = Vec::new();
        for threads in [1, 2] {
            let mut rows = rows();
            rows.retain(|row| {
                let wanted = |only: &String| row.name.contains(&**only);
                matches!(row.name, "clock" | "bare") || self.only.as_ref().is_none_or(wanted)
            });
            all.extend(measure::measure(&rows, threads, self.plan()));
        }
        all
    }

    fn plan(&self) -> Plan {
        match self.smoke {
            true => Plan {
                rounds: 15,
                batch: Duration::from_micros(300),
                row_time: Duration::from_millis(100),
            },
            false => Plan {
                rounds: 300,
                batch: Duration::from_millis(1),
                row_time: Duration::from_secs(4),
            },
        }
    }
}

/// A runtime whose worker sleeps.
pub fn runtime() -> io::Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().build()
}
