//! How cost grows with the batch and with the image: each point in a process of its own, so that its memory is its own.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::Serialize;

use super::report::Report;
use super::{Args, check_input};
use crate::Ended;
use crate::progress;

const BATCHES: [u32; 4] = [1, 8, 32, 128];
const SIDES: [u32; 4] = [96, 160, 224, 320];

/// What `--sweep --json` prints.
#[derive(Serialize)]
struct Sweep {
    model: String,
    mode: String,
    device: String,
    points: Vec<Report>,
}

pub(super) fn run(args: &Args) -> Result<Ended> {
    let points = points(args.batch_size, args.image_size);
    for &(batch, side) in &points {
        check_input(batch, side)?;
    }
    let mut out = std::io::stdout().lock();
    let mut reports = Vec::new();
    for (index, &(batch, side)) in points.iter().enumerate() {
        progress::line(&format!("{}/{}: batch {batch}, {side}x{side}", index + 1, points.len()));
        let report = point(args, batch, side)?;
        if !args.json {
            if index == 0 {
                writeln!(out, "{}, {}, {}, f32", report.model, report.mode, report.device)?;
                writeln!(out, "batch   pixels  ms an image  share of peak  peak memory, MiB")?;
            }
            let or_dash = |figure: Option<f64>, digits: usize| {
                figure.map_or_else(|| "-".to_owned(), |figure| format!("{figure:.digits$}"))
            };
            writeln!(
                out,
                "{batch:>5}  {:>7}  {:>11.3}  {:>13}  {:>16}",
                format!("{side}x{side}"),
                report.ms_per_image,
                or_dash(report.share_of_peak.map(|share| share * 100.0), 1),
                or_dash(report.peak_rss_mb, 0)
            )?;
            out.flush()?;
        }
        reports.push(report);
    }
    if args.json {
        let device = reports.first().map_or_else(|| args.device.to_string(), |first| first.device.clone());
        let sweep = Sweep { model: args.model.clone(), mode: args.mode.to_string(), device, points: reports };
        writeln!(out, "{}", serde_json::to_string(&sweep)?)?;
    }
    Ok(Ended::Done)
}

/// Every batch at the asked size, then every other size at the asked batch.
fn points(batch: u32, side: u32) -> Vec<(u32, u32)> {
    let batches = BATCHES.map(|batch| (batch, side));
    let sides = SIDES.map(|side| (batch, side)).into_iter().filter(|point| !batches.contains(point));
    batches.into_iter().chain(sides).collect()
}

fn point(args: &Args, batch: u32, side: u32) -> Result<Report> {
    let program = std::env::current_exe().context("cannot find this program to run it again")?;
    let output = Command::new(program)
        .args(["bench", "--json", "--model", &args.model, "--mode", &args.mode.to_string()])
        .args(["--device", &args.device.to_string(), "--runs", &args.runs.to_string()])
        .args(["--batch-size", &batch.to_string(), "--image-size", &side.to_string()])
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run this program again")?;
    if !output.status.success() {
        bail!(
            "batch {batch} at {side}x{side} was not measured ({}); if it was killed, there was too little memory for it",
            output.status
        );
    }
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("batch {batch} at {side}x{side} gave no figures"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_point_is_measured_twice() {
        let usual = points(32, 224);
        assert_eq!(usual, [(1, 224), (8, 224), (32, 224), (128, 224), (32, 96), (32, 160), (32, 320)]);
        assert_eq!(points(16, 100).len(), 8);
    }
}
