//! Images to logits with the network compiled.

use std::time::Instant;

use anyhow::Result;
use firebrick::burn::tensor::{Tensor, TensorData};
use firebrick::nn::Network;
use firebrick::zoo::create;

use super::{Job, Measured, created, pixels};

pub(super) fn measure(job: Job) -> Result<Measured> {
    let Job { spec, batch, side, runs, device, bar } = job;
    let model = create(spec, &created(side), &device);
    let multiply_adds: u64 = model.summarize([side, side])?.iter().map(|row| row.multiply_adds).sum();
    let backbone = model.backbone.compile([side, side])?;
    // The compiled backbone has its own copy.
    drop(model.backbone);
    let head = model.head;
    let shape = [batch, side as usize, side as usize, 3];
    let images = TensorData::new(pixels(shape.iter().product()), shape);

    let mut times = Vec::with_capacity(runs);
    let mut classes = 0;
    for run in 0..=runs {
        // As the loader gives them: channels last in memory, and nobody else's.
        let images = Tensor::<4>::from_data(images.clone(), &device).permute([0, 3, 1, 2]);
        let started = Instant::now();
        let logits = head.forward(backbone.pooled(images));
        classes = logits.dims()[1];
        // A GPU has not computed them before they are asked for.
        let logits = logits.into_data();
        let time = started.elapsed();
        std::hint::black_box(logits);
        if run > 0 {
            times.push(time);
        }
        bar.inc(1);
    }
    Ok(Measured {
        shapes: [("input", vec![batch, 3, side as usize, side as usize]), ("output", vec![batch, classes])],
        flop: Some(2.0 * multiply_adds as f64),
        times,
    })
}
