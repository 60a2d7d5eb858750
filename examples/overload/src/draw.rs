//! Served requests over time, as an SVG.

use crate::{
    load::{Phase, Second},
    service::CAPACITY,
};
use std::fmt::Write;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 300.0;
const MARGIN: f64 = 48.0;

pub(crate) fn draw(phases: &[Phase], runs: &[(String, Vec<Second>)]) -> String {
    let length: usize = phases.iter().map(|phase| phase.seconds).sum();
    let x = |second: f64| MARGIN + second / length as f64 * (WIDTH - 2.0 * MARGIN);
    let y = |rate: f64| HEIGHT - MARGIN - rate / (1.2 * CAPACITY) * (HEIGHT - 2.0 * MARGIN);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"12\" fill=\"#6e7781\">\n\
         <text x=\"{MARGIN}\" y=\"16\">Requests served in time, per second</text>\n"
    );
    for rate in [0.0, CAPACITY / 2.0, CAPACITY] {
        let _ = writeln!(
            out,
            "<path d=\"M{MARGIN} {at:.1}H{right}\" stroke=\"#6e7781\" stroke-opacity=\".3\"/>\
             <text x=\"{left}\" y=\"{text:.1}\" text-anchor=\"end\">{rate}</text>",
            at = y(rate),
            right = WIDTH - MARGIN,
            left = MARGIN - 6.0,
            text = y(rate) + 4.0,
        );
    }
    let mut begun = 0;
    for phase in phases {
        let middle = begun as f64 + phase.seconds as f64 / 2.0;
        let _ = writeln!(
            out,
            "<path d=\"M{at:.1} {MARGIN}V{bottom}\" stroke=\"#6e7781\" stroke-opacity=\".3\"/>\
             <text x=\"{at:.1}\" y=\"{below}\" text-anchor=\"middle\">{begun} s</text>\
             <text x=\"{middle:.1}\" y=\"{MARGIN}\" text-anchor=\"middle\">{load}x offered</text>",
            at = x(begun as f64),
            bottom = HEIGHT - MARGIN,
            below = HEIGHT - MARGIN + 16.0,
            middle = x(middle),
            load = phase.load,
        );
        begun += phase.seconds;
    }
    for (n, ((name, seconds), colour)) in runs.iter().zip(["#0a9396", "#d1495b"]).enumerate() {
        let mut points = String::new();
        for (second, record) in seconds.iter().enumerate() {
            let (x, y) = (x(second as f64 + 0.5), y(record.served.len() as f64));
            let _ = write!(points, "{x:.1},{y:.1} ");
        }
        let _ = writeln!(
            out,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{}\"/>\
             <text x=\"{:.1}\" y=\"{}\" fill=\"{colour}\">{name}</text>",
            points.trim_end(),
            MARGIN + 200.0 * n as f64,
            HEIGHT - 10.0,
        );
    }
    out.push_str("</svg>\n");
    out
}
