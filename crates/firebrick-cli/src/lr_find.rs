//! `firebrick lr-find`: a learning rate for a run, from a short one with growing rates.

use std::io::Write;

use anyhow::{Result, anyhow, ensure};
use firebrick::train::{RateCurve, RateFinder};

use crate::Ended;
use crate::progress;
use crate::run_folder::RunFolder;
use crate::train;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    train: train::Args,
    /// Rate of the first step
    #[arg(long, value_name = "RATE", default_value_t = RateFinder::default().first, allow_negative_numbers = true)]
    first: f64,
    /// Rate of the last step
    #[arg(long, value_name = "RATE", default_value_t = RateFinder::default().last, allow_negative_numbers = true)]
    last: f64,
    /// Steps; the data is gone through as often as it takes
    #[arg(long, value_name = "N", default_value_t = RateFinder::default().steps)]
    steps: usize,
}

pub(crate) fn run(args: Args) -> Result<Ended> {
    let finder = RateFinder { first: args.first, last: args.last, steps: args.steps };
    finder.validate()?;
    let config = args.train.resolve()?;
    ensure!(
        config.folds == 0,
        "folds is {}, but one network is enough to find a rate; leave it out",
        config.folds
    );
    ensure!(
        !config.optimizer.starts_with("lbfgs"),
        "optimizer is `{}`, which searches its own step lengths; find a rate for another one",
        config.optimizer
    );
    train::train_or_find(config, Some(finder))
}

/// Writes the curve, and gives the rate that it suggests.
pub(crate) fn keep(curve: &RateCurve, finder: &RateFinder, folder: &RunFolder) -> Result<f64> {
    let table = folder.rates();
    curve.write_csv(&table)?;
    let picture = table.with_extension("svg");
    curve.write_svg(&picture)?;
    progress::line(&format!("{} rates were tried; {}", curve.points.len(), picture.display()));
    curve.suggestion().ok_or_else(|| {
        anyhow!(
            "the loss falls nowhere between {:e} and {:e}; look at {}, and try other rates or more --steps",
            finder.first,
            finder.last,
            picture.display()
        )
    })
}

/// Says the suggestion.
pub(crate) fn tell(rate: f64) -> Result<()> {
    writeln!(std::io::stdout(), "Suggested learning rate: {rate:.2e}")?;
    Ok(())
}
