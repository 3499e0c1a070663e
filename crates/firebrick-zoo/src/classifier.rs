//! A backbone and a head.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use firebrick_nn::{ClassifierHead, HeadConfig, LayerSummary, Network, seed_of};

use crate::{Alias, AttentionPool, Backbone, BuildOptions, ModelSpec, ZooError, models};

/// What of a model its spec leaves open.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateOptions {
    /// Number of classes; 1,000 by default, as the published weights have.
    pub classes: usize,
    /// Widths of dense layers between pooled features and logits; none by default.
    pub hidden: Vec<usize>,
    /// Share of the pooled features that is dropped in training; 0 by default.
    pub dropout: f64,
    /// Probability of dropping the last residual branch in training (stochastic depth), less for those before; 0 by default.
    pub drop_path: f64,
    /// Channels of the images; 3 by default.
    pub channels: usize,
    /// `[height, width]` of the images, pixels; the spec's by default. Only architectures with positions depend on it.
    pub image_size: Option<[u32; 2]>,
    /// Attention over the feature map in the place of the architecture's own pooling; none by default.
    pub attention: Option<AttentionPool>,
    /// What the first weights depend on; 0 by default.
    pub seed: u64,
}

impl Default for CreateOptions {
    fn default() -> Self {
        Self {
            classes: 1000,
            hidden: Vec::new(),
            dropout: 0.0,
            drop_path: 0.0,
            channels: 3,
            image_size: None,
            attention: None,
            seed: 0,
        }
    }
}

impl CreateOptions {
    /// What of them the backbone of `spec` depends on.
    pub fn build(&self, spec: &ModelSpec) -> BuildOptions {
        BuildOptions {
            channels: self.channels,
            image_size: self.image_size.unwrap_or(spec.input_size).map(|side| side as usize),
            drop_path: self.drop_path,
            dropout: self.dropout,
        }
    }
}

/// The model of `spec` with first weights drawn from the options' seed.
///
/// # Panics
///
/// If the options ask for no classes, no channels, an empty hidden layer, or attention whose heads do not divide the map's channels
/// (which [`Graph::with_attention_pool`](crate::graph::Graph::with_attention_pool) tells without a panic).
pub fn create(spec: &ModelSpec, options: &CreateOptions, device: &Device) -> Classifier {
    let mut graph = spec.graph(&options.build(spec));
    if let Some(pool) = options.attention {
        graph = graph.with_attention_pool(pool).unwrap_or_else(|error| panic!("{}: {error}", spec.name));
    }
    let backbone = graph.init(options.seed, device);
    let head = head(&backbone, options, device);
    Classifier { backbone, head }
}

fn head(backbone: &Backbone, options: &CreateOptions, device: &Device) -> ClassifierHead {
    let config = HeadConfig::new(backbone.features(), options.classes)
        .with_hidden(options.hidden.clone())
        .with_dropout(options.dropout);
    let config = if backbone.graph().head_over_pixels() { config.over_pixels() } else { config };
    // Far from the backbone's parameters, which count from 1.
    config.init(seed_of(options.seed, u64::MAX), device)
}

/// A backbone and a head.
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

    /// What the head reads: `[batch, 3, height, width]` to `[batch, features]`.
    pub fn pooled(&self, images: Tensor<4>) -> Tensor<2> {
        self.backbone.pooled(images)
    }

    /// The same backbone with a new head of the options' classes, hidden layers and dropout; with attention over its feature map if the
    /// options ask for it, else pooled as it was.
    ///
    /// # Panics
    ///
    /// As [`create`].
    pub fn reset_head(self, options: &CreateOptions, device: &Device) -> Self {
        let backbone = match options.attention {
            Some(pool) => self
                .backbone
                .with_attention_pool(pool, seed_of(options.seed, u64::MAX - 1), device)
                .unwrap_or_else(|error| panic!("{error}")),
            None => self.backbone,
        };
        let head = head(&backbone, options, device);
        Self { backbone, head }
    }

    /// A row a layer for one image of `[height, width]` pixels.
    ///
    /// # Errors
    ///
    /// [`ZooError::ImageSize`] if the images are too small for the network, or not of the size that it is bound to.
    pub fn summarize(&self, input_size: [u32; 2]) -> Result<Vec<LayerSummary>, ZooError> {
        let mut rows = self.backbone.summarize(input_size.map(|side| side as usize))?;
        for row in &mut rows {
            row.name.insert_str(0, "backbone.");
        }
        let before = rows.len();
        self.head.summarize("head", &mut rows);
        if self.head.over_pixels {
            let [_, height, width] = self.backbone.map_shape(input_size.map(|side| side as usize))?;
            rows[before..].iter_mut().for_each(|row| row.multiply_adds *= (height * width) as u64);
        }
        Ok(rows)
    }

    /// Published name and PyTorch's shape of every tensor, running statistics among them, in the order of the model. No weight is drawn.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let mut tensors = self.backbone.graph().tensors();
        let named = |path: String| self.published_name(&path).unwrap_or(path);
        let layers =
            self.head.hidden.iter().enumerate().map(|(index, layer)| (format!("hidden.{index}"), layer));
        for (path, layer) in layers.chain([("output".to_owned(), &self.head.output)]) {
            let [inputs, outputs]: [usize; 2] = layer.weight.lazy_shape().dims();
            // The dense layers of a head over pixels are published as convolutions.
            let ones: &[usize] = if self.head.over_pixels { &[1, 1] } else { &[] };
            tensors.push((named(format!("head.{path}.weight")), [&[outputs, inputs], ones].concat()));
            if layer.bias.is_some() {
                tensors.push((named(format!("head.{path}.bias")), vec![outputs]));
            }
        }
        tensors
    }

    /// Which framework's names a file of a model of this name has: none if they are the published ones, which come first, or nobody's.
    pub(crate) fn alias_of(&self, model: &str, has: impl Fn(&str) -> bool) -> Option<Alias> {
        let names: Vec<String> = self.tensors().into_iter().map(|(name, _)| name).collect();
        if names.iter().all(|name| has(name)) {
            return None;
        }
        let aliases = models().find(|spec| spec.name == model)?.aliases.iter();
        let found = |alias: &Alias| names.iter().filter(|name| has(&alias.of(name))).count();
        let published = names.iter().filter(|name| has(name)).count();
        aliases.copied().max_by_key(found).filter(|alias| found(alias) > published)
    }

    /// The name of this model's tensor `path` in a checkpoint: the backbone's published names, and the head's. A head with hidden
    /// layers has them as a PyTorch `Sequential` of dropout, then dense layers and activations in turn.
    pub(crate) fn published_name(&self, path: &str) -> Option<String> {
        let (part, rest) = path.split_once('.')?;
        match part {
            "backbone" => self.backbone.published_name(rest),
            "head" => {
                let published = self.backbone.graph().head();
                let hidden = self.head.hidden.len();
                let (index, leaf) = match rest.strip_prefix("output.") {
                    Some(leaf) => (hidden, leaf),
                    None => {
                        let (index, leaf) = rest.strip_prefix("hidden.")?.split_once('.')?;
                        (index.parse().ok()?, leaf)
                    }
                };
                if hidden == 0 {
                    return Some(format!("{published}.{leaf}"));
                }
                // `classifier.1` is in a `Sequential` already, `fc` becomes one.
                let (sequential, first) = published
                    .rsplit_once('.')
                    .and_then(|(parent, place)| Some((parent, place.parse::<usize>().ok()?)))
                    .unwrap_or((published, 1));
                Some(format!("{sequential}.{}.{leaf}", first + 2 * index))
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
    use crate::find;

    #[allow(deprecated)]
    fn device() -> Device {
        Device::ndarray()
    }

    /// torchvision's and Keras' counts; multiply-adds as torchvision publishes them, billions to three places.
    #[test]
    fn every_model_has_its_published_parameters_and_multiply_adds() {
        for spec in models() {
            let model = create(spec, &CreateOptions::default(), &device());
            let rows = model.summarize(spec.input_size).expect("its own size");
            let parameters: u64 = rows.iter().map(|row| row.parameters).sum();
            assert_eq!(parameters, spec.parameters, "{}", spec.name);
            if let Some(published) = spec.multiply_adds {
                let multiply_adds: u64 = rows.iter().map(|row| row.multiply_adds).sum();
                let giga = (multiply_adds as f64 / 1e6).round() / 1e3;
                assert_eq!(giga, published, "{}", spec.name);
            }
        }
    }

    #[test]
    fn the_listed_tensors_are_those_of_the_module() {
        use burn::store::{BurnToPyTorchAdapter, ModuleSnapshot};
        let hidden = CreateOptions { hidden: vec![16], ..CreateOptions::default() };
        for (name, options) in
            [("mobilenet_v2_0.35", &hidden), ("vit_tiny_patch16_224", &CreateOptions::default())]
        {
            let model = create(find(name).expect("in the zoo"), options, &device());
            let tensors = model.collect(None, Some(Box::new(BurnToPyTorchAdapter)), true);
            let named = |path: &str| model.published_name(path).expect("every tensor has a name");
            let collected: Vec<_> =
                tensors.iter().map(|tensor| (named(&tensor.name), tensor.shape.to_vec())).collect();
            assert_eq!(model.tensors(), collected, "{name}");
        }
    }

    #[test]
    fn every_parameter_has_its_stage_in_their_order() {
        use burn::store::ModuleSnapshot;
        for name in ["mobilenet_v2_0.35", "resnet18", "vit_tiny_patch16_224"] {
            let model = create(find(name).expect("in the zoo"), &CreateOptions::default(), &device());
            let stages: Vec<&str> =
                model.backbone.graph().stages.iter().map(|stage| stage.name.as_str()).collect();
            let place = |path: &str| match model.backbone.stage_of(path) {
                Some(stage) => stages.iter().position(|name| *name == stage).expect("one of them"),
                None => stages.len(),
            };
            let tensors = model.collect(None, None, true);
            let places: Vec<usize> = tensors.iter().map(|tensor| place(&tensor.name)).collect();
            assert!(places.is_sorted(), "{name}: {places:?}");
            assert_eq!(places[0], 0, "{name} begins with its first stage");
            assert!((0..stages.len()).all(|stage| places.contains(&stage)), "{name}: {places:?}");
            assert_eq!(place("head.layers.0.weight"), stages.len());
            assert_eq!(model.backbone.stage_of("blocks.9999.layers.0.weight"), None);
        }
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
