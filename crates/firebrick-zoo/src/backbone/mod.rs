//! A network made from its graph: parameters on a device, and the forward pass.

mod forward;
mod frozen;
mod frozen_vision;
mod layer;
mod window_attention;

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use firebrick_nn::{LayerSummary, seed_of};

use crate::graph::{Graph, Op, Shape, Step, Value, steps};
use crate::{AttentionPool, ZooError};
pub use frozen::FrozenBackbone;
pub(crate) use frozen::{is_cpu, values_of as values};
pub use layer::{AttentionLayer, Layer};
pub use window_attention::WindowAttentionLayer;

/// Layers that belong together: what layer-wise learning rates count and freezing cuts between.
#[derive(Module, Debug)]
pub struct Block {
    /// Its layers with parameters, in the order of the graph.
    pub layers: Vec<Layer>,
}

/// What turns images into features; see [`Graph`] for how it is described.
#[derive(Module, Debug)]
pub struct Backbone {
    /// The parameters.
    pub blocks: Vec<Block>,
    #[module(skip)]
    graph: Arc<Graph>,
    #[module(skip)]
    steps: Arc<Vec<Step>>,
    /// What its input stands for: the images, or the value at the stage where it was cut.
    #[module(skip)]
    start: Value,
}

impl Graph {
    /// Makes the network on `device`; its first weights depend on `seed` alone, and are drawn when they are first used.
    pub fn init(self, seed: u64, device: &Device) -> Backbone {
        let mut blocks: Vec<Block> = Vec::new();
        let mut parameter = 0;
        for node in &self.nodes {
            let Some([block, _]) = node.layer else { continue };
            if blocks.len() <= block {
                blocks.resize_with(block + 1, || Block { layers: Vec::new() });
            }
            parameter += 1;
            blocks[block].layers.push(Layer::new(&node.op, seed_of(seed, parameter), device));
        }
        let steps = Arc::new(steps(&self));
        Backbone { blocks, graph: Arc::new(self), steps, start: Value(0) }
    }
}

impl Backbone {
    /// How it is described.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Length of the vector that [`pooled`](Self::pooled) gives, or of each pixel's part of it for a head over pixels.
    pub fn features(&self) -> usize {
        self.graph.features
    }

    /// The last feature map: `[batch, channels, height, width]` to `[batch, channels, h, w]`.
    ///
    /// # Panics
    ///
    /// If the images have another number of channels, or are smaller than [`check_size`](Self::check_size) allows.
    pub fn forward(&self, images: Tensor<4>) -> Tensor<4> {
        self.maps(images, &[self.graph.map]).remove(0)
    }

    /// What a head reads: `[batch, channels, height, width]` to `[batch, features]`.
    ///
    /// # Panics
    ///
    /// As [`forward`](Self::forward).
    pub fn pooled(&self, images: Tensor<4>) -> Tensor<2> {
        self.run(images, &[self.graph.pooled]).remove(0).into_vector()
    }

    /// The feature maps at these stages, in their order; where there are tokens, `[batch, width, tokens, 1]`.
    ///
    /// # Errors
    ///
    /// [`ZooError::UnknownStage`], with the names there are.
    pub fn stages(&self, images: Tensor<4>, names: &[&str]) -> Result<Vec<Tensor<4>>, ZooError> {
        let values = names.iter().map(|name| self.stage(name)).collect::<Result<Vec<_>, _>>()?;
        Ok(self.maps(images, &values))
    }

    /// The value at a stage.
    pub(crate) fn stage(&self, name: &str) -> Result<Value, ZooError> {
        let stages = &self.graph.stages;
        let behind = |stage: &&crate::graph::Stage| stage.name == name && stage.value > self.start;
        stages.iter().find(behind).map(|stage| stage.value).ok_or_else(|| ZooError::UnknownStage {
            stage: name.to_owned(),
            known: stages.iter().map(|stage| stage.name.as_str()).collect::<Vec<_>>().join(", "),
        })
    }

    /// As [`Graph::stage_of`].
    pub fn stage_of(&self, path: &str) -> Option<&str> {
        self.graph.stage_of(path)
    }

    fn maps(&self, images: Tensor<4>, values: &[Value]) -> Vec<Tensor<4>> {
        self.run(images, values).into_iter().map(forward::Flow::into_stage).collect()
    }

    /// The part behind a stage: it reads what [`stages`](Self::stages) gives there, and has none of the parameters before.
    ///
    /// # Errors
    ///
    /// [`ZooError::UnknownStage`], with the names there are.
    pub fn after(&self, stage: &str) -> Result<Self, ZooError> {
        let start = self.stage(stage)?;
        let mut rest = self.clone();
        rest.start = start;
        for (index, node) in self.graph.nodes.iter().enumerate() {
            if let Some([block, _]) = node.layer
                && index <= start.0
            {
                rest.blocks[block].layers.clear();
            }
        }
        Ok(rest)
    }

    /// Puts the parameters before [`after`](Self::after)'s stage back from the network it was cut from.
    pub fn rejoin(mut self, whole: &Self) -> Self {
        for (block, original) in self.blocks.iter_mut().zip(&whole.blocks) {
            if block.layers.is_empty() {
                block.layers.clone_from(&original.layers);
            }
        }
        self.start = whole.start;
        self
    }

    /// The same weights with attention over the feature map, which replaces what pooled it and any attention that did; see
    /// [`Graph::with_attention_pool`]. First weights of the attention depend on `seed` alone.
    ///
    /// # Errors
    ///
    /// [`ZooError::Heads`] if the heads do not divide the map's channels.
    pub fn with_attention_pool(
        mut self,
        pool: AttentionPool,
        seed: u64,
        device: &Device,
    ) -> Result<Self, ZooError> {
        let graph = Graph::clone(&self.graph).with_attention_pool(pool)?;
        let (kept, added) = graph.nodes.split_at(graph.map.0 + 1);
        let blocks = kept.iter().filter_map(|node| node.layer).map(|[block, _]| block + 1).max().unwrap_or(0);
        self.blocks.truncate(blocks);
        for (block, layers) in self.blocks.iter_mut().enumerate() {
            let of_block = kept.iter().filter(|node| node.layer.is_some_and(|[of, _]| of == block));
            layers.layers.truncate(of_block.count());
        }
        let layers = added.iter().filter(|node| node.layer.is_some()).enumerate();
        let layers = layers.map(|(index, node)| Layer::new(&node.op, seed_of(seed, index as u64), device));
        self.blocks.push(Block { layers: layers.collect() });
        self.steps = Arc::new(steps(&graph));
        self.graph = Arc::new(graph);
        Ok(self)
    }

    /// Checks that images of `[height, width]` pixels are large enough, and of the size that the network is bound to, if it is.
    ///
    /// # Errors
    ///
    /// [`ZooError::ImageSize`] says which operation has nothing to work on.
    pub fn check_size(&self, size: [usize; 2]) -> Result<(), ZooError> {
        self.graph.shapes(size).map(|_| ()).map_err(|source| ZooError::ImageSize { size, source })
    }

    /// A row a layer with parameters, for one image of `[height, width]` pixels.
    ///
    /// # Errors
    ///
    /// As [`check_size`](Self::check_size).
    pub fn summarize(&self, size: [usize; 2]) -> Result<Vec<LayerSummary>, ZooError> {
        self.graph.summarize(size).map_err(|source| ZooError::ImageSize { size, source })
    }

    /// The layer whose published tensors begin with `name` and a dot, e.g. `layer1.0.conv1`.
    pub fn layer(&self, name: &str) -> Option<&Layer> {
        let named = |op: &Op| match op {
            Op::Conv(conv) => conv.name == name,
            Op::BatchNorm { name: own, .. }
            | Op::LayerNorm { name: own, .. }
            | Op::Linear { name: own, .. }
            | Op::Prefix { name: own, .. }
            | Op::Positions { name: own, .. }
            | Op::LayerScale { name: own, .. } => own == name,
            Op::Attention(attention) => attention.output == name,
            Op::WindowAttention(window) => window.attention.output == name,
            _ => false,
        };
        let node = self.graph.nodes.iter().find(|node| named(&node.op))?;
        self.layer_at(node.layer?)
    }

    fn layer_of(&self, node: usize) -> Option<&Layer> {
        self.layer_at(self.graph.nodes[node].layer?)
    }

    /// Which nodes behind the start these values need, themselves among them.
    fn needed(&self, wanted: &[Value]) -> Vec<bool> {
        let nodes = &self.graph.nodes;
        let mut needed = vec![false; nodes.len()];
        wanted.iter().for_each(|value| needed[value.0] = true);
        for index in (self.start.0 + 1..nodes.len()).rev() {
            if needed[index] {
                nodes[index].inputs.iter().for_each(|input| needed[input.0] = true);
            }
        }
        needed[..=self.start.0].fill(false);
        needed
    }

    fn layer_at(&self, [block, place]: [usize; 2]) -> Option<&Layer> {
        self.blocks.get(block)?.layers.get(place)
    }

    /// The name that this backbone's tensor has in the files it is published in.
    pub(crate) fn published_name(&self, path: &str) -> Option<String> {
        self.graph.published_name(path)
    }

    /// The shape of what [`forward`](Self::forward) gives for images of `[height, width]` pixels.
    ///
    /// # Errors
    ///
    /// As [`check_size`](Self::check_size).
    pub fn map_shape(&self, size: [usize; 2]) -> Result<[usize; 3], ZooError> {
        let shapes = self.graph.shapes(size).map_err(|source| ZooError::ImageSize { size, source })?;
        match shapes[self.graph.map.0] {
            Shape::Map(shape) => Ok(shape),
            other => unreachable!("an architecture's map is a map, not {other:?}"),
        }
    }
}
