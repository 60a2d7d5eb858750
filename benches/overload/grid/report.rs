//! What the grid says, as text.

use super::{Happens, Result, Rule};
use std::fmt::Write;

/// Returns what is to be printed, and whether every cell of our rule holds.
pub(crate) fn report(results: &[Result]) -> (String, bool) {
    let mut text = String::from("grid: rule, cells, cells that hold, worst goodput\n");
    let kind = |rule| match rule {
        Rule::Adaptive => "Adaptive",
        Rule::Fixed(_) => "c + sqrt(c)",
        Rule::Vegas => "Vegas",
        Rule::Gradient2 => "Gradient2",
        Rule::Aimd => "AIMD",
    };
    for name in ["Adaptive", "c + sqrt(c)", "Vegas", "Gradient2", "AIMD"] {
        let of: Vec<_> = results
            .iter()
            .filter(|one| kind(one.rule) == name)
            .collect();
        if of.is_empty() {
            continue;
        }
        let hold = of.iter().filter(|one| one.missed().is_none()).count();
        let worst = of
            .iter()
            .map(|one| one.goodput)
            .fold(f64::INFINITY, f64::min);
        let _ = writeln!(text, "{name:<12} {:>5} {hold:>5} {worst:>6.3}", of.len());
    }
    let ours = results.iter().filter(|one| one.rule == Rule::Adaptive);
    let mut all = true;
    for one in ours {
        let Some(missed) = one.missed() else { continue };
        all = false;
        let cell = &one.cell;
        let mode = if cell.queued { "queued" } else { "at once" };
        let happens = match cell.happens {
            Happens::Nothing => String::new(),
            happens => format!("{happens:?}"),
        };
        let _ = writeln!(
            text,
            "MISSED {missed}: {} workers, {:?}, load {}, {mode}, {} streams {happens}: goodput {:.3}, \
             p99 {:.2}, shed {:.3}, back {:.3}, limit {:.0}, {} seeds",
            cell.workers,
            cell.times,
            cell.load,
            cell.streams,
            one.goodput,
            one.p99,
            one.shed,
            one.back,
            one.limit,
            one.seeds
        );
    }
    (text, all)
}
