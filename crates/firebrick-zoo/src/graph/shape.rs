//! What a node's result looks like.

use super::Op;

/// The shape of a value, without the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `[channels, height, width]`.
    Map([usize; 3]),
    /// `[tokens, width]`.
    Tokens([usize; 2]),
    /// `[features]`.
    Vector(usize),
}

impl Shape {
    /// Channels of a pixel, width of a token, or length.
    pub fn channels(self) -> usize {
        match self {
            Self::Map([channels, ..]) => channels,
            Self::Tokens([_, width]) => width,
            Self::Vector(length) => length,
        }
    }

    /// Pixels or tokens; 1 of a vector.
    pub fn places(self) -> usize {
        match self {
            Self::Map([_, height, width]) => height * width,
            Self::Tokens([tokens, _]) => tokens,
            Self::Vector(_) => 1,
        }
    }

    /// As a list.
    pub fn dims(self) -> Vec<usize> {
        match self {
            Self::Map(dims) => dims.to_vec(),
            Self::Tokens(dims) => dims.to_vec(),
            Self::Vector(length) => vec![length],
        }
    }

    /// Channels replaced.
    fn with_channels(self, channels: usize) -> Self {
        match self {
            Self::Map([_, height, width]) => Self::Map([channels, height, width]),
            Self::Tokens([tokens, _]) => Self::Tokens([tokens, channels]),
            Self::Vector(_) => Self::Vector(channels),
        }
    }
}

/// An operation that has nothing to work on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{operation} cannot work on {given}: {expected}")]
pub struct ShapeError {
    /// Which one.
    pub operation: String,
    /// What it is given.
    pub given: String,
    /// What it needs.
    pub expected: String,
}

/// Sides as they are written: 3x224x224.
fn sides(dims: &[usize]) -> String {
    dims.iter().map(usize::to_string).collect::<Vec<_>>().join("x")
}

fn error(op: &Op, given: &[Shape], expected: impl Into<String>) -> ShapeError {
    let given = given.iter().map(|shape| sides(&shape.dims())).collect::<Vec<_>>();
    ShapeError { operation: op.label(), given: given.join(" and "), expected: expected.into() }
}

/// The shape of a node's result.
pub(super) fn output(op: &Op, inputs: &[Shape], size: [usize; 2]) -> Result<Shape, ShapeError> {
    let first = inputs.first().copied().unwrap_or(Shape::Vector(0));
    let misfit = |expected: String| Err(error(op, inputs, expected));
    Ok(match (op, first) {
        (Op::Input { channels }, _) => {
            if size.contains(&0) {
                return misfit("at least one pixel".to_owned());
            }
            Shape::Map([*channels, size[0], size[1]])
        }
        (Op::Conv(conv), Shape::Map([_, height, width])) => {
            match conv.padding.output([height, width], conv.kernel, conv.stride) {
                Some([height, width]) => Shape::Map([conv.outputs, height, width]),
                None => return misfit(format!("its kernel is {} pixels", sides(&conv.kernel))),
            }
        }
        (Op::Conv(conv), Shape::Vector(_)) => Shape::Vector(conv.outputs),
        (Op::MaxPool(window) | Op::AveragePool(window, _), Shape::Map([channels, height, width])) => {
            match (window.count(0, height), window.count(1, width)) {
                (Some(height), Some(width)) => Shape::Map([channels, height, width]),
                _ => return misfit(format!("its window is {} pixels", sides(&window.kernel))),
            }
        }
        (Op::AdaptiveAveragePool([height, width]), Shape::Map([channels, ..])) => {
            Shape::Map([channels, *height, *width])
        }
        (Op::GlobalAveragePool, shape) => Shape::Vector(shape.channels()),
        (Op::Flatten, Shape::Map(dims)) => Shape::Vector(dims.iter().product()),
        (Op::Flatten, Shape::Tokens([tokens, width])) => Shape::Vector(tokens * width),
        (Op::Tokens, Shape::Map([channels, height, width])) => Shape::Tokens([height * width, channels]),
        (Op::Map { skip, size }, Shape::Tokens([tokens, width])) => {
            if tokens != skip + size[0] * size[1] {
                return misfit(format!("{} tokens", skip + size[0] * size[1]));
            }
            Shape::Map([width, size[0], size[1]])
        }
        (Op::Prefix { count, .. }, Shape::Tokens([tokens, width])) => Shape::Tokens([tokens + count, width]),
        (Op::Positions { prefix, grid, .. }, Shape::Tokens([tokens, width])) => {
            let expected = prefix + grid[0] * grid[1];
            if tokens != expected {
                return misfit(format!("it has {expected} positions; create the model for this image size"));
            }
            Shape::Tokens([tokens, width])
        }
        (Op::Token(_), Shape::Tokens([_, width])) => Shape::Vector(width),
        (Op::Linear { outputs, .. }, shape) => shape.with_channels(*outputs),
        (Op::Concat, shape) => {
            let same = inputs.iter().all(|other| other.with_channels(0) == shape.with_channels(0));
            if !same {
                return misfit("equal heights and widths".to_owned());
            }
            shape.with_channels(inputs.iter().map(|shape| shape.channels()).sum())
        }
        (Op::WindowAttention(_), Shape::Map(_)) => first,
        (Op::Squares, Shape::Map([channels, height, width])) => {
            Shape::Map([4 * channels, height.div_ceil(2), width.div_ceil(2)])
        }
        (
            Op::BatchNorm { .. }
            | Op::LayerNorm { .. }
            | Op::Attention(_)
            | Op::Activation(_)
            | Op::Add(_)
            | Op::Scale
            | Op::LayerScale { .. }
            | Op::DropPath(_)
            | Op::Dropout(_),
            shape,
        ) => shape,
        (_, _) => return misfit("another kind of value".to_owned()),
    })
}
