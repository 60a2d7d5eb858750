//! What the grid says, drawn: a square for each cell.

use super::{Happens, LOADS, Result, Rule, STREAMS, TIMES, WORKERS};
use std::fmt::Write;

const SIDE: f64 = 9.0;
const LEFT: f64 = 130.0;
const TOP: f64 = 66.0;
const GAP: f64 = 26.0;

pub(crate) fn draw(results: &[Result]) -> String {
    type Is = fn(Rule) -> bool;
    let panels: [(&str, Is, usize); 5] = [
        ("Adaptive", |rule| rule == Rule::Adaptive, STREAMS.len()),
        ("c + sqrt(c)", |rule| matches!(rule, Rule::Fixed(_)), 1),
        ("Vegas", |rule| rule == Rule::Vegas, 1),
        ("Gradient2", |rule| rule == Rule::Gradient2, 1),
        ("AIMD", |rule| rule == Rule::Aimd, 1),
    ];
    let columns: usize = panels.iter().map(|(.., streams)| 10 * streams).sum();
    let width = LEFT + columns as f64 * SIDE + panels.len() as f64 * GAP;
    let height =
        TOP + (WORKERS.len() * TIMES.len()) as f64 * SIDE + 30.0 + 8.0 * WORKERS.len() as f64;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"10\">\n\
         <title>Where limits hold</title>\n<style>text {{ fill: #6e7781 }}</style>\n\
         <text x=\"{LEFT}\" y=\"14\">Served, as a share of what the best fixed limit serves. From left to \
         right: load 0.5, 0.8, 1, 2, 10; each queued, at once; for Adaptive each with 0, 5, 20, 100 open \
         streams</text>\n"
    );
    let mut legend = LEFT;
    for (name, goodput) in [
        ("95 % and more", 1.0),
        ("90 %", 0.92),
        ("70 %", 0.75),
        ("less", 0.2),
    ] {
        let _ = writeln!(
            out,
            "<rect x=\"{legend}\" y=\"24\" width=\"{SIDE}\" height=\"{SIDE}\" fill=\"{}\"/>\
             <text x=\"{}\" y=\"32\">{name}</text>",
            colour(goodput),
            legend + 13.0
        );
        legend += 100.0;
    }
    let row = |workers: usize, times: usize| {
        TOP + (workers * TIMES.len() + times) as f64 * SIDE + 8.0 * workers as f64
    };
    for (w, workers) in WORKERS.iter().enumerate() {
        for (t, times) in TIMES.iter().enumerate() {
            let name = if t == 0 {
                format!("{workers} workers, ")
            } else {
                String::new()
            };
            let _ = writeln!(
                out,
                "<text x=\"{}\" y=\"{:.0}\" text-anchor=\"end\" font-size=\"8\">{name}{}</text>",
                LEFT - 6.0,
                row(w, t) + 7.5,
                format!("{times:?}").to_lowercase()
            );
        }
    }
    let mut left = LEFT;
    for (name, is, streams) in panels {
        let _ = writeln!(out, "<text x=\"{left}\" y=\"{}\">{name}</text>", TOP - 8.0);
        for one in results {
            if !is(one.rule) || one.cell.happens != Happens::Nothing {
                continue;
            }
            let at = |found: Option<usize>| found.unwrap_or(0);
            let w = at(WORKERS.iter().position(|w| *w == one.cell.workers));
            let t = at(TIMES.iter().position(|t| *t == one.cell.times));
            let l = at(LOADS.iter().position(|l| *l == one.cell.load));
            let s = at(STREAMS.iter().position(|s| *s == one.cell.streams)).min(streams - 1);
            let column = (2 * l + usize::from(!one.cell.queued)) * streams + s;
            let _ = writeln!(
                out,
                "<rect x=\"{:.0}\" y=\"{:.0}\" width=\"8\" height=\"8\" fill=\"{}\"/>",
                left + column as f64 * SIDE,
                row(w, t),
                colour(one.goodput)
            );
        }
        left += (10 * streams) as f64 * SIDE + GAP;
    }
    out.push_str("</svg>\n");
    out
}

/// Readable on white and on black.
fn colour(goodput: f64) -> &'static str {
    match goodput {
        g if g >= 0.95 => "#0a9396",
        g if g >= 0.9 => "#94d2bd",
        g if g >= 0.7 => "#ee9b00",
        _ => "#d1495b",
    }
}
