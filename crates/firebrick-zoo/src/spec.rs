//! The zoo's table: what is known of a model before any of its weights is read.

use firebrick_augment::{Geometry, Interpolation, Normalization, Preprocess};

use crate::{MobileNetV2Config, ZooError};

/// What a model is, without its weights.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelSpec {
    /// Name by which it is asked for.
    pub name: &'static str,
    /// The architecture with its settings.
    pub architecture: Architecture,
    /// Where it was published.
    pub paper: &'static str,
    /// Height and width of its inputs, pixels.
    pub input_size: [u32; 2],
    /// Learned parameters with the original 1,000-class head.
    pub parameters: u64,
    /// Published weights; none for some.
    pub weights: Option<WeightsSpec>,
}

/// An architecture and its settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Architecture {
    /// [`crate::MobileNetV2`].
    MobileNetV2(MobileNetV2Config),
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
    /// Hash of the file.
    pub sha256: &'static str,
    /// Size of the file in bytes.
    pub bytes: u64,
    /// What may be done with them.
    pub licence: &'static str,
    /// Published top-1 accuracy on ImageNet's validation set, percent.
    pub top_1: f32,
    /// Side that the image's shorter side is resized to before the central crop of the input size, pixels.
    pub resize: u32,
}

impl WeightsSpec {
    /// How an image becomes what these weights were trained on.
    pub fn preprocess(&self, input_size: [u32; 2]) -> Preprocess {
        Preprocess {
            input_size,
            geometry: Geometry::ResizeCrop { shorter_side: self.resize },
            interpolation: Interpolation::Bilinear,
            normalization: Normalization::imagenet(),
        }
    }
}

const MOBILENET_V2: &str = "Sandler et al. 2018, arXiv:1801.04381";

const fn mobilenet_v2(name: &'static str, width: f64, parameters: u64) -> ModelSpec {
    ModelSpec {
        name,
        architecture: Architecture::MobileNetV2(MobileNetV2Config { width }),
        paper: MOBILENET_V2,
        input_size: [224, 224],
        parameters,
        weights: None,
    }
}

static MODELS: &[ModelSpec] = &[
    ModelSpec {
        weights: Some(WeightsSpec {
            name: "imagenet",
            file: "mobilenet_v2-b0353104.pth",
            url: "https://download.pytorch.org/models/mobilenet_v2-b0353104.pth",
            sha256: "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889",
            bytes: 14_212_972,
            licence: "BSD-3-Clause; trained on ImageNet, whose terms may limit use to non-commercial research",
            top_1: 71.878,
            resize: 256,
        }),
        ..mobilenet_v2("mobilenet_v2", 1.0, 3_504_872)
    },
    mobilenet_v2("mobilenet_v2_0.35", 0.35, 1_677_128),
    mobilenet_v2("mobilenet_v2_0.5", 0.5, 1_968_680),
    mobilenet_v2("mobilenet_v2_0.75", 0.75, 2_636_424),
    mobilenet_v2("mobilenet_v2_1.4", 1.4, 6_108_776),
];

/// Every model of the zoo.
pub fn models() -> &'static [ModelSpec] {
    MODELS
}

/// The model of this name.
///
/// # Errors
///
/// [`ZooError::UnknownModel`], with the nearest name if one is near.
pub fn find(name: &str) -> Result<&'static ModelSpec, ZooError> {
    MODELS.iter().find(|spec| spec.name == name).ok_or_else(|| ZooError::UnknownModel {
        name: name.to_owned(),
        nearest: nearest(name, MODELS.iter().map(|spec| spec.name))
            .map(|near| format!(", did you mean `{near}`?"))
            .unwrap_or_else(|| ".".to_owned()),
        known: MODELS.iter().map(|spec| spec.name).collect::<Vec<_>>().join(", "),
    })
}

/// The candidate most like `name`, if it is like it at all.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_name_is_told_its_neighbour() {
        let message = find("mobilnet_v2").expect_err("misspelt").to_string();
        assert!(message.contains("did you mean `mobilenet_v2`"), "{message}");
        let message = find("zzz").expect_err("unlike any").to_string();
        assert!(!message.contains("did you mean"), "{message}");
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = models().iter().map(|spec| spec.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), models().len());
    }
}
