//! `firebrick augment`: what an augmentation does to images, to look at.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use firebrick::augment::{
    Augmentation, DrawKey, Geometry, ImageDataGenerator, Interpolation, Normalization, Pipeline, Preprocess,
    contact_sheet,
};
use firebrick::data::{DecodeLimits, FolderOptions, ImageFolder, decode};
use image::{ImageFormat, Rgb, RgbImage};

use crate::Ended;
use crate::choices::{Augment, DataSource};
use crate::eval::write_whole;
use crate::progress;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A folder of images as for `train`
    #[arg(long, value_name = "DIR|builtin:fashion")]
    data: DataSource,
    /// The augmentation, as for `train`
    #[arg(long, value_name = "NAME|FILE.toml")]
    augment: Augment,
    /// PNG file to write: a row an image, its first column as it is
    #[arg(long, value_name = "FILE.png")]
    preview: PathBuf,
    /// Images
    #[arg(long, default_value_t = 8, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    count: u32,
    /// Variants of each
    #[arg(long, default_value_t = 7, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    variants: u32,
    /// Side of the square that images are resized to, pixels
    #[arg(long, default_value_t = 112, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(1..=512))]
    input_size: u32,
    /// Seed of the draws
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
}

pub(crate) fn run(args: &Args) -> Result<Ended> {
    let augmentation = args.augment.clone().load()?.augmentation()?;
    let augmentation = augmentation.unwrap_or(Augmentation::Pipeline(Pipeline::default()));
    let options = FolderOptions { validation_split: 0.2, seed: 0 };
    let samples = ImageFolder::open(crate::train::folder_of(&args.data)?, &options)?.train;
    ensure!(!samples.is_empty(), "{}: there is no image", args.data);
    // Spread over the samples, which are sorted by their classes.
    let count = (args.count as usize).min(samples.len());
    let preprocess = Preprocess {
        input_size: [args.input_size; 2],
        geometry: Geometry::Squash,
        interpolation: Interpolation::Bilinear,
        normalization: Normalization::imagenet(),
    };
    let mut images = Vec::new();
    for row in 0..count {
        let sample = row * samples.len() / count;
        let decoded = decode(&samples[sample].path, &DecodeLimits::default())?;
        images.push(preprocess.geometry(&decoded).into_owned());
        for epoch in 0..u64::from(args.variants) {
            let key = DrawKey { seed: args.seed, epoch, sample: sample as u64 };
            let varied = augmentation.apply(key, &decoded, &preprocess);
            images.push(RgbImage::from_fn(varied.width(), varied.height(), |x, y| {
                Rgb(varied.get_pixel(x, y).0.map(|level| level.round() as u8))
            }));
        }
    }
    let mut png = Vec::new();
    contact_sheet(&images, args.variants + 1, 4).write_to(&mut Cursor::new(&mut png), ImageFormat::Png)?;
    write_whole(&args.preview, &png)?;
    progress::line(&format!(
        "{count} images, {} variants of each; {}",
        args.variants,
        args.preview.display()
    ));
    Ok(Ended::Done)
}

impl Augment {
    /// In place of a file's name what is in it, so that a configuration says it all.
    pub(crate) fn load(self) -> Result<Self> {
        match self {
            Self::Named(name) if name == "none" || name == "keras" || Pipeline::named(&name).is_some() => {
                Ok(Self::Named(name))
            }
            Self::Named(path) => read(Path::new(&path)),
            inline => Ok(inline),
        }
    }

    /// The augmentation; none where images are left alone.
    pub(crate) fn augmentation(&self) -> Result<Option<Augmentation>> {
        let augmentation = match self {
            Self::Named(name) if name == "none" => return Ok(None),
            Self::Named(name) if name == "keras" => {
                Augmentation::Keras(Box::new(ImageDataGenerator::keras_article()))
            }
            Self::Named(name) => match Pipeline::named(name) {
                Some(pipeline) => Augmentation::Pipeline(pipeline),
                None => return self.clone().load()?.augmentation(),
            },
            Self::Generator(generator) => Augmentation::Keras(generator.clone()),
            Self::Pipeline(pipeline) => Augmentation::Pipeline(pipeline.clone()),
        };
        augmentation.validate()?;
        Ok(Some(augmentation))
    }
}

/// A file of a pipeline, or of the generator's settings.
fn read(path: &Path) -> Result<Augment> {
    let text = std::fs::read_to_string(path).with_context(|| {
        format!(
            "augment is `{}`, which is neither none, keras, {}, nor a file that can be read",
            path.display(),
            Pipeline::NAMES.join(", ")
        )
    })?;
    let is_pipeline = text.parse::<toml::Table>().is_ok_and(|table| table.contains_key("step"));
    if is_pipeline {
        return Ok(Augment::Pipeline(
            Pipeline::from_toml(&text).with_context(|| path.display().to_string())?,
        ));
    }
    let generator: ImageDataGenerator = toml::from_str(&text)
        .map_err(|error| anyhow!("{}: {}", path.display(), error.to_string().trim_end()))?;
    generator.validate().with_context(|| path.display().to_string())?;
    Ok(Augment::Generator(Box::new(generator)))
}
