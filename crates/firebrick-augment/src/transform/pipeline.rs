//! Several transforms, one after the other.

use serde::{Deserialize, Serialize};

use super::{LearntPolicy, Op, Transform};
use crate::{AugmentError, DrawKey, Interpolation, Sampling};

/// Transforms in their order; in a TOML file a `[[step]]` each.
///
/// ```
/// use firebrick_augment::{DrawKey, Op, Pipeline};
///
/// let pipeline = Pipeline::from_toml(
///     r#"
///     [[step]]
///     name = "random_resized_crop"
///     scale = [0.3, 1.0]
///
///     [[step]]
///     name = "color_jitter"
///     brightness = 0.4
///     "#,
/// )?;
/// let image = image::RgbImage::new(320, 240);
/// let ops = pipeline.draw(DrawKey { seed: 0, epoch: 0, sample: 7 }, [320, 240], [224, 224]);
/// assert_eq!(Op::apply_all(&ops, &image).dimensions(), (224, 224));
/// # Ok::<(), firebrick_augment::AugmentError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pipeline {
    /// The transforms.
    #[serde(rename = "step")]
    pub steps: Vec<Transform>,
}

impl Pipeline {
    /// The pipelines that have a name.
    pub const NAMES: [&str; 5] = ["randaugment", "trivialaugment", "autoaugment", "augmix", "torchvision"];

    /// The pipeline of a name: a policy with its defaults, or `torchvision`, the crop and the flip of its reference training.
    pub fn named(name: &str) -> Option<Self> {
        let nearest = Sampling::Nearest;
        let policy = match name {
            "randaugment" => {
                Transform::RandAugment { num_ops: 2, magnitude: 9, num_magnitude_bins: 31, sampling: nearest }
            }
            "trivialaugment" => Transform::TrivialAugment { num_magnitude_bins: 31, sampling: nearest },
            "autoaugment" => Transform::AutoAugment { policy: LearntPolicy::Imagenet, sampling: nearest },
            "augmix" => Transform::AugMix {
                severity: 3,
                mixture_width: 3,
                chain_depth: 0,
                alpha: 1.0,
                all_ops: true,
                sampling: Sampling::Bilinear,
            },
            "torchvision" => Transform::RandomResizedCrop {
                scale: [0.08, 1.0],
                ratio: [3.0 / 4.0, 4.0 / 3.0],
                interpolation: Interpolation::Bilinear,
            },
            _ => return None,
        };
        let mut steps = vec![policy];
        if name == "torchvision" {
            steps.push(Transform::RandomHorizontalFlip { p: 0.5 });
        }
        Some(Self { steps })
    }

    /// Reads `[[step]]` tables.
    ///
    /// # Errors
    ///
    /// [`AugmentError::Syntax`] for what is no TOML or has other keys; [`AugmentError::Step`] for a step that is wrong, with its number and
    /// name, the field and what would be right.
    pub fn from_toml(text: &str) -> Result<Self, AugmentError> {
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            AugmentError::Syntax(error.to_string().trim_end().to_owned())
        })?;
        Self::from_table(table)
    }

    /// Reads the table of a file that holds a pipeline.
    ///
    /// # Errors
    ///
    /// As of [`from_toml`](Self::from_toml).
    pub fn from_table(mut table: toml::Table) -> Result<Self, AugmentError> {
        let steps = table.remove("step").unwrap_or(toml::Value::Array(Vec::new()));
        if let Some(key) = table.keys().next() {
            return Err(AugmentError::Syntax(format!(
                "`{key}` is unknown beside the [[step]] tables of a pipeline"
            )));
        }
        let toml::Value::Array(steps) = steps else {
            return Err(AugmentError::Syntax("`step` must be a list of tables, written [[step]]".to_owned()));
        };
        let mut pipeline = Self::default();
        for (place, step) in steps.into_iter().enumerate() {
            let name = step.get("name").and_then(toml::Value::as_str).unwrap_or("without a name").to_owned();
            let wrong = |reason: String| AugmentError::Step { number: place + 1, name: name.clone(), reason };
            if !Transform::NAMES.contains(&name.as_str()) {
                let known = Transform::NAMES.join(", ");
                let near = match nearest_name(&name) {
                    Some(near) => format!("did you mean `{near}`? There are {known}"),
                    None => format!("there are {known}"),
                };
                return Err(wrong(format!("no transform has this name; {near}")));
            }
            let transform = read_step(step).map_err(wrong)?;
            pipeline.steps.push(transform);
        }
        pipeline.validate()?;
        Ok(pipeline)
    }

    /// As a file that [`from_toml`](Self::from_toml) reads.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("transforms hold numbers, words and lists of them")
    }

    /// Checks every step.
    ///
    /// # Errors
    ///
    /// [`AugmentError::Step`] for the first setting outside its range.
    pub fn validate(&self) -> Result<(), AugmentError> {
        for (place, step) in self.steps.iter().enumerate() {
            step.validate().map_err(|error| AugmentError::Step {
                number: place + 1,
                name: step.name().to_owned(),
                reason: error.to_string(),
            })?;
        }
        Ok(())
    }

    /// Whether the first step takes a window of the image as it was decoded, so that it must not be resized before.
    pub fn crops_first(&self) -> bool {
        matches!(self.steps.first(), Some(Transform::RandomResizedCrop { .. }))
    }

    /// Draws the changes of one image of `size` (width, height) that goes to a network of this `input` size.
    ///
    /// Each step has random numbers of its own, by its place.
    ///
    /// # Panics
    ///
    /// If a setting is not valid.
    pub fn draw(&self, key: DrawKey, size: [u32; 2], input: [u32; 2]) -> Vec<Op> {
        let mut size = size;
        let mut ops = Vec::new();
        for (place, step) in (1..).zip(&self.steps) {
            ops.extend(step.draw(&mut key.rng(place), size, input));
            if matches!(step, Transform::RandomResizedCrop { .. }) {
                size = input;
            }
        }
        ops
    }
}

/// Reads the table of a step; an error says which key is wrong.
fn read_step(step: toml::Value) -> Result<Transform, String> {
    let read = |step: toml::Value| -> Result<Transform, String> {
        step.try_into().map_err(|error: toml::de::Error| error.message().to_owned())
    };
    let message = match read(step.clone()) {
        Ok(transform) => return Ok(transform),
        Err(message) => message,
    };
    // A tagged table forgets where it was: the wrong key is the one without which the error is another.
    let toml::Value::Table(table) = step else { return Err(message) };
    let culprit = table.keys().filter(|key| *key != "name").find(|key| {
        let mut without = table.clone();
        without.remove(*key);
        read(toml::Value::Table(without)).err().as_ref() != Some(&message)
    });
    Err(match culprit {
        Some(key) if !message.contains(key.as_str()) => format!("`{key}`: {message}"),
        _ => message,
    })
}

/// The known name that has the most pairs of neighbouring letters in common with this one; none where hardly any are.
fn nearest_name(name: &str) -> Option<&'static str> {
    let pairs =
        |text: &str| -> Vec<[u8; 2]> { text.as_bytes().windows(2).map(|pair| [pair[0], pair[1]]).collect() };
    let given = pairs(&name.to_lowercase());
    let likeness = |known: &str| {
        let known = pairs(known);
        let common = given.iter().filter(|pair| known.contains(pair)).count();
        2.0 * common as f64 / (given.len() + known.len()).max(1) as f64
    };
    let best = Transform::NAMES.into_iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(best) > 0.5).then_some(best)
}

impl Transform {
    /// Its name, as in a file.
    pub fn name(&self) -> &'static str {
        match self {
            Self::RandomResizedCrop { .. } => "random_resized_crop",
            Self::RandomCrop { .. } => "random_crop",
            Self::RandomHorizontalFlip { .. } => "random_horizontal_flip",
            Self::RandomVerticalFlip { .. } => "random_vertical_flip",
            Self::RandomRotation { .. } => "random_rotation",
            Self::RandomAffine { .. } => "random_affine",
            Self::RandomPerspective { .. } => "random_perspective",
            Self::ElasticTransform { .. } => "elastic_transform",
            Self::ColorJitter { .. } => "color_jitter",
            Self::RandomGrayscale { .. } => "random_grayscale",
            Self::GaussianBlur { .. } => "gaussian_blur",
            Self::RandomAdjustSharpness { .. } => "random_adjust_sharpness",
            Self::RandomPosterize { .. } => "random_posterize",
            Self::RandomSolarize { .. } => "random_solarize",
            Self::RandomEqualize { .. } => "random_equalize",
            Self::RandomAutocontrast { .. } => "random_autocontrast",
            Self::RandomInvert { .. } => "random_invert",
            Self::RandomErasing { .. } => "random_erasing",
            Self::GaussianNoise { .. } => "gaussian_noise",
            Self::SaltAndPepper { .. } => "salt_and_pepper",
            Self::Jpeg { .. } => "jpeg",
            Self::RandAugment { .. } => "randaugment",
            Self::TrivialAugment { .. } => "trivialaugment",
            Self::AutoAugment { .. } => "autoaugment",
            Self::AugMix { .. } => "augmix",
        }
    }
}
