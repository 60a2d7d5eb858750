//! How the benchmarks of calls measure: interleaved batches, in reads of the clock of the same run.
#![allow(missing_docs, missing_debug_implementations, unreachable_pub)]
// A benchmark reads clocks.
#![allow(clippy::disallowed_methods)]
#![allow(clippy::expect_used, clippy::unwrap_used)]

pub mod measure;
pub mod options;
pub mod report;
pub mod row;
