//! Names of keras.applications' models in the zoo's words, and back.
//!
//! A family's table is one list of pairs that is read in both directions, so that the two cannot disagree.

mod densenet;
mod efficientnet;
mod inception_v3;
mod mobilenet;
mod pair;
mod resnet;
mod vgg;

pub(super) use pair::counted_layer;
use pair::{Counted, Pair};

use crate::ModelSpec;

/// What Keras calls the layers of a model, and what else its files have otherwise.
#[derive(Debug)]
pub struct KerasNames {
    /// The first one that fits counts: older spellings stand behind newer ones.
    pairs: &'static [Pair],
    /// Layers without names of their own, which Keras counts through.
    counted: Option<&'static Counted>,
    /// The dense layer that follows a flattened map, and the map's `[height, width, channels]`.
    flattened: Option<(&'static str, [usize; 3])>,
    /// Layers that prepare the images, which is no part of a network here.
    preparing: &'static [&'static str],
}

impl KerasNames {
    const NONE: Self = Self { pairs: &[], counted: None, flattened: None, preparing: &[] };

    /// The zoo's name of a tensor of a Keras file, e.g. `features.4.conv.3.running_var` of `block_3_project_BN.running_var`; `None` for a
    /// name that the model does not have.
    pub fn published(&self, keras: &str) -> Option<String> {
        let (layer, leaf) = keras.rsplit_once('.')?;
        let found = self.pairs.iter().find_map(|pair| pair.published(layer));
        let found = found.or_else(|| self.counted?.published(layer))?;
        Some(format!("{found}.{leaf}"))
    }

    /// The name in a Keras file of a tensor with this name in the zoo; `None` for a name that the model does not have.
    pub fn keras(&self, published: &str) -> Option<String> {
        let (layer, leaf) = published.rsplit_once('.')?;
        let found = self.pairs.iter().find_map(|pair| pair.keras(layer));
        let found = found.or_else(|| self.counted?.keras(layer))?;
        Some(format!("{found}.{leaf}"))
    }

    /// Keras' words for layers that it counts through.
    pub(super) fn counted(&self) -> impl Iterator<Item = &'static str> {
        self.counted.into_iter().flat_map(|counted| counted.layers.iter().map(|(keras, _)| *keras))
    }

    pub(super) fn flattened(&self) -> Option<(&'static str, [usize; 3])> {
        self.flattened
    }

    pub(super) fn preparing(&self) -> &'static [&'static str] {
        self.preparing
    }
}

/// The names of a model of the zoo; none where Keras has no such model, or its names have no table yet.
pub fn of(spec: &ModelSpec) -> Option<&'static KerasNames> {
    match spec.family {
        "MobileNet" => Some(&mobilenet::V1),
        "MobileNetV2" => Some(&mobilenet::V2),
        "VGG" if spec.name.ends_with("16") => Some(&vgg::VGG16),
        "VGG" if spec.name.ends_with("19") => Some(&vgg::VGG19),
        "ResNet" if spec.name.trim_start_matches("keras_").starts_with("resnet") => Some(&resnet::NAMES),
        "DenseNet" => Some(&densenet::NAMES),
        "Inception v3" => Some(&inception_v3::NAMES),
        "EfficientNet" => Some(&efficientnet::NAMES),
        _ => None,
    }
}

/// torchvision's name of a tensor of `keras.applications.MobileNetV2`, e.g. `block_3_project_BN.running_var` is
/// `features.4.conv.3.running_var`; `None` for a name that the model does not have.
///
/// Keras' norms have an epsilon of 1e-3, torchvision's of 1e-5, and Keras pads strided convolutions at the far side only; the zoo's
/// `keras_mobilenet_v2` does the same.
pub fn mobilenet_v2(name: &str) -> Option<String> {
    mobilenet::V2.published(name)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::{CreateOptions, create, models};

    /// Names and number of a model's tensors.
    fn names(spec: &ModelSpec) -> Vec<String> {
        #[allow(deprecated)]
        let device = burn::tensor::Device::ndarray();
        let model = create(spec, &CreateOptions::default(), &device);
        model.tensors().into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn every_tensor_of_a_model_of_keras_has_a_name_there_that_leads_back_to_it() {
        for spec in models().filter(|spec| spec.is_keras()) {
            let table = of(spec).unwrap_or_else(|| panic!("{} has no table", spec.name));
            let mut seen = HashSet::new();
            for name in names(spec) {
                let keras = table.keras(&name).unwrap_or_else(|| panic!("{}: {name}", spec.name));
                assert_eq!(table.published(&keras).as_ref(), Some(&name), "{}: {keras}", spec.name);
                assert!(seen.insert(keras), "{}: {name} has another tensor's name", spec.name);
            }
        }
    }

    #[test]
    fn names_of_no_tensor_get_none() {
        let refused = |table: &KerasNames, names: &[&str]| {
            names.iter().for_each(|name| assert_eq!(table.published(name), None, "{name}"));
        };
        refused(&mobilenet::V1, &["conv_dw_0.weight", "conv_dw_14.weight", "conv_dw_01.weight", "conv1"]);
        refused(
            &resnet::NAMES,
            &["conv1_block1_1_conv.weight", "conv6_block1_1_conv.weight", "conv2.weight"],
        );
        refused(
            &efficientnet::NAMES,
            &["block0a_dwconv.weight", "block8a_dwconv.weight", "block2_bn.weight"],
        );
        refused(&efficientnet::NAMES, &["block1a_expand_conv.weight", "block2A_bn.weight"]);
        refused(&inception_v3::NAMES, &["conv2d_94.weight", "conv2d_0.weight", "conv2d_x.weight"]);
        refused(&vgg::VGG16, &["block3_conv4.weight", "block6_conv1.weight"]);
    }

    #[test]
    fn older_spellings_are_read() {
        let read = |table: &KerasNames, name: &str| table.published(name);
        assert_eq!(read(&densenet::NAMES, "conv1.bn.bias").as_deref(), Some("features.norm0.bias"));
        assert_eq!(read(&densenet::NAMES, "fc1000.weight").as_deref(), Some("classifier.weight"));
        assert_eq!(read(&resnet::NAMES, "probs.weight").as_deref(), Some("fc.weight"));
        assert_eq!(read(&mobilenet::V2, "Logits.bias").as_deref(), Some("classifier.1.bias"));
    }
}
