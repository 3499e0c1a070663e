//! What a graph's tensors are called in published files.

use super::{Attention, Conv, Graph, Node, Op, WindowAttention};

impl Op {
    /// The published name of the tensor that this operation's layer holds at `leaf`.
    fn published(&self, leaf: &str) -> Option<String> {
        let under = |name: &str, leaf: &str| Some(format!("{name}.{leaf}"));
        match self {
            Self::Conv(conv) => match (leaf.split_once('.'), &conv.norm) {
                (Some(("conv", leaf)), _) => under(&conv.name, leaf),
                (Some(("norm", leaf)), Some(norm)) => under(&norm.name, leaf),
                (None, _) => under(&conv.name, leaf),
                _ => None,
            },
            Self::BatchNorm { name, .. } | Self::LayerNorm { name, .. } | Self::Linear { name, .. } => {
                under(name, leaf)
            }
            Self::WindowAttention(window) if leaf == "table" => Some(window.table.clone()),
            Self::Attention(attention) | Self::WindowAttention(WindowAttention { attention, .. }) => {
                match leaf.split_once('.')? {
                    ("qkv", "weight") => Some(attention.qkv[0].clone()),
                    ("qkv", "bias") => Some(attention.qkv[1].clone()),
                    ("output", leaf) => under(&attention.output, leaf),
                    _ => None,
                }
            }
            Self::Prefix { name, .. } | Self::Positions { name, .. } | Self::LayerScale { name, .. } => {
                Some(name.clone())
            }
            _ => None,
        }
    }
}

impl Op {
    /// Published name and PyTorch's shape of every tensor, running statistics among them.
    fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let dense = |[weight, bias]: [&str; 2], inputs: usize, outputs: usize| {
            vec![(weight.to_owned(), vec![outputs, inputs]), (bias.to_owned(), vec![outputs])]
        };
        let vectors = |name: &str, leaves: &[&str], length: usize| -> Vec<(String, Vec<usize>)> {
            leaves.iter().map(|leaf| (format!("{name}.{leaf}"), vec![length])).collect()
        };
        let statistics = ["weight", "bias", "running_mean", "running_var"];
        match self {
            Self::Conv(conv) => {
                let shape = vec![conv.outputs, conv.inputs / conv.groups, conv.kernel[0], conv.kernel[1]];
                let mut tensors = vec![(format!("{}.weight", conv.name), shape)];
                if conv.bias {
                    tensors.extend(vectors(&conv.name, &["bias"], conv.outputs));
                }
                if let Some(norm) = &conv.norm {
                    let statistics = if norm.scale { &statistics } else { &statistics[1..] };
                    tensors.extend(vectors(&norm.name, statistics, conv.outputs));
                }
                tensors
            }
            Self::BatchNorm { name, channels, .. } => vectors(name, &statistics, *channels),
            Self::LayerNorm { name, width, .. } => vectors(name, &["weight", "bias"], *width),
            Self::Linear { name, inputs, outputs, bias, .. } => {
                let mut tensors = vec![(format!("{name}.weight"), vec![*outputs, *inputs])];
                if *bias {
                    tensors.extend(vectors(name, &["bias"], *outputs));
                }
                tensors
            }
            Self::Attention(Attention { qkv: [weight, bias], output, width, .. }) => {
                let mut tensors = dense([weight, bias], *width, 3 * width);
                tensors.extend(dense(
                    [&format!("{output}.weight"), &format!("{output}.bias")],
                    *width,
                    *width,
                ));
                tensors
            }
            Self::WindowAttention(window) => {
                let mut tensors = Self::Attention(window.attention.clone()).tensors();
                tensors.push((window.table.clone(), vec![window.offsets(), window.attention.heads]));
                tensors
            }
            Self::Prefix { name, count, width } => vec![(name.clone(), vec![1, *count, *width])],
            Self::Positions { name, prefix, grid, width, .. } => {
                vec![(name.clone(), vec![1, prefix + grid[0] * grid[1], *width])]
            }
            Self::LayerScale { name, channels, spatial: true, .. } => {
                vec![(name.clone(), vec![*channels, 1, 1])]
            }
            Self::LayerScale { name, channels, .. } => vec![(name.clone(), vec![*channels])],
            _ => Vec::new(),
        }
    }
}

impl Graph {
    /// Published name and PyTorch's shape of every tensor, running statistics among them, in the order of the nodes.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        self.nodes.iter().flat_map(|node| node.op.tensors()).collect()
    }

    /// Published name and length of the factors of norms that have none in the published files: they are 1.
    pub(crate) fn units(&self) -> impl Iterator<Item = (String, usize)> {
        self.nodes.iter().filter_map(|node| match &node.op {
            Op::Conv(Conv { norm: Some(norm), outputs, .. }) if !norm.scale => {
                Some((format!("{}.weight", norm.name), *outputs))
            }
            _ => None,
        })
    }

    /// The node whose parameters are at this block and place.
    fn node_of(&self, layer: [usize; 2]) -> Option<&Node> {
        self.nodes.iter().find(|node| node.layer == Some(layer))
    }

    /// The published name of a backbone's tensor, e.g. of `blocks.1.layers.0.conv.weight`.
    pub(crate) fn published_name(&self, path: &str) -> Option<String> {
        let (block, rest) = path.strip_prefix("blocks.")?.split_once(".layers.")?;
        let (place, leaf) = rest.split_once('.').unwrap_or((rest, ""));
        let node = self.node_of([block.parse().ok()?, place.parse().ok()?])?;
        node.op.published(leaf)
    }
}
