//! A Vision Transformer that is not trained, compiled for the CPU: its patches by a [`Plan`], its layers by an [`EncoderPlan`].

use firebrick_kernels::{
    AttentionParams, EncoderBatch, EncoderConfig, EncoderInput, EncoderLayerParams, EncoderPlan,
    EncoderPlanBuilder, KernelError, KeyMask, LinearParams, NormOrder, Plan, PlanBuilder,
};
use firebrick_nn::Activation;

use super::frozen::{kernel, values_of};
use super::{AttentionLayer, Backbone, Layer};
use crate::frozen_bert::{StoredLinear, StoredNorm};
use crate::graph::{Op, Shape, Value};

/// Images to the class token of the last layer.
#[derive(Debug)]
pub(super) struct VisionPlan {
    patches: Plan,
    encoder: EncoderPlan,
    /// `[tokens, width]`: class tokens with their positions, then the positions of the patches.
    added: Vec<f32>,
    /// Class tokens.
    prefix: usize,
    /// Which token is handed out.
    token: usize,
}

/// The nodes of a graph one after another, each of which must read what is said.
struct Reader<'a> {
    backbone: &'a Backbone,
    next: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, inputs: &[Value]) -> Option<(Value, &'a Op, Option<&'a Layer>)> {
        let node = self.backbone.graph.nodes.get(self.next)?;
        let value = Value(self.next);
        self.next += 1;
        (node.inputs == inputs).then(|| (value, &node.op, self.backbone.layer_of(value.0)))
    }

    /// Past stochastic depth, which does nothing in evaluation.
    fn dropped(&mut self, x: Value) -> Value {
        let before = self.next;
        match self.take(&[x]) {
            Some((y, Op::DropPath(_), _)) => y,
            _ => {
                self.next = before;
                x
            }
        }
    }

    fn norm(&mut self, x: Value) -> Option<(Value, StoredNorm)> {
        match self.take(&[x])? {
            (y, Op::LayerNorm { epsilon, .. }, Some(Layer::LayerNorm(norm))) => {
                Some((y, StoredNorm::of(norm, *epsilon as f32)))
            }
            _ => None,
        }
    }

    fn linear(&mut self, x: Value) -> Option<(Value, StoredLinear, Activation, [usize; 2])> {
        match self.take(&[x])? {
            (y, Op::Linear { activation, inputs, outputs, .. }, Some(Layer::Linear(layer))) => {
                Some((y, StoredLinear::of(layer), *activation, [*inputs, *outputs]))
            }
            _ => None,
        }
    }

    fn sum(&mut self, branch: Value, x: Value) -> Option<Value> {
        let branch = self.dropped(branch);
        match self.take(&[branch, x])? {
            (y, Op::Add(Activation::None), _) => Some(y),
            _ => None,
        }
    }

    /// A layer with its norms first; none, and nothing read, where there is another thing.
    fn layer(&mut self, x: Value) -> Option<(Value, EncoderConfig, StoredLayer)> {
        let before = self.next;
        let layer = self.read_layer(x);
        if layer.is_none() {
            self.next = before;
        }
        layer
    }

    fn read_layer(&mut self, x: Value) -> Option<(Value, EncoderConfig, StoredLayer)> {
        let (y, attention_norm) = self.norm(x)?;
        let (y, Op::Attention(settings), Some(Layer::Attention(attention))) = self.take(&[y])? else {
            return None;
        };
        let x = self.sum(y, x)?;
        let (y, feed_forward_norm) = self.norm(x)?;
        let (y, expand, activation, [_, feed_forward]) = self.linear(y)?;
        let (y, project, Activation::None, _) = self.linear(y)? else { return None };
        let x = self.sum(y, x)?;
        let config = EncoderConfig {
            width: settings.width,
            heads: settings.heads,
            feed_forward,
            activation: kernel(activation)?,
            order: NormOrder::Pre,
            causal: false,
        };
        let AttentionLayer { qkv, output } = attention;
        let qkv = StoredLinear::of(qkv);
        let output = StoredLinear::of(output);
        Some((x, config, StoredLayer { attention_norm, qkv, output, feed_forward_norm, expand, project }))
    }
}

/// The parameters of a layer read back from their device.
struct StoredLayer {
    attention_norm: StoredNorm,
    qkv: StoredLinear,
    output: StoredLinear,
    feed_forward_norm: StoredNorm,
    expand: StoredLinear,
    project: StoredLinear,
}

impl StoredLayer {
    fn add_to(&self, builder: EncoderPlanBuilder) -> EncoderPlanBuilder {
        let qkv = self.qkv.params();
        // One below another, as PyTorch has them.
        let third = |part: usize| {
            let of = |values: &'_ [f32]| part * values.len() / 3..(part + 1) * values.len() / 3;
            LinearParams { weight: &qkv.weight[of(qkv.weight)], bias: qkv.bias.map(|bias| &bias[of(bias)]) }
        };
        builder.layer(&EncoderLayerParams {
            attention: AttentionParams {
                query: third(0),
                key: third(1),
                value: third(2),
                output: self.output.params(),
            },
            attention_norm: self.attention_norm.params(),
            expand: self.expand.params(),
            project: self.project.params(),
            feed_forward_norm: self.feed_forward_norm.params(),
        })
    }
}

impl Backbone {
    /// The plan up to `result`, where this is a Vision Transformer and the result one of its last tokens.
    pub(super) fn vision_plan(
        &self,
        result: Value,
        shapes: &[Shape],
    ) -> Option<Result<VisionPlan, KernelError>> {
        let (Value(0), Shape::Map(input)) = (self.start, shapes[0]) else { return None };
        let mut reader = Reader { backbone: self, next: 1 };
        let (conv, Op::Conv(_), _) = reader.take(&[Value(0)])? else { return None };
        let patches = self.stored(conv.0, shapes[0])?;
        let (x, Op::Tokens, _) = reader.take(&[conv])? else { return None };
        let (x, Op::Prefix { count, .. }, Some(Layer::Tokens(class))) = reader.take(&[x])? else {
            return None;
        };
        let (mut x, Op::Positions { .. }, Some(Layer::Tokens(positions))) = reader.take(&[x])? else {
            return None;
        };
        let mut added = values_of(positions.val());
        added.iter_mut().zip(values_of(class.val())).for_each(|(added, class)| *added += class);
        let mut encoder: Option<(EncoderConfig, EncoderPlanBuilder)> = None;
        while let Some((y, config, layer)) = reader.layer(x) {
            let (first, builder) = encoder.unwrap_or_else(|| (config, EncoderPlanBuilder::new(config)));
            if first != config {
                return None;
            }
            encoder = Some((first, layer.add_to(builder)));
            x = y;
        }
        let (_, encoder) = encoder?;
        let (x, norm) = reader.norm(x)?;
        let (pooled, &Op::Token(token), _) = reader.take(&[x])? else { return None };
        if pooled != result {
            return None;
        }
        let compile = || {
            let mut builder = PlanBuilder::new(input);
            let images = builder.input();
            let map = builder.conv(images, &patches.params(), None);
            let patches = builder.output(map).build()?;
            let encoder = encoder.final_norm(&norm.params()).build()?;
            Ok(VisionPlan { patches, encoder, added, prefix: *count, token })
        };
        Some(compile())
    }
}

impl VisionPlan {
    pub(super) fn input_shape(&self) -> [usize; 3] {
        self.patches.input_shape()
    }

    pub(super) fn width(&self) -> usize {
        self.encoder.config().width
    }

    /// Images `[batch, height, width, channels]` to `[batch, width]`.
    ///
    /// # Panics
    ///
    /// If there are not as many values.
    pub(super) fn run(&self, images: &[f32], batch: usize) -> Vec<f32> {
        let width = self.width();
        let patches = self.patches.run(images, batch);
        let mut hidden = Vec::with_capacity(batch * self.added.len());
        let (class, positions) = self.added.split_at(self.prefix * width);
        for image in patches.chunks_exact(positions.len()) {
            hidden.extend_from_slice(class);
            hidden.extend(image.iter().zip(positions).map(|(patch, position)| patch + position));
        }
        let tokens = self.added.len() / width;
        let batch = EncoderBatch { input: EncoderInput::Hidden(&hidden), batch, tokens, mask: KeyMask::None };
        let hidden = self.encoder.run(&batch).expect("the hidden states were made for this encoder");
        let token = |sequence: &[f32]| sequence[self.token * width..][..width].to_vec();
        hidden.chunks_exact(tokens * width).flat_map(token).collect()
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor, TensorData};

    use super::*;
    use crate::{CreateOptions, create, find};

    #[test]
    #[allow(deprecated)]
    fn a_compiled_vision_transformer_is_the_module() {
        let device = Device::ndarray();
        let size = [48, 32];
        // What is dropped in training is not in evaluation.
        let options =
            CreateOptions { image_size: Some(size), seed: 5, drop_path: 0.2, ..CreateOptions::default() };
        let spec = find("vit_tiny_patch16_224").expect("in the zoo");
        let backbone = create(spec, &options, &device).backbone;
        let shapes = backbone.graph.shapes([48, 32]).expect("its own size");
        assert!(backbone.vision_plan(backbone.graph.pooled, &shapes).is_some());
        let pixels: Vec<f32> = (0..2 * 48 * 32 * 3).map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0).collect();
        let images = Tensor::<4>::from_data(TensorData::new(pixels, [2, 48, 32, 3]), &device);
        let images = images.permute([0, 3, 1, 2]);
        let frozen = backbone.compile(size).expect("compiled");
        let (got, expected) = (values_of(frozen.pooled(images.clone())), values_of(backbone.pooled(images)));
        let scale = expected.iter().fold(0.0f32, |scale, v| scale.max(v.abs()));
        for (g, e) in got.iter().zip(&expected) {
            assert!((g - e).abs() <= 1e-4 * scale, "{g} != {e}, scale {scale}");
        }
    }
}
