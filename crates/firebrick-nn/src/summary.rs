//! What a layer costs.

/// One row of a model's table: a layer, its output and its cost, for one input of a stated size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerSummary {
    /// Path of the layer in its model, e.g. `blocks.3.depthwise`.
    pub name: String,
    /// Kind and settings, e.g. `Conv2d 3x3 s2 + BatchNorm + relu6`.
    pub kind: String,
    /// Output shape without the batch axis, e.g. `[channels, height, width]`.
    pub output: Vec<usize>,
    /// Number of learned parameters; running statistics are not among them.
    pub parameters: u64,
    /// Multiply-adds of convolutions and products for one input; normalisation and activations are not counted.
    pub multiply_adds: u64,
}
