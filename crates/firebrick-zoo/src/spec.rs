//! The zoo's table: what is known of a model before any of its weights is read.

use firebrick_augment::{Geometry, Interpolation, Normalization, Preprocess};

use crate::ZooError;
use crate::architectures::FAMILIES;
use crate::graph::Graph;
use crate::sequence_spec::sequence_models;

/// What an architecture leaves open.
#[derive(Clone, Debug, PartialEq)]
pub struct BuildOptions {
    /// Channels of the images.
    pub channels: usize,
    /// `[height, width]` of the images, pixels.
    pub image_size: [usize; 2],
    /// Probability with which the last residual branch is dropped in training; that of the first is nearly zero, the others lie
    /// between (Huang et al. 2016, arXiv:1603.09382).
    pub drop_path: f64,
    /// Probability of the dropout within the network, in architectures that have it.
    pub dropout: f64,
}

/// Whose network a model is, number for number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framework {
    /// torchvision's or timm's.
    PyTorch,
    /// That of `keras.applications`, which reads what its `preprocess_input` gives.
    Keras(KerasInput),
}

/// What Keras' `preprocess_input` makes of the levels 0 to 255.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KerasInput {
    /// `mode="tf"`: `[-1, 1]`.
    MinusOneToOne,
    /// `mode="torch"`: torchvision's mean and standard deviation. EfficientNet does the same in its first layers, which are none of the
    /// network's here.
    Imagenet,
    /// `mode="caffe"`: blue before green before red, ImageNet's means subtracted, and no scale.
    Caffe,
}

/// Writes an architecture down.
pub type Build = fn(&BuildOptions) -> Graph;

/// What a model is, without its weights.
#[derive(Clone, Debug)]
pub struct ModelSpec {
    /// Name by which it is asked for.
    pub name: &'static str,
    /// What it is a member of.
    pub family: &'static str,
    /// Whose it is.
    pub framework: Framework,
    /// Where it was published.
    pub paper: &'static str,
    /// Writes it down.
    pub build: Build,
    /// Height and width of its inputs, pixels.
    pub input_size: [u32; 2],
    /// Learned parameters with the original 1,000-class head.
    pub parameters: u64,
    /// Published multiply-adds of an image of the input size, billions; none where none are published.
    pub multiply_adds: Option<f64>,
    /// Published weights, the ones that are taken where none are named first.
    pub weights: &'static [WeightsSpec],
    /// What its tensors are called elsewhere than in [`Graph`]'s names.
    pub aliases: &'static [Alias],
}

/// The names of a model's tensors in another framework.
#[derive(Clone, Copy, Debug)]
pub struct Alias {
    /// Whose, e.g. `timm`.
    pub framework: &'static str,
    /// The name there of a tensor with this published name; none if there is none.
    pub name: fn(&str) -> Option<String>,
}

impl Alias {
    /// The name there of the tensor with this published name; the same where the alias has none for it.
    pub fn of(&self, published: &str) -> String {
        (self.name)(published).unwrap_or_else(|| published.to_owned())
    }
}

/// Published weights.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightsSpec {
    /// Name by which they are asked for.
    pub name: &'static str,
    /// File name, also in the cache folder.
    pub file: &'static str,
    /// Official address.
    pub url: &'static str,
    /// Hash of the file in hexadecimal, or as much of its beginning as was published, at least eight digits.
    pub sha256: &'static str,
    /// Size of the file in bytes, or a little more.
    pub bytes: u64,
    /// What may be done with them.
    pub licence: &'static str,
    /// Published top-1 accuracy on ImageNet's validation set, percent.
    pub top_1: f32,
    /// Side of the central crop, pixels.
    pub crop: u32,
    /// Side that the image's shorter side is resized to before the crop, pixels.
    pub resize: u32,
    /// How it is resized.
    pub interpolation: Interpolation,
    /// Subtracted from a channel of `[0, 1]`.
    pub mean: [f32; 3],
    /// Divides a channel after that.
    pub std: [f32; 3],
}

impl WeightsSpec {
    /// What torchvision's weights have in common; file, address, hash, size and accuracy are missing.
    pub const TORCHVISION: Self = Self {
        name: "imagenet",
        file: "",
        url: "",
        sha256: "",
        bytes: 0,
        licence: "BSD-3-Clause; trained on ImageNet, whose terms may limit use to non-commercial research",
        top_1: 0.0,
        crop: 224,
        resize: 256,
        interpolation: Interpolation::Bilinear,
        mean: [0.485, 0.456, 0.406],
        std: [0.229, 0.224, 0.225],
    };

    /// How an image becomes what these weights were trained on; for another input size, the resize keeps its ratio to the crop.
    pub fn preprocess(&self, input_size: [u32; 2]) -> Preprocess {
        let ratio = f64::from(self.resize) / f64::from(self.crop);
        let side = input_size[0].max(input_size[1]);
        let shorter_side =
            if side == self.crop { self.resize } else { (f64::from(side) * ratio).round() as u32 };
        Preprocess {
            input_size,
            geometry: Geometry::ResizeCrop { shorter_side },
            interpolation: self.interpolation,
            normalization: Normalization {
                mean: self.mean,
                std: self.std,
                ..Normalization::rescale(1.0 / 255.0)
            },
        }
    }
}

impl ModelSpec {
    /// The backbone as data.
    pub fn graph(&self, options: &BuildOptions) -> Graph {
        (self.build)(options)
    }

    /// Side of the smallest square images that the network can take, up to its own; none if none of them will do. Tries them in turn.
    pub fn smallest_side(&self, options: &BuildOptions) -> Option<usize> {
        let own = self.input_size.into_iter().max().unwrap_or(0) as usize;
        let takes = |side: &usize| {
            let image_size = [*side; 2];
            self.graph(&BuildOptions { image_size, ..options.clone() }).shapes(image_size).is_ok()
        };
        (1..=own).find(takes)
    }

    /// What the levels 0 to 255 become where no published weights say otherwise: ImageNet's mean and standard deviation, or for a model
    /// of Keras' what its `preprocess_input` does.
    pub fn normalization(&self) -> Normalization {
        match self.framework {
            Framework::PyTorch | Framework::Keras(KerasInput::Imagenet) => Normalization::imagenet(),
            Framework::Keras(KerasInput::MinusOneToOne) => Normalization::minus_one_to_one(),
            Framework::Keras(KerasInput::Caffe) => Normalization::caffe(),
        }
    }

    /// Whether it is a model of `keras.applications`.
    pub fn is_keras(&self) -> bool {
        matches!(self.framework, Framework::Keras(_))
    }

    /// Keras' own model of the same layers, for a model of torchvision's or timm's; none where there is none, or it differs in more than
    /// padding and epsilons.
    pub fn keras_twin(&self) -> Option<&'static Self> {
        let same = |twin: &&Self| twin.family == self.family && twin.parameters == self.parameters;
        models().filter(|twin| !self.is_keras() && twin.is_keras()).find(same)
    }
}

/// Every model of the zoo.
pub fn models() -> impl Iterator<Item = &'static ModelSpec> {
    FAMILIES.iter().copied().flatten()
}

/// The model of this name.
///
/// # Errors
///
/// [`ZooError::UnknownModel`], with the nearest names if any are near.
pub fn find(name: &str) -> Result<&'static ModelSpec, ZooError> {
    models().find(|spec| spec.name == name).ok_or_else(|| unknown_model(name))
}

/// The error for a name that no model has, of images or of sequences.
pub(crate) fn unknown_model(name: &str) -> ZooError {
    let of_images: Vec<&str> = models().map(|spec| spec.name).collect();
    let of_sequences: Vec<&str> = sequence_models().iter().map(|spec| spec.name).collect();
    let nearest = if of_images.contains(&name) {
        ": it is a model of images, which `find` finds.".to_owned()
    } else if of_sequences.contains(&name) {
        ": it is a model of sequences, which `find_sequence` finds.".to_owned()
    } else {
        match nearest(name, of_images.into_iter().chain(of_sequences))[..] {
            [] => ".".to_owned(),
            [near] => format!(", did you mean `{near}`?"),
            [near, ref others @ ..] => {
                format!(", did you mean `{near}`? Similar names: `{}`.", others.join("`, `"))
            }
        }
    };
    ZooError::UnknownModel { name: name.to_owned(), nearest }
}

/// Up to three candidates that are like `name`, the most alike first.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    const SHOWN: usize = 3;
    let likeness = |candidate: &'a str| (strsim::jaro_winkler(name, candidate), candidate);
    let mut alike: Vec<_> =
        candidates.into_iter().map(likeness).filter(|(likeness, _)| *likeness > 0.75).collect();
    alike.sort_by(|a, b| b.0.total_cmp(&a.0));
    alike.into_iter().take(SHOWN).map(|(_, candidate)| candidate).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CreateOptions, find_sequence};

    #[test]
    fn a_misspelt_name_is_told_its_neighbour() {
        let message = find("mobilnet_v2").expect_err("misspelt").to_string();
        assert!(message.contains("did you mean `mobilenet_v2`?"), "{message}");
        // Of images or of sequences, whichever it was meant for; and no list of a hundred names.
        let lists = "`firebrick models` lists all names";
        for (name, expected) in [
            ("gpt3_175", ", did you mean `gpt3_175b`? Similar names: `gpt3_13b`, `gpt3_2.7b`."),
            ("bert", ", did you mean `bert_base`? Similar names: `bert_large`."),
            ("vit_s_16", ", did you mean `vit_b_16`? Similar names: `vit_l_16`, `vit_h_14`."),
            ("zzz", "."),
        ] {
            for error in [find(name).expect_err("misspelt"), find_sequence(name).expect_err("misspelt")] {
                assert_eq!(error.to_string(), format!("unknown model `{name}`{expected} {lists}"));
            }
        }
        let message = find("gpt2").expect_err("of sequences").to_string();
        assert_eq!(
            message,
            format!("unknown model `gpt2`: it is a model of sequences, which `find_sequence` finds. {lists}")
        );
        let message = find_sequence("resnet50").expect_err("of images").to_string();
        assert!(message.contains("a model of images, which `find` finds"), "{message}");
    }

    #[test]
    fn a_model_of_keras_is_found_by_its_twin() {
        let twin = |name| find(name).expect("in the zoo").keras_twin().map(|twin| twin.name);
        assert_eq!(twin("mobilenet_v2"), Some("keras_mobilenet_v2"));
        assert_eq!(twin("mobilenet_v1"), Some("keras_mobilenet"));
        assert_eq!(twin("keras_mobilenet_v2"), None);
        // It has biases that torchvision's has not.
        assert_eq!(twin("resnet50"), None);
    }

    /// torchvision's `min_size`, and what PyTorch takes.
    #[test]
    fn the_smallest_images_are_found() {
        for (name, side) in [
            ("alexnet", 63),
            ("mobilenet_v2", 1),
            ("inception_v3", 75),
            ("squeezenet1_1", 17),
            ("squeezenet1_0", 21),
            ("googlenet", 15),
            ("vit_b_16", 16),
        ] {
            let spec = find(name).expect("in the zoo");
            let options = CreateOptions::default().build(spec);
            assert_eq!(spec.smallest_side(&options), Some(side), "{name}");
        }
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = models().map(|spec| spec.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
