//! The composite of Firebrick's article: any backbone, multi-head attention over its feature map, fully connected layers, softmax.
//!
//! The attention is nodes of the graph like all others, behind the stage `features`, so that costs, names, freezing and cutting know it:
//! [`Backbone::after`](crate::Backbone::after)`("features")` is the part of it that is trained on a frozen backbone.

use firebrick_nn::Initializer;
use serde::{Deserialize, Serialize};

use crate::ZooError;
use crate::graph::{Attention, Graph, Node, Op, Stage, Value};

/// The stage between a backbone and the attention over its feature map.
const STAGE: &str = "features";

/// Self-attention over the places of a feature map (Vaswani et al. 2017, arXiv:1706.03762), in the place of a backbone's own pooling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttentionPool {
    /// How many heads; a divisor of the map's channels.
    pub heads: usize,
    /// Whether the head reads a learnt class token that attends with the places, rather than the mean of all; false by default.
    #[serde(default)]
    pub class_token: bool,
}

impl Graph {
    /// The attention that pools the feature map, if it does.
    pub fn attention_pool(&self) -> Option<AttentionPool> {
        self.attention_pool
    }

    /// This backbone with attention over its feature map in the place of what pooled it.
    ///
    /// The tensors are called `attention_pool.in_proj_weight` and so on, as in PyTorch's `MultiheadAttention`, and
    /// `attention_pool.class_token`.
    ///
    /// # Errors
    ///
    /// [`ZooError::Heads`] if the heads do not divide the map's channels.
    pub fn with_attention_pool(mut self, pool: AttentionPool) -> Result<Self, ZooError> {
        let width = self.widths()[self.map.0];
        if pool.heads == 0 || !width.is_multiple_of(pool.heads) {
            return Err(ZooError::Heads { heads: pool.heads, channels: width });
        }
        // What pooled the map so far, and the dense layers that some architectures have there.
        self.nodes.truncate(self.map.0 + 1);
        self.stages.retain(|stage| stage.value <= self.map && stage.name != STAGE);
        self.stages.push(Stage { name: STAGE.to_owned(), value: self.map });
        let block = self.nodes.iter().filter_map(|node| node.layer).map(|[block, _]| block + 1).max();
        let (block, mut place) = (block.unwrap_or(0), 0);
        let mut add = |op: Op, input: Value| {
            let layer = op.has_parameters().then(|| {
                place += 1;
                [block, place - 1]
            });
            self.nodes.push(Node { op, inputs: vec![input], layer });
            Value(self.nodes.len() - 1)
        };
        let mut x = add(Op::Tokens, self.map);
        if pool.class_token {
            x = add(Op::Prefix { name: "attention_pool.class_token".to_owned(), count: 1, width }, x);
        }
        let attention = Attention {
            qkv: ["attention_pool.in_proj_weight", "attention_pool.in_proj_bias"].map(str::to_owned),
            output: "attention_pool.out_proj".to_owned(),
            width,
            heads: pool.heads,
            initializer: Initializer::GlorotUniform,
        };
        x = add(Op::Attention(attention), x);
        self.pooled = add(if pool.class_token { Op::Token(0) } else { Op::GlobalAveragePool }, x);
        self.features = width;
        self.attention_pool = Some(pool);
        Ok(self)
    }

    /// Channels of every value that has some; of a vector made of a map, those of the map.
    fn widths(&self) -> Vec<usize> {
        let mut widths: Vec<usize> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let first = node.inputs.first().map_or(0, |input| widths[input.0]);
            widths.push(match &node.op {
                Op::Input { channels } => *channels,
                Op::Conv(conv) => conv.outputs,
                Op::Linear { outputs, .. } => *outputs,
                Op::Concat => node.inputs.iter().map(|input| widths[input.0]).sum(),
                Op::Squares => 4 * first,
                _ => first,
            });
        }
        widths
    }
}

#[cfg(test)]
mod tests {
    use burn::module::Module;
    use burn::tensor::{Device, Tensor, TensorData};
    use firebrick_nn::Network;

    use super::*;
    use crate::{CreateOptions, Manifest, Package, Provenance, create, find, models};

    #[allow(deprecated)]
    fn device() -> Device {
        Device::ndarray()
    }

    fn options(class_token: bool) -> CreateOptions {
        let attention = Some(AttentionPool { heads: 8, class_token });
        CreateOptions { classes: 5, attention, ..CreateOptions::default() }
    }

    #[test]
    fn every_backbone_takes_attention_over_its_map() {
        for spec in models() {
            for class_token in [false, true] {
                let model = create(spec, &options(class_token), &device());
                let rows = model.summarize(spec.input_size).expect("its own size");
                let row = rows.iter().find(|row| row.name == "backbone.attention_pool").expect(spec.name);
                let width = model.backbone.features() as u64;
                assert_eq!(row.parameters, 4 * width * width + 4 * width, "{}", spec.name);
                let shape =
                    model.tensors().into_iter().find(|(name, _)| name == "attention_pool.in_proj_weight");
                assert_eq!(shape.expect(spec.name).1, [3 * width as usize, width as usize], "{}", spec.name);
            }
        }
    }

    #[test]
    fn heads_that_do_not_divide_the_channels_are_refused() {
        let spec = find("mobilenet_v2").expect("in the zoo");
        let graph = spec.graph(&CreateOptions::default().build(spec));
        let error = graph.with_attention_pool(AttentionPool { heads: 7, class_token: false });
        let message = error.expect_err("1280 channels").to_string();
        assert!(message.contains("7 heads") && message.contains("1280 channels"), "{message}");
    }

    #[test]
    fn a_trained_backbone_keeps_its_weights_when_it_gets_attention() {
        let spec = find("mobilenet_v2_0.35").expect("in the zoo");
        let plain = create(spec, &CreateOptions::default(), &device());
        let images = Tensor::<4>::ones([1, 3, 32, 32], &device());
        let map = plain.features(images.clone()).into_data();
        let model = plain.reset_head(&options(true), &device());
        assert_eq!(model.features(images.clone()).into_data(), map);
        assert_eq!(model.forward(images.clone()).dims(), [1, 5]);
        // Another head keeps the attention.
        let pooled = model.pooled(images.clone()).into_data();
        let model = model.reset_head(&CreateOptions { classes: 3, ..CreateOptions::default() }, &device());
        assert_eq!(model.pooled(images).into_data(), pooled);
    }

    #[test]
    fn a_package_remembers_the_attention() {
        let spec = find("mobilenet_v2_0.35").expect("in the zoo");
        let model = create(spec, &options(true), &device());
        let images = Tensor::<4>::ones([1, 3, 32, 32], &device());
        let expected = model.forward(images.clone()).into_data();
        let preprocess = find("mobilenet_v2").expect("in the zoo").weights[0].preprocess([32, 32]);
        let classes = (0..5).map(|class| class.to_string()).collect();
        let manifest = Manifest::new(
            spec.name,
            &model,
            classes,
            preprocess,
            Provenance::default(),
            serde_json::Value::Null,
        );
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("model.safetensors");
        let mut package = Package { manifest, model };
        package.save(&path).expect("saved");
        let opened = Package::open(&path, &device()).expect("opened");
        assert_eq!(opened.manifest, package.manifest);
        assert_eq!(opened.model.forward(images).into_data(), expected);
        // Whatever a file says, it is an error and no panic.
        package.manifest.attention = Some(AttentionPool { heads: 0, class_token: true });
        package.save(&path).expect("saved");
        let Err(error) = Package::open(&path, &device()) else { panic!("no heads") };
        assert!(error.to_string().contains("0 heads"), "{error}");
    }

    #[test]
    fn the_part_behind_the_features_is_trained_on_a_frozen_backbone() {
        let spec = find("mobilenet_v2_0.35").expect("in the zoo");
        let device = device().autodiff();
        let model = create(spec, &options(true), &device);
        // Two different images: BatchNorm makes nothing of equal ones.
        let pixels: Vec<f32> = (0..2 * 3 * 32 * 32).map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0).collect();
        let images = Tensor::<4>::from_data(TensorData::new(pixels, [2, 3, 32, 32]), &device);
        let rest = model.backbone.after(STAGE).expect("it has the stage");
        let map = model.backbone.forward(images).detach();
        let gradients = model.head.forward(rest.pooled(map)).powi_scalar(2).sum().backward();
        let attention = rest.blocks.last().expect("the attention's block");
        assert_eq!(rest.num_params(), attention.num_params());
        let crate::Layer::Attention(layer) = &attention.layers[1] else { panic!("{:?}", attention.layers) };
        let gradient = layer.qkv.weight.val().grad(&gradients).expect("it is trained");
        assert!(gradient.abs().max().into_scalar::<f32>() > 0.0);
    }
}
