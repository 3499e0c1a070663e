//! What a network costs, from the graph alone: no weight is made.

use firebrick_nn::{Activation, LayerSummary};

use super::{Attention, Conv, Graph, Op, Shape, ShapeError, WindowAttention};

impl Op {
    /// Whether there is anything to learn in it.
    pub(crate) fn has_parameters(&self) -> bool {
        self.parameters() > 0
    }

    /// Learned values.
    pub fn parameters(&self) -> u64 {
        let count = match self {
            Self::Conv(conv) => {
                conv.weights()
                    + if conv.bias { conv.outputs } else { 0 }
                    + conv.norm.as_ref().map_or(0, |norm| (1 + usize::from(norm.scale)) * conv.outputs)
            }
            Self::BatchNorm { channels, .. } => 2 * channels,
            Self::LayerNorm { width, .. } => 2 * width,
            Self::Linear { inputs, outputs, bias, .. } => inputs * outputs + if *bias { *outputs } else { 0 },
            Self::Attention(attention) => {
                let width = attention.width;
                4 * width * width + 4 * width
            }
            Self::Prefix { count, width, .. } => count * width,
            Self::WindowAttention(window) => {
                let Attention { width, heads, .. } = window.attention;
                4 * width * width + 4 * width + window.offsets() * heads
            }
            Self::Positions { prefix, grid, width, .. } => (prefix + grid[0] * grid[1]) * width,
            Self::LayerScale { channels, .. } => *channels,
            _ => 0,
        };
        count as u64
    }

    /// Multiply-adds of one input: of convolutions and products, as torchvision and fvcore count them.
    fn multiply_adds(&self, input: Shape, output: Shape) -> u64 {
        let count = match self {
            Self::Conv(conv) => conv.weights() * output.places(),
            Self::Linear { inputs, outputs, .. } => inputs * outputs * output.places(),
            Self::Attention(attention) => {
                let (tokens, width) = (input.places(), attention.width);
                4 * width * width * tokens + 2 * tokens * tokens * width
            }
            Self::WindowAttention(window) => {
                let [height, wide] = match input {
                    Shape::Map([_, height, width]) => window.padded([height, width]),
                    _ => [0, 0],
                };
                let width = window.attention.width;
                let places = window.window[0] * window.window[1];
                height * wide * (4 * width * width + 2 * places * width)
            }
            _ => 0,
        };
        count as u64
    }

    /// What it is called where it has no name.
    pub(super) fn label(&self) -> String {
        let of = |kind: &str, name: &str| format!("{kind} `{name}`");
        match self {
            Self::Conv(conv) => of("convolution", &conv.name),
            Self::BatchNorm { name, .. } => of("BatchNorm", name),
            Self::LayerNorm { name, .. } => of("LayerNorm", name),
            Self::Linear { name, .. } => of("dense layer", name),
            Self::Attention(attention) => of("attention", &attention.output),
            Self::WindowAttention(window) => of("attention", &window.attention.output),
            Self::Prefix { name, .. } => of("token", name),
            Self::Positions { name, .. } => of("positions", name),
            Self::LayerScale { name, .. } => of("LayerScale", name),
            Self::MaxPool(_) => "a max pooling".to_owned(),
            Self::AveragePool(..) => "an average pooling".to_owned(),
            other => format!("{other:?}"),
        }
    }

    /// Name, and kind with settings, for a table.
    fn row(&self) -> (String, String) {
        let then = |activation: &Activation| match activation {
            Activation::None => String::new(),
            other => format!(" + {other:?}"),
        };
        match self {
            Self::Conv(conv) => (conv.name.clone(), conv.kind()),
            Self::BatchNorm { name, activation, .. } => {
                (name.clone(), format!("BatchNorm{}", then(activation)))
            }
            Self::LayerNorm { name, .. } => (name.clone(), "LayerNorm".to_owned()),
            Self::Linear { name, activation, .. } => (name.clone(), format!("Dense{}", then(activation))),
            Self::Attention(attention) => {
                (attention.parent().to_owned(), format!("Attention, {} heads", attention.heads))
            }
            Self::WindowAttention(WindowAttention { attention, window: [height, width], .. }) => {
                let kind = format!("Attention, {} heads, windows {height}x{width}", attention.heads);
                (attention.parent().to_owned(), kind)
            }
            Self::Prefix { name, .. } => (name.clone(), "Token".to_owned()),
            Self::Positions { name, .. } => (name.clone(), "Positions".to_owned()),
            Self::LayerScale { name, .. } => (name.clone(), "LayerScale".to_owned()),
            other => (String::new(), format!("{other:?}")),
        }
    }
}

impl Attention {
    /// What its layers are called together.
    fn parent(&self) -> &str {
        self.output.rsplit_once('.').map_or("attention", |(parent, _)| parent)
    }
}

impl Conv {
    fn weights(&self) -> usize {
        self.outputs * (self.inputs / self.groups) * self.kernel[0] * self.kernel[1]
    }

    fn kind(&self) -> String {
        let [height, width] = self.kernel;
        let prefix = if self.is_depthwise() { "Depthwise" } else { "" };
        let mut kind = format!("{prefix}Conv2d {height}x{width} s{}", self.stride[0]);
        if self.groups > 1 && !self.is_depthwise() {
            kind += &format!(" g{}", self.groups);
        }
        if self.norm.is_some() {
            kind += " + BatchNorm";
        }
        if self.activation != Activation::None {
            kind += &format!(" + {:?}", self.activation);
        }
        kind
    }
}

impl Graph {
    /// Learned values of the backbone.
    pub fn parameters(&self) -> u64 {
        self.nodes.iter().map(|node| node.op.parameters()).sum()
    }

    /// A row a layer with parameters, for one image of `[height, width]` pixels.
    ///
    /// # Errors
    ///
    /// As of [`shapes`](Self::shapes).
    pub fn summarize(&self, size: [usize; 2]) -> Result<Vec<LayerSummary>, ShapeError> {
        let shapes = self.shapes(size)?;
        let rows = self.nodes.iter().zip(&shapes).filter(|(node, _)| node.layer.is_some());
        Ok(rows
            .map(|(node, output)| {
                let input = node.inputs.first().map_or(*output, |input| shapes[input.0]);
                let (name, kind) = node.op.row();
                LayerSummary {
                    name,
                    kind,
                    output: output.dims(),
                    parameters: node.op.parameters(),
                    multiply_adds: node.op.multiply_adds(input, *output),
                }
            })
            .collect())
    }
}
