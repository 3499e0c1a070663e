//! `firebrick summary`: the layers of a model and what they cost.

use std::io::Write;
use std::path::Path;

use anyhow::Result;
use firebrick::nn::LayerSummary;
use firebrick::train::DeviceChoice;
use firebrick::zoo::{SequenceSpec, TableManifest, TablePackage, find, find_sequence};

use crate::Ended;
use crate::choices::Weights;
use crate::models::gibibytes;
use crate::open::open;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Name of a model (see `firebrick models`) or a model.safetensors
    #[arg(long, value_name = "NAME|FILE")]
    model: String,
}

pub(crate) fn run(args: &Args) -> Result<Ended> {
    if let Ok(spec) = find_sequence(&args.model) {
        return print_sequence(spec);
    }
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
    // A package brings its weights; those of a name are not asked for.
    let weights = find(&args.model).is_ok().then_some(&Weights::None);
    let open = open(&args.model, weights, &device)?;
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

/// A sequence model of a published size, counted without making any of it.
fn print_sequence(spec: &SequenceSpec) -> Result<Ended> {
    let tokens = spec.context();
    let rows = merged(spec.summarize(tokens));
    print(&format!("{}, {tokens} tokens; {}", spec.name, spec.paper), &rows, |_| true, "sequence")?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "weights in f32       {:>13}", gibibytes(spec.f32_bytes()))?;
    writeln!(out, "weights in f16       {:>13}", gibibytes(spec.f16_bytes()))?;
    Ok(Ended::Done)
}

/// The rows of equal blocks as those of one, with the sums of all: `blocks.0-95.output`, `96 x Linear ...`.
fn merged(rows: Vec<LayerSummary>) -> Vec<LayerSummary> {
    /// What stands before and behind a block's number.
    fn parts(name: &str) -> Option<(&str, &str)> {
        let number = name.split('.').find(|part| part.parse::<usize>().is_ok())?;
        name.split_once(&format!(".{number}."))
    }
    let mut merged: Vec<(LayerSummary, u64)> = Vec::new();
    for row in rows {
        let same = |(first, _): &&mut (LayerSummary, u64)| {
            parts(&row.name).is_some() && parts(&first.name) == parts(&row.name) && first.kind == row.kind
        };
        match merged.iter_mut().find(same) {
            Some((first, count)) => {
                *count += 1;
                first.parameters += row.parameters;
                first.multiply_adds += row.multiply_adds;
            }
            None => merged.push((row, 1)),
        }
    }
    let named = merged.into_iter().map(|(mut row, count)| {
        if count > 1 {
            row.name = row.name.replacen(".0.", &format!(".0-{}.", count - 1), 1);
            row.kind = format!("{count} x {}", row.kind);
        }
        row
    });
    named.collect()
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
    let parameters: u64 = rows.iter().map(|row| row.parameters).sum();
    let trainable: u64 = rows.iter().filter(|row| is_trained(row)).map(|row| row.parameters).sum();
    let multiply_adds: u64 = rows.iter().map(|row| row.multiply_adds).sum();
    let digits = |number: u64, least: usize| number.to_string().len().max(least);
    let (counts, costs) = (digits(parameters, 10), digits(multiply_adds, 13));

    let mut out = std::io::stdout().lock();
    writeln!(out, "{title}\n")?;
    writeln!(
        out,
        "{:<name_width$}  {:<kind_width$}  {:<12} {:>counts$} {:>costs$}",
        "layer", "kind", "output", "parameters", "multiply-adds"
    )?;
    for row in rows {
        writeln!(
            out,
            "{:<name_width$}  {:<kind_width$}  {:<12} {:>counts$} {:>costs$}",
            row.name,
            row.kind,
            shape(&row.output),
            row.parameters,
            row.multiply_adds
        )?;
    }
    writeln!(out, "\nparameters           {parameters:>costs$}")?;
    writeln!(out, "trainable parameters {trainable:>costs$}")?;
    writeln!(out, "multiply-adds        {multiply_adds:>costs$}  (for one {sample})")?;
    Ok(Ended::Done)
}
