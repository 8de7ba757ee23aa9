//! Diagrams as SVG.

use crate::evaluation::{Curve, OneVersusRest};
use crate::{ActivationRange, ReportError};
use galen_models::metrics::Calibration;
use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use std::error::Error;
use std::ops::Range;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn Error>>;

/// Colours that can be told apart with colour-blindness (Okabe and Ito, "Color universal design", 2008), without yellow.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(70, 70, 70),
];
const GRID: RGBColor = RGBColor(230, 230, 230);
const FONT: (&str, i32) = ("sans-serif", 13);

fn colour(number: usize) -> RGBColor {
    COLOURS[number % COLOURS.len()]
}

/// Draws into a picture of the given size.
fn picture(
    name: &str,
    size: (u32, u32),
    draw: impl FnOnce(&Area<'_>) -> Drawn,
) -> Result<String, ReportError> {
    let mut svg = String::new();
    let drawn = {
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        draw(&area).and_then(|()| Ok(area.present()?))
    };
    match drawn {
        Ok(()) => Ok(svg),
        Err(error) => Err(ReportError::Draw {
            picture: name.to_owned(),
            reason: error.to_string(),
        }),
    }
}

/// The extent of some numbers, a little widened; never empty.
fn extent(numbers: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = numbers.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| {
        (l.min(v), h.max(v))
    });
    if low > high {
        return (0.0, 1.0);
    }
    let margin = if high > low {
        0.05 * (high - low)
    } else {
        0.05 * low.abs().max(1.0)
    };
    (low - margin, high + margin)
}

type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// Axes with a grid: their extents, what they show, the room for the texts below and on the left, and about how many numbers each has.
fn axes<'a, 'b>(
    area: &'a Area<'b>,
    [x, y]: [Range<f64>; 2],
    [below, beside]: [&str; 2],
    [height, width]: [u32; 2],
    numbers: usize,
) -> Result<Chart<'a, 'b>, Box<dyn Error>> {
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .x_label_area_size(height)
        .y_label_area_size(width)
        .build_cartesian_2d(x, y)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .bold_line_style(GRID)
        .label_style(FONT)
        .x_labels(numbers)
        .y_labels(numbers)
        .x_desc(below)
        .y_desc(beside)
        .draw()?;
    Ok(chart)
}

/// Names the labelled lines of a chart.
fn legend<'a, 'b: 'a>(chart: &mut Chart<'a, 'b>, position: SeriesLabelPosition) -> Drawn {
    chart
        .configure_series_labels()
        .position(position)
        .background_style(WHITE.mix(0.85))
        .border_style(GRID)
        .label_font(FONT)
        .draw()?;
    Ok(())
}

/// Lines over epochs or rounds.
pub(crate) fn learning(quantity: &str, lines: &[Curve]) -> Result<String, ReportError> {
    let points = || lines.iter().flat_map(|l| &l.points);
    let (left, right) = extent(points().map(|p| p[0]));
    let (low, high) = extent(points().map(|p| p[1]));
    picture(quantity, (520, 340), |area| {
        let mut chart = axes(area, [left..right, low..high], ["epoch", quantity], [42, 62], 10)?;
        for (number, line) in lines.iter().enumerate() {
            let style = colour(number).stroke_width(2);
            let points = line.points.iter().map(|p| (p[0], p[1]));
            chart
                .draw_series(LineSeries::new(points, style))?
                .label(line.name.as_str())
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
        }
        legend(&mut chart, SeriesLabelPosition::MiddleRight)
    })
}

/// ROC curves with the diagonal of chance.
pub(crate) fn roc(curves: &[OneVersusRest]) -> Result<String, ReportError> {
    picture("ROC", (420, 420), |area| {
        let names = ["false positive rate", "true positive rate"];
        let mut chart = axes(area, [0.0..1.0, 0.0..1.0], names, [42, 52], 6)?;
        chart.draw_series(LineSeries::new([(0.0, 0.0), (1.0, 1.0)], RGBColor(170, 170, 170)))?;
        for (number, curve) in curves.iter().enumerate() {
            let style = colour(number).stroke_width(2);
            let series =
                chart.draw_series(LineSeries::new(curve.points.iter().map(|p| (p[0], p[1])), style))?;
            // A legend of more lines than colours tells nothing; the table beside it has all areas.
            if curves.len() <= COLOURS.len() {
                series
                    .label(format!("{} {:.4}", curve.class, curve.auc))
                    .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
            }
        }
        if curves.len() <= COLOURS.len() {
            legend(&mut chart, SeriesLabelPosition::LowerRight)?;
        }
        Ok(())
    })
}

/// A reliability diagram: frequency over confidence, bars of the bins, and how many samples each has.
pub(crate) fn reliability(calibration: &Calibration, two_classes: bool) -> Result<String, ReportError> {
    let bins = calibration.bins.len().max(1) as f64;
    let most = calibration.bins.iter().map(|b| b.count).max().unwrap_or(0).max(1) as f64;
    picture("calibration", (420, 420), |area| {
        let (upper, lower) = area.split_vertically(310);
        let share = match two_classes {
            true => "share of class 1",
            false => "share that is right",
        };
        let mut chart = axes(&upper, [0.0..1.0, 0.0..1.0], ["", share], [22, 52], 6)?;
        let used = || {
            calibration
                .bins
                .iter()
                .enumerate()
                .filter(|(_, bin)| bin.count > 0)
        };
        let bar = |(number, height): (usize, f64), style| {
            let left = number as f64 / bins;
            Rectangle::new([(left, 0.0), (left + 1.0 / bins, height)], style)
        };
        chart.draw_series(used().map(|(i, bin)| bar((i, bin.frequency), COLOURS[4].mix(0.5).filled())))?;
        chart.draw_series(LineSeries::new([(0.0, 0.0), (1.0, 1.0)], RGBColor(120, 120, 120)))?;
        chart.draw_series(
            used().map(|(_, bin)| Circle::new((bin.confidence, bin.frequency), 4, COLOURS[0].filled())),
        )?;
        let mut counts = ChartBuilder::on(&lower)
            .margin_left(12)
            .margin_right(12)
            .x_label_area_size(42)
            .y_label_area_size(52)
            .build_cartesian_2d(0.0..1.0, 0.0..most)?;
        counts
            .configure_mesh()
            .disable_mesh()
            .label_style(FONT)
            .x_labels(6)
            .y_labels(3)
            .y_label_formatter(&|v: &f64| format!("{v:.0}"))
            .x_desc(if two_classes {
                "probability of class 1"
            } else {
                "largest probability"
            })
            .y_desc("samples")
            .draw()?;
        counts
            .draw_series(used().map(|(i, bin)| bar((i, bin.count as f64), COLOURS[6].mix(0.6).filled())))?;
        Ok(())
    })
}

/// Predicted over true numbers.
pub(crate) fn scatter(name: &str, pairs: &[[f64; 2]]) -> Result<String, ReportError> {
    let (low, high) = extent(pairs.iter().flatten().copied());
    picture(name, (420, 420), |area| {
        let names = [format!("true {name}"), format!("predicted {name}")];
        let names = names.each_ref().map(String::as_str);
        let mut chart = axes(area, [low..high, low..high], names, [42, 62], 6)?;
        chart.draw_series(LineSeries::new(
            [(low, low), (high, high)],
            RGBColor(120, 120, 120),
        ))?;
        chart.draw_series(
            pairs
                .iter()
                .map(|p| Circle::new((p[0], p[1]), 3, COLOURS[0].mix(0.5).filled())),
        )?;
        Ok(())
    })
}

/// One bar per activation: what it was made for, and within or beyond it what was seen.
pub(crate) fn activations(ranges: &[ActivationRange]) -> Result<String, ReportError> {
    let ends = |r: &ActivationRange| [Some([r.min, r.max]), r.interval, Some([0.0, 0.0])];
    let (left, right) = extent(ranges.iter().flat_map(ends).flatten().flatten());
    let rows = ranges.len().max(1);
    let height = 70 + 28 * rows.min(200) as u32;
    picture("activation ranges", (720, height), |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(12)
            .x_label_area_size(42)
            .y_label_area_size(8)
            .build_cartesian_2d(left..right, 0.0..rows as f64)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .disable_y_axis()
            .light_line_style(WHITE)
            .bold_line_style(GRID)
            .label_style(FONT)
            .x_desc("input of the activation")
            .draw()?;
        // The first activation is at the top.
        let bar = |row: usize, ends: [f64; 2], inset: f64, style| {
            let bottom = (rows - 1 - row) as f64;
            Rectangle::new(
                [(ends[0], bottom + inset), (ends[1], bottom + 1.0 - inset)],
                style,
            )
        };
        let made_for = ranges
            .iter()
            .enumerate()
            .filter_map(|(row, r)| Some((row, r.interval?)));
        chart.draw_series(
            made_for.map(|(row, ends)| bar(row, ends, 0.12, RGBColor(210, 210, 210).filled())),
        )?;
        let seen = ranges.iter().enumerate().map(|(row, r)| {
            let style = if outside(r) { COLOURS[1] } else { COLOURS[0] };
            bar(row, [r.min, r.max], 0.28, style.mix(0.8).filled())
        });
        chart.draw_series(seen)?;
        chart.draw_series(
            ranges
                .iter()
                .enumerate()
                .map(|(row, r)| Text::new(r.layer.clone(), (left, (rows - row) as f64 - 0.25), FONT)),
        )?;
        Ok(())
    })
}

/// Whether inputs were seen outside of what an activation is made for.
pub(crate) fn outside(range: &ActivationRange) -> bool {
    range
        .interval
        .is_some_and(|[low, high]| range.min < low || range.max > high)
}
