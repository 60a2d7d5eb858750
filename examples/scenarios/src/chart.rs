//! Charts as SVG.

use crate::load::{Phase, Sample};
use plotters::{coord::Shift, prelude::*};
use std::error::Error;

type Drawn = Result<String, Box<dyn Error>>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const GREY: RGBColor = RGBColor(110, 119, 129);
const COLOURS: [RGBColor; 3] = [
    RGBColor(10, 147, 150),
    RGBColor(209, 73, 91),
    RGBColor(238, 155, 0),
];
/// Over which time the worst is taken.
const STEP: f64 = 0.1;

/// The slowest answer in every tenth of a second, phase by phase.
pub(crate) fn latency(title: &str, phases: &[Phase], series: &[&'static str]) -> Drawn {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (960, 360)).into_drawing_area();
        draw_latency(&area, title, phases, series)?;
        area.present()?;
    }
    Ok(svg)
}

fn draw_latency(
    area: &Area<'_>,
    title: &str,
    phases: &[Phase],
    series: &[&'static str],
) -> Result<(), Box<dyn Error>> {
    let (Some(first), Some(last)) = (phases.first(), phases.last()) else {
        return Ok(());
    };
    area.fill(&WHITE)?;
    let (from, until) = (first.from, last.until);
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 15).into_font().color(&GREY))
        .margin(8)
        .x_label_area_size(28)
        .y_label_area_size(64)
        .build_cartesian_2d(from..until, (0.1..20_000.0).log_scale())?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_desc("seconds")
        .y_desc("slowest answer, ms")
        .axis_style(GREY)
        .label_style(("sans-serif", 11).into_font().color(&GREY))
        .y_label_formatter(&|ms| format!("{ms}"))
        .draw()?;
    let others = phases.iter().filter(|phase| phase.name != first.name);
    // What is as in the first phase is left white, and not named again.
    for (n, phase) in std::iter::once(first).chain(others).enumerate() {
        if n > 0 {
            let band = [(phase.from, 0.1), (phase.until, 20_000.0)];
            let band = Rectangle::new(band, GREY.mix(0.1).filled());
            chart.draw_series([band])?;
        }
        // In two lines, so that neighbours do not touch.
        let height = [12_000.0, 6_000.0][n % 2];
        let style = ("sans-serif", 10).into_font().color(&GREY);
        let name = Text::new(phase.name.clone(), (phase.from, height), style);
        chart.draw_series([name])?;
    }
    for (series, colour) in series.iter().zip(COLOURS) {
        let line = LineSeries::new(worst(phases, series), colour.stroke_width(2));
        chart
            .draw_series(line)?
            .label(*series)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .label_font(("sans-serif", 11).into_font().color(&GREY))
        .background_style(WHITE.mix(0.8))
        .draw()?;
    Ok(())
}

fn worst(phases: &[Phase], series: &str) -> Vec<(f64, f64)> {
    let (Some(first), Some(last)) = (phases.first(), phases.last()) else {
        return Vec::new();
    };
    let samples = || phases.iter().flat_map(|phase| &phase.samples);
    let Some(begun) = samples().map(|sample| sample.due).min() else {
        return Vec::new();
    };
    let steps = ((last.until - first.from) / STEP).ceil() as usize;
    let mut worst = vec![0.0_f64; steps + 1];
    for Sample { due, took, .. } in samples().filter(|sample| sample.series == series) {
        let step = (due.duration_since(begun).as_secs_f64() / STEP) as usize;
        if let Some(worst) = worst.get_mut(step) {
            *worst = worst.max(took.as_secs_f64() * 1e3);
        }
    }
    let points = worst.into_iter().enumerate();
    let points = points.map(|(step, ms)| (first.from + step as f64 * STEP, ms));
    points.filter(|(_, ms)| *ms > 0.0).collect()
}

/// Bars side by side: theirs, ours.
pub(crate) fn bars(title: &str, bars: &[(&str, f64)]) -> Drawn {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (960, 40 + 34 * bars.len() as u32));
        let area = area.into_drawing_area();
        area.fill(&WHITE)?;
        let text = |size: i32| ("sans-serif", size).into_font().color(&GREY);
        area.draw(&Text::new(title, (8, 8), text(15)))?;
        let most = bars.iter().map(|(_, value)| *value).fold(1e-9, f64::max);
        for (n, (name, value)) in bars.iter().enumerate() {
            let top = 34 + 34 * n as i32;
            let right = 300 + (540.0 * value / most) as i32;
            let colour = COLOURS[usize::from(name.starts_with("write-up"))];
            let bar = Rectangle::new([(300, top), (right, top + 22)], colour.filled());
            area.draw(&bar)?;
            area.draw(&Text::new(*name, (8, top + 4), text(12)))?;
            area.draw(&Text::new(
                format!("{value:.0}"),
                (right + 6, top + 4),
                text(12),
            ))?;
        }
        area.present()?;
    }
    Ok(svg)
}
