//! Goodput over time, drawn.

use crate::{record::Second, scenario::Scenario};
use std::fmt::Write;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 340.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 64.0;
const BOTTOM: f64 = 40.0;
/// Of the vertical axis, as a multiple of the capacity.
const MOST: f64 = 1.2;

/// Colour and dashes of each line. Readable on white and on black, told apart by most people, and
/// where two lie on each other both are seen.
const STYLES: [(&str, &str); 4] = [
    ("#0a9396", "none"),
    ("#b8860b", "none"),
    ("#d1495b", "6 6"),
    ("#8e6bbf", "none"),
];

/// Names, and what was served in each second; the most important first.
type Lines = [(&'static str, Vec<Second>)];

pub(crate) fn draw(scenario: &Scenario, capacity: f64, lines: &Lines) -> String {
    let length: u32 = scenario.phases.iter().map(|phase| phase.seconds).sum();
    let x = |second: f64| LEFT + second / f64::from(length) * (WIDTH - LEFT - RIGHT);
    let y = |share: f64| TOP + (1.0 - share.min(MOST) / MOST) * (HEIGHT - TOP - BOTTOM);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"12\">\n\
         <title>Goodput under overload</title>\n\
         <style>text {{ fill: #6e7781 }} .grid {{ stroke: #6e7781; stroke-opacity: .25 }} \
         .line {{ fill: none; stroke-width: 2; stroke-linejoin: round }}</style>\n"
    );
    for percent in [0, 25, 50, 75, 100] {
        let at = y(f64::from(percent) / 100.0);
        let _ = writeln!(
            out,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{percent} %</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            at + 4.0
        );
    }
    let mut begun = 0;
    for phase in &scenario.phases {
        let (from, to) = (f64::from(begun), f64::from(begun + phase.seconds));
        begun += phase.seconds;
        let _ = writeln!(
            out,
            "<line class=\"grid\" x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"{TOP}\" y2=\"{1:.1}\"/>\
             <text x=\"{2:.1}\" y=\"{3:.1}\" text-anchor=\"middle\">{4}x offered</text>\
             <text x=\"{0:.1}\" y=\"{5:.1}\" text-anchor=\"middle\">{6} s</text>",
            x(from),
            HEIGHT - BOTTOM,
            x((from + to) / 2.0),
            TOP + 12.0,
            phase.load,
            HEIGHT - BOTTOM + 16.0,
            from,
        );
    }
    let _ = writeln!(
        out,
        "<text x=\"{LEFT}\" y=\"16\">Requests served in time, in each second, as a share of what the \
         service can do</text>"
    );
    let (mut legend, mut drawn) = (LEFT, Vec::new());
    for ((name, seconds), (colour, dashes)) in lines.iter().zip(STYLES) {
        let mut points = String::new();
        for (second, record) in seconds.iter().enumerate().take(length as usize) {
            let share = f64::from(record.served[0]) / capacity;
            let _ = write!(points, "{:.1},{:.1} ", x(second as f64 + 0.5), y(share));
        }
        let style = format!("stroke=\"{colour}\" stroke-dasharray=\"{dashes}\"");
        drawn.push(format!(
            "<polyline class=\"line\" {style} points=\"{}\"/>",
            points.trim_end()
        ));
        let _ = writeln!(
            out,
            "<path class=\"line\" {style} d=\"M{legend:.1} 32h22\"/>\
             <text x=\"{:.1}\" y=\"36\">{name}</text>",
            legend + 28.0
        );
        legend += 48.0 + 6.5 * name.len() as f64;
    }
    // What matters most comes last, over the others.
    for line in drawn.iter().rev() {
        let _ = writeln!(out, "{line}");
    }
    out.push_str("</svg>\n");
    out
}
