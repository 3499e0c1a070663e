//! A backbone and a head.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use firebrick_autodiff::global_average_pool;
use firebrick_nn::{ClassifierHead, HeadConfig, LayerSummary, Network, seed_of};

use crate::{Architecture, MobileNetV2, ModelSpec};

/// What of a model its spec leaves open.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateOptions {
    /// Number of classes; 1,000 by default, as the published weights have.
    pub classes: usize,
    /// Widths of dense layers between pooled features and logits; none by default.
    pub hidden: Vec<usize>,
    /// Share of the pooled features that is dropped in training; 0 by default.
    pub dropout: f64,
    /// What the first weights depend on; 0 by default.
    pub seed: u64,
}

impl Default for CreateOptions {
    fn default() -> Self {
        Self { classes: 1000, hidden: Vec::new(), dropout: 0.0, seed: 0 }
    }
}

/// The model of `spec` with first weights drawn from the options' seed.
///
/// # Panics
///
/// If the options ask for no classes or an empty hidden layer.
pub fn create(spec: &ModelSpec, options: &CreateOptions, device: &Device) -> Classifier {
    let (backbone, features) = match spec.architecture {
        Architecture::MobileNetV2(config) => {
            (Backbone::MobileNetV2(config.init(options.seed, device)), config.features())
        }
    };
    Classifier { backbone, head: head(features, options, device) }
}

fn head(features: usize, options: &CreateOptions, device: &Device) -> ClassifierHead {
    HeadConfig::new(features, options.classes)
        .with_hidden(options.hidden.clone())
        .with_dropout(options.dropout)
        // Far from the backbone's parameters, which count from 1.
        .init(seed_of(options.seed, u64::MAX), device)
}

/// What turns images into a feature map.
#[derive(Module, Debug)]
pub enum Backbone {
    /// MobileNetV2 of any width.
    MobileNetV2(MobileNetV2),
}

impl Backbone {
    /// `[batch, 3, height, width]` to `[batch, features, h, w]`.
    pub fn forward(&self, images: Tensor<4>) -> Tensor<4> {
        match self {
            Self::MobileNetV2(model) => model.forward(images),
        }
    }

    /// `[batch, 3, height, width]` to the feature map's mean over its area, `[batch, features]`.
    pub fn pooled(&self, images: Tensor<4>) -> Tensor<2> {
        global_average_pool(self.forward(images))
    }

    fn summarize(&self, input: [usize; 3], rows: &mut Vec<LayerSummary>) -> [usize; 3] {
        match self {
            Self::MobileNetV2(model) => model.summarize(input, rows),
        }
    }

    /// The name that this backbone's tensor has in the checkpoints it is published in.
    fn published_name(&self, path: &str) -> Option<String> {
        match self {
            Self::MobileNetV2(model) => model.torchvision_name(path),
        }
    }
}

/// A backbone, global average pooling, and a head.
#[derive(Module, Debug)]
pub struct Classifier {
    /// Images to a feature map.
    pub backbone: Backbone,
    /// Pooled features to logits.
    pub head: ClassifierHead,
}

impl Classifier {
    /// The feature map: `[batch, 3, height, width]` to `[batch, features, h, w]`.
    pub fn features(&self, images: Tensor<4>) -> Tensor<4> {
        self.backbone.forward(images)
    }

    /// The features' means over the map: `[batch, 3, height, width]` to `[batch, features]`.
    pub fn pooled(&self, images: Tensor<4>) -> Tensor<2> {
        self.backbone.pooled(images)
    }

    /// The same backbone with a new head of the options' classes, hidden layers and dropout.
    pub fn reset_head(self, options: &CreateOptions, device: &Device) -> Self {
        let features = self.head.features();
        Self { backbone: self.backbone, head: head(features, options, device) }
    }

    /// A row a layer for one input of `[height, width]` pixels.
    pub fn summarize(&self, input_size: [u32; 2]) -> Vec<LayerSummary> {
        let mut rows = Vec::new();
        let [height, width] = input_size.map(|side| side as usize);
        self.backbone.summarize([3, height, width], &mut rows);
        for row in &mut rows {
            row.name.insert_str(0, "backbone.");
        }
        self.head.summarize("head", &mut rows);
        rows
    }

    /// The name of this model's tensor `path` in a checkpoint: the backbone's published names, and the
    /// head as `classifier`, a PyTorch `Sequential` of dropout, then dense layers and activations in turn.
    pub(crate) fn published_name(&self, path: &str) -> Option<String> {
        let (part, rest) = path.split_once('.')?;
        match part {
            "backbone" => self.backbone.published_name(rest),
            "head" => {
                let (index, leaf) = match rest.strip_prefix("output.") {
                    Some(leaf) => (self.head.hidden.len(), leaf),
                    None => {
                        let (index, leaf) = rest.strip_prefix("hidden.")?.split_once('.')?;
                        (index.parse().ok()?, leaf)
                    }
                };
                Some(format!("classifier.{}.{leaf}", 1 + 2 * index))
            }
            _ => None,
        }
    }
}

impl Network<4> for Classifier {
    /// `[batch, 3, height, width]` to `[batch, classes]`.
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        self.head.forward(self.pooled(images))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{find, models};

    #[allow(deprecated)]
    fn device() -> Device {
        Device::ndarray()
    }

    /// The counts of the table are those of `keras.applications.MobileNetV2(alpha=width)`, Keras 3.15.1, trainable ones.
    #[test]
    fn every_model_has_its_published_parameters() {
        for spec in models() {
            let model = create(spec, &CreateOptions::default(), &device());
            let parameters: u64 = model.summarize(spec.input_size).iter().map(|row| row.parameters).sum();
            assert_eq!(parameters, spec.parameters, "{}", spec.name);
        }
    }

    /// torchvision publishes 0.301 billion multiply-adds for this model.
    #[test]
    fn mobilenet_v2_has_its_published_multiply_adds() {
        let model = create(find("mobilenet_v2").expect("in the zoo"), &CreateOptions::default(), &device());
        let multiply_adds: u64 = model.summarize([224, 224]).iter().map(|row| row.multiply_adds).sum();
        assert_eq!((multiply_adds as f64 / 1e6).round(), 301.0, "{multiply_adds}");
    }

    #[test]
    fn a_new_head_keeps_the_backbone() {
        let spec = find("mobilenet_v2_0.35").expect("in the zoo");
        let model = create(spec, &CreateOptions::default(), &device());
        let x = Tensor::<4>::ones([1, 3, 32, 32], &device());
        let before = model.pooled(x.clone()).into_data();
        let options = CreateOptions { classes: 7, hidden: vec![16], ..CreateOptions::default() };
        let model = model.reset_head(&options, &device());
        assert_eq!(model.pooled(x.clone()).into_data(), before);
        assert_eq!(model.forward(x).dims(), [1, 7]);
    }
}
