//! A contact sheet of augmented images: a row an image, its first column as it is.
//!
//! ```text
//! cargo run --release --example augment_preview -p firebrick-examples [OUT.png] [IMAGE...]
//! ```
#![allow(clippy::print_stdout, reason = "an example prints")]

use std::path::PathBuf;

use firebrick::augment::{DrawKey, ImageDataGenerator, Interpolation, contact_sheet, resize};
use firebrick::data::{DecodeLimits, FolderOptions, ImageFolder, builtin_fashion, cache_dir, decode};
use image::{Rgb, RgbImage};

const SIDE: u32 = 112;
const VARIANTS: u64 = 7;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let out = arguments.next().unwrap_or_else(|| "augment_preview.png".to_owned());
    let mut paths: Vec<PathBuf> = arguments.map(PathBuf::from).collect();
    if paths.is_empty() {
        let options = FolderOptions { validation_split: 0.2, seed: 0 };
        let samples = ImageFolder::open(builtin_fashion(&cache_dir()?)?, &options)?.train;
        // One image of each of the ten classes.
        paths = samples.chunks(samples.len() / 10).map(|class| class[0].path.clone()).collect();
    }

    let generator = ImageDataGenerator::keras_article();
    let mut images = Vec::new();
    for (sample, path) in paths.iter().enumerate() {
        let original = resize(&decode(path, &DecodeLimits::default())?, SIDE, SIDE, Interpolation::Bilinear);
        for epoch in 0..VARIANTS {
            let draw = generator.draw(DrawKey { seed: 0, epoch, sample: sample as u64 }, SIDE, SIDE);
            let augmented = generator.apply(&original, &draw);
            images.push(RgbImage::from_fn(SIDE, SIDE, |x, y| {
                Rgb(augmented.get_pixel(x, y).0.map(|v| v.round() as u8))
            }));
        }
        images.insert(images.len() - VARIANTS as usize, original);
    }
    contact_sheet(&images, VARIANTS as u32 + 1, 4).save(&out)?;
    println!("{out}: {} images, {VARIANTS} variants of each", paths.len());
    Ok(())
}
