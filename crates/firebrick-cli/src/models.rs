//! `firebrick models`: the zoo as two tables, one of images and one of sequences, and where weights come from.

use std::io::Write;

use anyhow::Result;
use firebrick::zoo::{models, sequence_models};

use crate::Ended;

/// Of weights.
pub(crate) fn gibibytes(bytes: u64) -> String {
    format!("{:.2} GiB", bytes as f64 / f64::from(1 << 30))
}

pub(crate) fn run() -> Result<Ended> {
    let mut out = std::io::stdout().lock();
    let names = models().map(|spec| spec.name).chain(sequence_models().iter().map(|spec| spec.name));
    let longest = names.map(str::len).max().unwrap_or_default();
    writeln!(
        out,
        "{:<longest$} {:>15}  {:<10} {:<10} {:>7}  paper",
        "name", "parameters", "input", "weights", "top-1"
    )?;
    for spec in models() {
        let [height, width] = spec.input_size;
        let (weights, top_1) = match spec.weights.first() {
            Some(weights) => (weights.name, format!("{:.2} %", weights.top_1)),
            None => ("none", "-".to_owned()),
        };
        writeln!(
            out,
            "{:<longest$} {:>15}  {:<10} {weights:<10} {top_1:>7}  {}",
            spec.name,
            spec.parameters,
            format!("{height}x{width}"),
            spec.paper
        )?;
    }
    writeln!(
        out,
        "\n{:<longest$} {:>15}  {:>7}  {:>10}  {:>10}  paper",
        "of sequences", "parameters", "tokens", "f32", "f16"
    )?;
    for spec in sequence_models() {
        writeln!(
            out,
            "{:<longest$} {:>15}  {:>7}  {:>10}  {:>10}  {}",
            spec.name,
            spec.parameters,
            spec.context(),
            gibibytes(spec.f32_bytes()),
            gibibytes(spec.f16_bytes()),
            spec.paper
        )?;
    }
    for spec in models() {
        for weights in spec.weights {
            writeln!(
                out,
                "\n{} / {}: {}\n  {}\n  sha256 {}",
                spec.name, weights.name, weights.licence, weights.url, weights.sha256
            )?;
        }
    }
    Ok(Ended::Done)
}
