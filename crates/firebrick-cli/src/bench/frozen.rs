//! A step that trains a head on a frozen base, as `firebrick train --freeze backbone --augment keras` does after decoding.

use anyhow::Result;
use firebrick::train::Extracted;
use firebrick::zoo::{CreateOptions, create};

use super::steps::{SameImages, timed_fit};
use super::{Job, Measured, created};

/// The article's: one hidden layer, ten classes.
const HIDDEN: usize = 128;
const CLASSES: usize = 10;

pub(super) fn measure(job: Job) -> Result<Measured> {
    let Job { spec, batch, side, runs, device, bar } = job;
    let options = CreateOptions { classes: CLASSES, hidden: vec![HIDDEN], ..created(side) };
    let model = create(spec, &options, &device);
    let rows = model.summarize([side, side])?;
    // Once through the base, three times through the head: forward, and the gradients of its inputs and weights.
    let flop = rows.iter().map(|row| {
        let times = if row.name.starts_with("backbone.") { 1.0 } else { 3.0 };
        times * 2.0 * row.multiply_adds as f64
    });
    let flop = flop.sum();
    let backbone = model.backbone.compile([side, side])?;
    drop(model.backbone);
    let images = SameImages::new(batch, side, CLASSES, runs + 1, &device);
    let handed_over = images.handed_over();
    let mut features = Extracted::new(images, |images| backbone.pooled(images));
    let times = timed_fit(model.head, &mut features, handed_over, bar)?;
    Ok(Measured {
        shapes: [("input", vec![batch, 3, side as usize, side as usize]), ("output", vec![batch, CLASSES])],
        flop: Some(flop),
        times,
    })
}
