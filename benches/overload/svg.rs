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

/// One line: its name, its colour, and what was served in each second.
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) colour: &'static str,
    pub(crate) seconds: Vec<Second>,
}

/// Readable on white and on black, with colours that most people can tell apart.
pub(crate) const COLOURS: [&str; 5] = ["#0a9396", "#d1495b", "#b8860b", "#8e6bbf", "#5b8db8"];

pub(crate) fn draw(scenario: &Scenario, capacity: f64, lines: &[Line]) -> String {
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
    let mut legend = LEFT;
    for line in lines {
        let mut points = String::new();
        for (second, record) in line.seconds.iter().enumerate().take(length as usize) {
            let share = f64::from(record.served[0]) / capacity;
            let _ = write!(points, "{:.1},{:.1} ", x(second as f64 + 0.5), y(share));
        }
        let Line { name, colour, .. } = line;
        let _ = writeln!(
            out,
            "<polyline class=\"line\" stroke=\"{colour}\" points=\"{}\"/>\
             <rect x=\"{legend:.1}\" y=\"29\" width=\"14\" height=\"4\" fill=\"{colour}\"/>\
             <text x=\"{:.1}\" y=\"36\">{name}</text>",
            points.trim_end(),
            legend + 20.0
        );
        legend += 36.0 + 7.0 * name.len() as f64;
    }
    out.push_str("</svg>\n");
    out
}
