//! Loss and accuracy over the epochs, as a picture.

use std::path::Path;

use plotters::prelude::*;

use crate::file::write_atomically;
use crate::{EpochRecord, History, RateCurve, TrainError};

const SIZE: (u32, u32) = (960, 400);
const TRAINING: RGBColor = RGBColor(0x1f, 0x77, 0xb4);
const VALIDATION: RGBColor = RGBColor(0xd6, 0x27, 0x28);

/// One panel: a title and its two lines.
struct Panel {
    title: &'static str,
    training: fn(&EpochRecord) -> Option<f64>,
    validation: fn(&EpochRecord) -> Option<f64>,
    /// The most that the figure can be, if it has a bound.
    bound: Option<f64>,
}

const PANELS: [Panel; 2] = [
    Panel { title: "Loss", training: |r| Some(r.loss), validation: |r| r.val_loss, bound: None },
    Panel {
        title: "Accuracy",
        training: |r| Some(r.accuracy),
        validation: |r| r.val_accuracy,
        bound: Some(1.0),
    },
];

/// Draws loss and accuracy of training and validation as an SVG file of two panels.
///
/// # Errors
///
/// [`TrainError::Io`] naming the file.
pub fn write_curves(history: &History, path: &Path) -> Result<(), TrainError> {
    write_panels(history, &PANELS, path)
}

/// Draws loss and R² of training and validation, as [`write_curves`] does; what of R² is below 0 is cut off.
///
/// # Errors
///
/// [`TrainError::Io`] naming the file.
pub fn write_regression_curves(history: &History, path: &Path) -> Result<(), TrainError> {
    let [loss, explained] = PANELS;
    write_panels(history, &[loss, Panel { title: "R²", ..explained }], path)
}

fn write_panels(history: &History, panels: &[Panel], path: &Path) -> Result<(), TrainError> {
    let mut svg = String::new();
    draw(history, panels, &mut svg)
        .map_err(|error| TrainError::io(path, "draw")(std::io::Error::other(error.to_string())))?;
    write_atomically(path, svg.as_bytes())
}

fn draw<'a>(
    history: &History,
    panels: &[Panel],
    svg: &'a mut String,
) -> Result<(), Box<dyn std::error::Error + 'a>> {
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    for (area, panel) in root.split_evenly((1, panels.len())).iter().zip(panels) {
        draw_panel(history, panel, area)?;
    }
    root.present()?;
    Ok(())
}

/// Losses over rates, with the rate that is suggested.
pub(crate) fn draw_rates(curve: &RateCurve, path: &Path) -> Result<(), TrainError> {
    let mut svg = String::new();
    draw_rates_to(curve, &mut svg)
        .map_err(|error| TrainError::io(path, "draw")(std::io::Error::other(error.to_string())))?;
    write_atomically(path, svg.as_bytes())
}

fn draw_rates_to<'a>(curve: &RateCurve, svg: &'a mut String) -> Result<(), Box<dyn std::error::Error + 'a>> {
    let root = SVGBackend::with_string(svg, (640, SIZE.1)).into_drawing_area();
    root.fill(&WHITE)?;
    let of = |column: usize| curve.points.iter().map(move |point| (point[0].log10(), point[column]));
    // The last batches, whose losses run away, would press the rest to the floor.
    let smoothed: Vec<f64> = of(2).map(|point| point.1).collect();
    let least = smoothed.iter().copied().fold(f64::INFINITY, f64::min);
    let first = smoothed.first().copied().unwrap_or(1.0);
    let least = if least.is_finite() { least } else { 0.0 };
    let lowest = of(1).map(|point| point.1).fold(least, f64::min);
    let (bottom, top) = ((lowest - 0.05 * (first - lowest)).max(0.0), first.max(least + 0.01) * 1.6);
    let (left, right) = (of(1).next().map_or(-1.0, |p| p.0), of(1).next_back().map_or(0.0, |p| p.0));
    let mut chart = ChartBuilder::on(&root)
        .caption("Learning rate range test", ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(52)
        .build_cartesian_2d(left..right.max(left + 1.0), bottom..top)?;
    chart
        .configure_mesh()
        .x_desc("learning rate")
        .y_desc("loss")
        .x_labels(9)
        .x_label_formatter(&|log| format!("{:.0e}", 10f64.powf(*log)))
        .y_label_formatter(&|value| format!("{value:.2}"))
        .light_line_style(TRANSPARENT)
        .draw()?;
    let inside = |points: &mut dyn Iterator<Item = (f64, f64)>| -> Vec<(f64, f64)> {
        points.map(|(x, y)| (x, y.clamp(bottom, top))).collect()
    };
    for (name, color, points) in [
        ("batch", TRAINING.mix(0.35), inside(&mut of(1))),
        ("smoothed", TRAINING.mix(1.0), inside(&mut of(2))),
    ] {
        chart
            .draw_series(LineSeries::new(points, color.stroke_width(2)))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2)));
    }
    if let Some(rate) = curve.suggestion() {
        let line = vec![(rate.log10(), bottom), (rate.log10(), top)];
        chart
            .draw_series(LineSeries::new(line, VALIDATION.stroke_width(2)))?
            .label(format!("suggested, {rate:.1e}"))
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], VALIDATION.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    root.present()?;
    Ok(())
}

fn draw_panel<'a>(
    history: &History,
    panel: &Panel,
    area: &DrawingArea<SVGBackend<'a>, plotters::coord::Shift>,
) -> Result<(), Box<dyn std::error::Error + 'a>> {
    let line = |figure: fn(&EpochRecord) -> Option<f64>| -> Vec<(f64, f64)> {
        history.epochs.iter().filter_map(|record| Some((record.epoch as f64, figure(record)?))).collect()
    };
    let lines =
        [("training", TRAINING, line(panel.training)), ("validation", VALIDATION, line(panel.validation))];

    let values = lines.iter().flat_map(|(_, _, points)| points.iter().map(|point| point.1));
    let (low, high) =
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    let (low, high) = if low <= high { (low, high) } else { (0.0, 1.0) };
    let margin = ((high - low) * 0.05).max(0.01);
    let top = panel.bound.map_or(high + margin, |bound| bound.min(high + margin));
    let bottom = (low - margin).max(0.0);
    let top = top.max(bottom + margin);
    let last = history.epochs.last().map_or(2, |record| record.epoch.max(2)) as f64;

    let mut chart = ChartBuilder::on(area)
        .caption(panel.title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(52)
        .build_cartesian_2d(1.0..last, bottom..top)?;
    chart
        .configure_mesh()
        .x_desc("epoch")
        .x_labels(8)
        .x_label_formatter(&|epoch| format!("{epoch:.0}"))
        .y_label_formatter(&|value| format!("{value:.2}"))
        .light_line_style(TRANSPARENT)
        .draw()?;
    for (name, color, points) in lines {
        if points.is_empty() {
            continue;
        }
        // A single epoch has no line; its point is still seen.
        chart.draw_series(points.iter().map(|&point| Circle::new(point, 2, color.filled())))?;
        chart
            .draw_series(LineSeries::new(points, color.stroke_width(2)))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2)));
    }
    chart.configure_series_labels().background_style(WHITE.mix(0.85)).border_style(BLACK.mix(0.3)).draw()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(epochs: usize) -> History {
        let record = |epoch: usize| EpochRecord {
            epoch,
            loss: 2.0 / epoch as f64,
            accuracy: 1.0 - 0.9 / epoch as f64,
            val_loss: Some(2.2 / epoch as f64),
            val_accuracy: Some(1.0 - 0.95 / epoch as f64),
            penalty: None,
            lr: 1e-3,
            seconds: 1.0,
        };
        History { epochs: (1..=epochs).map(record).collect() }
    }

    #[test]
    fn both_panels_and_both_lines_are_named() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("curves.svg");
        write_curves(&history(12), &path).expect("drawn");
        let svg = std::fs::read_to_string(&path).expect("written");
        for text in ["Loss", "Accuracy", "training", "validation", "epoch"] {
            assert!(svg.contains(text), "{text} is missing");
        }
        assert!(svg.matches("<polyline").count() >= 4);
    }

    #[test]
    fn a_regressions_curves_are_of_r2() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("curves.svg");
        let mut history = history(3);
        for epoch in &mut history.epochs {
            epoch.accuracy = -epoch.accuracy;
            epoch.val_accuracy = Some(-2.0);
        }
        write_regression_curves(&history, &path).expect("drawn");
        let svg = std::fs::read_to_string(&path).expect("written");
        assert!(svg.contains("R²") && !svg.contains("Accuracy"));
    }

    #[test]
    fn no_epoch_and_one_epoch_are_drawn_too() {
        let folder = tempfile::tempdir().expect("temporary folder");
        for epochs in [0, 1] {
            write_curves(&history(epochs), &folder.path().join("curves.svg")).expect("drawn");
        }
    }
}
