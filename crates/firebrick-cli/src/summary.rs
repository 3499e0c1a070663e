//! `firebrick summary`: the layers of a model and what they cost.

use std::io::Write;
use std::path::Path;

use anyhow::Result;
use firebrick::nn::LayerSummary;
use firebrick::train::DeviceChoice;
use firebrick::zoo::{TableManifest, TablePackage};

use crate::Ended;
use crate::choices::Weights;
use crate::open::open;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Name of a model (see `firebrick models`) or a model.safetensors
    #[arg(long, value_name = "NAME|FILE")]
    model: String,
}

pub(crate) fn run(args: &Args) -> Result<Ended> {
    // No number is computed, so no graphics driver is woken.
    let cpu = DeviceChoice::NdArray.open().or_else(|_| DeviceChoice::Flex.open());
    let device = cpu.or_else(|_| DeviceChoice::Auto.open())?;
    let path = Path::new(&args.model);
    if TablePackage::is_at(path) {
        let TablePackage { manifest, model } = TablePackage::open(path, &device)?;
        let mut rows = Vec::new();
        model.summarize("network", &mut rows);
        let title =
            format!("{}, {} inputs: {}", manifest.architecture, manifest.encoder.width(), inputs(&manifest));
        return print(&title, &rows, |_| true, "row");
    }
    let open = open(&args.model, Some(&Weights::None), &device)?;
    let rows = open.model.summarize(open.preprocess.input_size)?;
    let [height, width] = open.preprocess.input_size;
    let stages = open.model.backbone.graph().stages().iter().map(|stage| stage.name.as_str());
    let stages = stages.collect::<Vec<_>>().join(", ");
    let title = format!(
        "{}, input 3x{height}x{width}; stages, as --freeze and --stage-rates take them: {stages}",
        open.name
    );
    let is_trained = |row: &LayerSummary| !open.frozen_backbone || !row.name.starts_with("backbone.");
    print(&title, &rows, is_trained, "image")
}

/// The first of the inputs' names.
fn inputs(manifest: &TableManifest) -> String {
    const SHOWN: usize = 12;
    let mut names = manifest.encoder.input_names();
    let others = names.len().saturating_sub(SHOWN);
    names.truncate(SHOWN);
    match others {
        0 => names.join(", "),
        others => format!("{}, and {others} more", names.join(", ")),
    }
}

/// A line a layer, then the sums.
fn print(
    title: &str,
    rows: &[LayerSummary],
    is_trained: impl Fn(&LayerSummary) -> bool,
    sample: &str,
) -> Result<Ended> {
    let shape = |shape: &[usize]| shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
    let name_width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0).max(5);
    let kind_width = rows.iter().map(|row| row.kind.len()).max().unwrap_or(0).max(4);

    let mut out = std::io::stdout().lock();
    writeln!(out, "{title}\n")?;
    writeln!(
        out,
        "{:<name_width$}  {:<kind_width$}  {:<12} {:>10} {:>13}",
        "layer", "kind", "output", "parameters", "multiply-adds"
    )?;
    for row in rows {
        writeln!(
            out,
            "{:<name_width$}  {:<kind_width$}  {:<12} {:>10} {:>13}",
            row.name,
            row.kind,
            shape(&row.output),
            row.parameters,
            row.multiply_adds
        )?;
    }
    let parameters: u64 = rows.iter().map(|row| row.parameters).sum();
    let trainable: u64 = rows.iter().filter(|row| is_trained(row)).map(|row| row.parameters).sum();
    let multiply_adds: u64 = rows.iter().map(|row| row.multiply_adds).sum();
    writeln!(out, "\nparameters           {parameters:>13}")?;
    writeln!(out, "trainable parameters {trainable:>13}")?;
    writeln!(out, "multiply-adds        {multiply_adds:>13}  (for one {sample})")?;
    Ok(Ended::Done)
}
