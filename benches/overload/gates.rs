//! What must hold, and what must not.

use crate::{
    measure::{Recovery, Row},
    report::{Stats, worst},
};
use std::fmt::Write;

/// One condition, and whether it is met.
struct Gate {
    what: String,
    is: String,
    must: String,
    met: bool,
}

/// Of all seeds.
#[derive(Clone, Copy)]
enum Pick {
    Mean,
    Min,
    Max,
}
use Pick::{Max, Mean, Min};

type Field = fn(&Row) -> f64;

const GOODPUT: Field = |row| row.goodput;
const P99: Field = |row| row.p99;
const ADMITTED: Field = |row| row.admitted_p99;
const SHED: Field = |row| f64::from(row.shed);
const SHED_EVER: Field = |row| f64::from(row.shed + row.early_shed);

/// The gates of what was run, and whether all are met.
pub(crate) fn gates(rows: &[Row]) -> (String, bool) {
    let mut gates = Gates {
        rows,
        all: Vec::new(),
    };
    gates.known();
    gates.unknown();
    gates.naive();
    let mut out = String::new();
    for gate in &gates.all {
        let Gate {
            what,
            is,
            must,
            met,
        } = gate;
        let met = if *met { "met" } else { "MISSED" };
        let _ = writeln!(out, "{what:<72} {is:>8} {must:<9} {met}");
    }
    (out, gates.all.iter().all(|gate| gate.met))
}

struct Gates<'a> {
    rows: &'a [Row],
    all: Vec<Gate>,
}

impl Gates<'_> {
    /// The backend's parallelism is known.
    fn known(&mut self) {
        let full = "buttress";
        self.least(("S1", full, "2x"), "goodput", GOODPUT, Mean, 0.98);
        self.least(("S1", full, "2x"), "goodput", GOODPUT, Min, 0.965);
        self.least(("S1", full, "10x"), "goodput", GOODPUT, Mean, 0.98);
        self.least(("S1", full, "10x"), "goodput", GOODPUT, Min, 0.97);
        self.least(
            ("S1", "buttress.server", "10x"),
            "goodput",
            GOODPUT,
            Mean,
            0.89,
        );
        for stack in [full, "buttress.server"] {
            for phase in ["2x", "10x"] {
                let at = ("S1", stack, phase);
                self.most(at, "p99 ms of the admitted", ADMITTED, Max, 105.0);
                self.most(at, "p99 ms with all attempts", P99, Mean, 105.0);
                self.most(
                    at,
                    "calls per request, first tier",
                    |r| r.relay_amplification,
                    Max,
                    1.1,
                );
                let second: Field = |r| r.amplification / r.relay_amplification;
                self.most(at, "calls per request, second tier", second, Max, 1.1);
            }
            self.most(("S1", stack, "0.5x"), "refused", SHED_EVER, Max, 0.0);
            self.recovers(stack);
        }
        self.most(
            ("S3", full, "during"),
            "p99 ms of the admitted",
            ADMITTED,
            Max,
            330.0,
        );
        self.drift(full, "p99 of the admitted", ADMITTED, 0.1);
        self.least(
            ("S6", full, "2x"),
            "critical served",
            |r| r.critical,
            Mean,
            0.99,
        );
        self.most(("S6", full, "0.5x"), "refused", SHED_EVER, Max, 0.0);
    }

    /// It is not.
    fn unknown(&mut self) {
        let (one, twenty) = ("buttress.adaptive.1", "buttress.adaptive.20");
        for stack in [one, twenty] {
            self.least(("S1", stack, "2x"), "goodput", GOODPUT, Mean, 0.95);
            self.least(("S1", stack, "10x"), "goodput", GOODPUT, Mean, 0.95);
            for phase in ["0.5x", "back"] {
                self.most(("S1", stack, phase), "refused once settled", SHED, Max, 0.0);
            }
            for phase in ["10", "5", "20", "10 again"] {
                self.least(("S7", stack, phase), "goodput", GOODPUT, Mean, 0.93);
            }
            self.least(("S3", stack, "during"), "goodput", GOODPUT, Mean, 0.92);
            self.recovers(stack);
        }
        for phase in ["2x", "10x"] {
            self.most(
                ("S1", one, phase),
                "p99 ms of the admitted",
                ADMITTED,
                Max,
                90.0,
            );
            self.least(("cv2", one, phase), "goodput", GOODPUT, Mean, 0.94);
            self.least(("cv0.3", one, phase), "goodput", GOODPUT, Mean, 0.95);
            self.least(("bimodal", one, phase), "goodput", GOODPUT, Mean, 0.94);
            self.least(("bimodal", one, phase), "goodput", GOODPUT, Min, 0.90);
            self.most(
                ("c1", one, phase),
                "p99 ms of the admitted",
                ADMITTED,
                Max,
                200.0,
            );
        }
        let early: Field = |row| row.early_p99;
        self.most(
            ("S1", twenty, "2x"),
            "p99 ms of the admitted, first 6 s",
            early,
            Max,
            260.0,
        );
        self.least(("c200", one, "2x"), "goodput", GOODPUT, Mean, 0.97);
        self.drift(one, "p99 of the admitted", ADMITTED, 0.1);
        self.drift(one, "limit", |row| row.limit, 0.15);
    }

    /// If these did not collapse, the benchmark would show nothing.
    fn naive(&mut self) {
        for (stack, phase, pick) in [
            ("naive.retry", "2x", Max),
            ("naive.breaker", "10x", Max),
            ("naive.no_budget", "10x", Max),
            // Its clients are out together or not, as the dice fall: runs differ by three times.
            ("naive.breaker_counts_overload", "10x", Mean),
            ("tower_resilience", "2x", Max),
        ] {
            self.most(
                ("S1", stack, phase),
                "goodput (collapses)",
                GOODPUT,
                pick,
                0.5,
            );
        }
        self.stuck("naive.retry");
        self.stuck("tower_resilience");
    }

    fn at(&self, (scenario, stack, phase): (&str, &str, &str)) -> Vec<&Row> {
        let all = self.rows.iter();
        all.filter(|r| r.scenario == scenario && r.stack == stack && r.phase == phase)
            .collect()
    }

    fn picked(&self, at: (&str, &str, &str), field: Field, pick: Pick) -> Option<f64> {
        let rows = self.at(at);
        let stats = Stats::of(rows.iter().map(|row| field(row)));
        (!rows.is_empty()).then_some(match pick {
            Mean => stats.mean,
            Min => stats.min,
            Max => stats.max,
        })
    }

    fn least(&mut self, at: (&str, &str, &str), what: &str, f: Field, pick: Pick, bound: f64) {
        if let Some(is) = self.picked(at, f, pick) {
            self.push(at, what, pick, is, format!(">= {bound}"), is >= bound);
        }
    }

    fn most(&mut self, at: (&str, &str, &str), what: &str, f: Field, pick: Pick, bound: f64) {
        if let Some(is) = self.picked(at, f, pick) {
            self.push(at, what, pick, is, format!("<= {bound}"), is <= bound);
        }
    }

    fn push(
        &mut self,
        (scenario, stack, phase): (&str, &str, &str),
        what: &str,
        pick: Pick,
        is: f64,
        must: String,
        met: bool,
    ) {
        let pick = match pick {
            Mean => "mean",
            Min => "worst",
            Max => "worst",
        };
        self.all.push(Gate {
            what: format!("{scenario} {stack} {phase}: {what}, {pick}"),
            is: format!("{is:.3}"),
            must,
            met,
        });
    }

    fn recovers(&mut self, stack: &str) {
        for (scenario, phase) in [
            ("S1", "back"),
            ("S2a", "after"),
            ("S2b", "after"),
            ("S3", "after"),
        ] {
            let recovery = worst(&self.at((scenario, stack, phase)));
            let (is, met) = match recovery {
                None => continue,
                Some(Recovery::Never) => ("never".to_owned(), false),
                Some(Recovery::After(seconds)) => (seconds.to_string(), seconds <= 5),
            };
            self.all.push(Gate {
                what: format!("{scenario} {stack}: seconds until all is well, worst"),
                is,
                must: "<= 5".to_owned(),
                met,
            });
        }
    }

    fn stuck(&mut self, stack: &str) {
        let rows = self.at(("S1", stack, "back"));
        if rows.is_empty() {
            return;
        }
        let stuck = rows.iter().all(|row| row.recovery == Some(Recovery::Never));
        self.all.push(Gate {
            what: format!("S1 {stack}: does not recover"),
            is: if stuck { "never" } else { "recovers" }.to_owned(),
            must: "never".to_owned(),
            met: stuck,
        });
    }

    /// How much the end of the soak differs from its beginning.
    fn drift(&mut self, stack: &str, what: &str, field: Field, bound: f64) {
        let (first, last) = (
            self.at(("S4", stack, "first")),
            self.at(("S4", stack, "last")),
        );
        let mean = |rows: &[&Row]| Stats::of(rows.iter().map(|row| field(row))).mean;
        if first.is_empty() {
            return;
        }
        let drift = mean(&last) / mean(&first) - 1.0;
        let must = format!("<= {bound}");
        let at = ("S4", stack, "drift");
        self.push(at, what, Mean, drift, must, drift.abs() <= bound);
    }
}
