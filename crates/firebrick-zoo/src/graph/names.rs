//! What a graph's tensors are called in published files.

use super::{Graph, Node, Op};

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
            Self::Attention(attention) => match leaf.split_once('.')? {
                ("qkv", "weight") => Some(attention.qkv[0].clone()),
                ("qkv", "bias") => Some(attention.qkv[1].clone()),
                ("output", leaf) => under(&attention.output, leaf),
                _ => None,
            },
            Self::Prefix { name, .. } | Self::Positions { name, .. } | Self::LayerScale { name, .. } => {
                Some(name.clone())
            }
            _ => None,
        }
    }
}

impl Graph {
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
