//! `firebrick models`: the zoo as a table.

use std::io::Write;

use anyhow::Result;
use firebrick::zoo::models;

use crate::Ended;

pub(crate) fn run() -> Result<Ended> {
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{:<20} {:>12}  {:<10} {:<10} {:>7}  paper",
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
            "{:<20} {:>12}  {:<10} {weights:<10} {top_1:>7}  {}",
            spec.name,
            spec.parameters,
            format!("{height}x{width}"),
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
