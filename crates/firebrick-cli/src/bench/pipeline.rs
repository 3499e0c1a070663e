//! From a JPEG in memory to an augmented, normalised input, on one thread.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use firebrick::augment::{DrawKey, Geometry, ImageDataGenerator, Interpolation, Normalization, Preprocess};
use firebrick::data::{DecodeLimits, decode_bytes};

use super::{Job, Measured, photo};

pub(super) fn measure(job: Job) -> Result<Measured> {
    let Job { batch, side, runs, bar, .. } = job;
    let file = photo::jpeg()?;
    let name = Path::new("the generated JPEG");
    let limits = DecodeLimits::default();
    let generator = ImageDataGenerator::keras_article();
    let preprocess = Preprocess {
        input_size: [side, side],
        geometry: Geometry::Squash,
        interpolation: Interpolation::Bilinear,
        normalization: Normalization::imagenet(),
    };
    let mut times = Vec::with_capacity(runs);
    for run in 0..=runs {
        let started = Instant::now();
        for sample in 0..batch {
            let image = decode_bytes(&file, name, &limits)?;
            let image = preprocess.geometry(&image);
            let key = DrawKey { seed: 0, epoch: run as u64, sample: sample as u64 };
            let mut input = generator.apply(&image, &generator.draw(key, side, side));
            preprocess.normalization.apply(&mut input);
            std::hint::black_box(input);
        }
        let time = started.elapsed();
        if run > 0 {
            times.push(time);
        }
        bar.inc(1);
    }
    Ok(Measured {
        shapes: [("input", vec![320, 500, 3]), ("output", vec![side as usize, side as usize, 3])],
        flop: None,
        times,
    })
}
