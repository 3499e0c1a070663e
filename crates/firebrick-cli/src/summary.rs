//! `firebrick summary`: the layers of a model and what they cost.

use std::io::Write;

use anyhow::Result;
use firebrick::train::DeviceChoice;

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
    let open = open(&args.model, Some(&Weights::None), &device)?;
    let rows = open.model.summarize(open.preprocess.input_size);
    let shape = |shape: &[usize]| shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
    let name_width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0).max(5);
    let kind_width = rows.iter().map(|row| row.kind.len()).max().unwrap_or(0).max(4);

    let mut out = std::io::stdout().lock();
    let [height, width] = open.preprocess.input_size;
    writeln!(out, "{}, input 3x{height}x{width}\n", open.name)?;
    writeln!(
        out,
        "{:<name_width$}  {:<kind_width$}  {:<12} {:>10} {:>13}",
        "layer", "kind", "output", "parameters", "multiply-adds"
    )?;
    for row in &rows {
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
    let trainable: u64 = rows
        .iter()
        .filter(|row| !open.frozen_backbone || !row.name.starts_with("backbone."))
        .map(|row| row.parameters)
        .sum();
    let multiply_adds: u64 = rows.iter().map(|row| row.multiply_adds).sum();
    writeln!(out, "\nparameters           {parameters:>13}")?;
    writeln!(out, "trainable parameters {trainable:>13}")?;
    writeln!(out, "multiply-adds        {multiply_adds:>13}  (for one image)")?;
    Ok(Ended::Done)
}
