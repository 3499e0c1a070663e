//! A step that trains the whole network, as `firebrick train --freeze none` does.

use anyhow::Result;
use firebrick::zoo::create;

use super::steps::{SameImages, timed_fit};
use super::{Job, Measured, created};

pub(super) fn measure(job: Job) -> Result<Measured> {
    let Job { spec, batch, side, runs, device, bar } = job;
    let options = created(side);
    let model = create(spec, &options, &device);
    let multiply_adds: u64 = model.summarize([side, side])?.iter().map(|row| row.multiply_adds).sum();
    let mut images = SameImages::new(batch, side, options.classes, runs + 1, &device);
    let handed_over = images.handed_over();
    let times = timed_fit(model, &mut images, handed_over, bar)?;
    Ok(Measured {
        shapes: [
            ("input", vec![batch, 3, side as usize, side as usize]),
            ("output", vec![batch, options.classes]),
        ],
        // The gradients of a layer's inputs and of its weights cost what its forward pass does, each.
        flop: Some(3.0 * 2.0 * multiply_adds as f64),
        times,
    })
}
