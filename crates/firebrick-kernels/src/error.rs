//! What can be wrong with a network or an environment that is handed to this crate.

use crate::SimdLevel;

/// Why a plan could not be built or run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// A slice of parameters has another length than its shape asks for.
    #[error("layer {layer}: {parameter} holds {actual} values, its shape {shape} needs {expected}")]
    ParameterLength {
        /// The layer's place in the plan, from 0.
        layer: usize,
        /// Which parameter: `weight`, `bias`, `gamma`, ...
        parameter: &'static str,
        /// The shape that decides, for instance `[64, 32, 3, 3]`.
        shape: String,
        /// Values needed.
        expected: usize,
        /// Values given.
        actual: usize,
    },

    /// A layer expects another number of channels than arrive.
    #[error("layer {layer}: {operation} expects {expected} input channels, but {actual} arrive")]
    InputChannels {
        /// The layer's place in the plan, from 0.
        layer: usize,
        /// The operation, for instance `convolution`.
        operation: &'static str,
        /// Channels expected.
        expected: usize,
        /// Channels that arrive.
        actual: usize,
    },

    /// Sizes that no convolution can have: zero channels, kernel or stride, or channels that the groups do not divide.
    #[error("layer {layer}: {reason}")]
    InvalidLayer {
        /// The layer's place in the plan, from 0.
        layer: usize,
        /// What is wrong, with the values.
        reason: String,
    },

    /// The kernel is larger than the padded input.
    #[error(
        "layer {layer}: a kernel of {} x {} does not fit the padded input of {} x {}; use larger images or more padding",
        kernel[0], kernel[1], padded[0], padded[1]
    )]
    KernelLargerThanInput {
        /// The layer's place in the plan, from 0.
        layer: usize,
        /// Kernel height and width.
        kernel: [usize; 2],
        /// Input height and width with their padding.
        padded: [usize; 2],
    },

    /// An activation tensor of one image would be larger than the plan's 32-bit offsets reach.
    #[error(
        "layer {layer}: {channels} channels of {height} x {width} are more than the {limit} values that a plan can address; use smaller images"
    )]
    TooLarge {
        /// The layer's place in the plan, from 0.
        layer: usize,
        /// Channels of the tensor.
        channels: usize,
        /// Its height, with padding.
        height: usize,
        /// Its width, with padding.
        width: usize,
        /// The most values that one image's tensor may have.
        limit: usize,
    },

    /// The plan has no layer, or its input has a side or channel count of 0.
    #[error("a plan needs at least one layer and an input of at least 1 x 1 pixel and 1 channel; got {layers} layers, input [{}, {}, {}] (channels, height, width)", input[0], input[1], input[2])]
    Empty {
        /// Layers given.
        layers: usize,
        /// Channels, height, width.
        input: [usize; 3],
    },

    /// No value of the plan was made an output.
    #[error("a plan of {layers} layers has no output; name one with `output`")]
    NoOutput {
        /// Layers given.
        layers: usize,
    },

    /// Sizes that no transformer encoder can have.
    #[error("encoder: {reason}")]
    InvalidEncoder {
        /// What is wrong, with the values.
        reason: String,
    },

    /// Something that an encoder is run on has another length than its shape asks for.
    #[error("{input}: {actual} values are not {shape}")]
    InputLength {
        /// Which: `token ids`, `hidden states`, `key mask`, ...
        input: &'static str,
        /// The shape that decides, for instance `[8, 128]`.
        shape: String,
        /// Values given.
        actual: usize,
    },

    /// An encoder with embeddings was given hidden states, or one without was given token ids.
    #[error("the encoder takes {expected}, but was given {actual}")]
    InputKind {
        /// What it takes.
        expected: &'static str,
        /// What it was given.
        actual: &'static str,
    },

    /// A token id that is negative or no row of the word embeddings.
    #[error(
        "sequence {sequence}, token {token}: id {id} is not in the vocabulary of {vocabulary} words (0 to {})",
        vocabulary - 1
    )]
    TokenOutsideVocabulary {
        /// The sequence, from 0.
        sequence: usize,
        /// The token's place in the sequence, from 0.
        token: usize,
        /// The id.
        id: i64,
        /// Rows of the word embeddings.
        vocabulary: usize,
    },

    /// A token type that is negative or no row of the type embeddings.
    #[error("sequence {sequence}, token {token}: type {id} is not one of the {types} token types (0 to {})", types - 1)]
    TokenTypeOutside {
        /// The sequence, from 0.
        sequence: usize,
        /// The token's place in the sequence, from 0.
        token: usize,
        /// The type.
        id: i64,
        /// Rows of the type embeddings; 1 where there are none.
        types: usize,
    },

    /// A sequence has more tokens than the encoder has positions.
    #[error("a sequence of {tokens} tokens is longer than the encoder's {positions} positions; cut it")]
    SequenceTooLong {
        /// Tokens of the sequence.
        tokens: usize,
        /// Rows of the position embeddings.
        positions: usize,
    },

    /// The mask says that more tokens are valid than there are.
    #[error("sequence {sequence}: {length} valid tokens of {tokens}")]
    MaskLength {
        /// The sequence, from 0.
        sequence: usize,
        /// Tokens that the mask says are valid.
        length: usize,
        /// Tokens that there are.
        tokens: usize,
    },

    /// `FIREBRICK_SIMD` holds a word that is no level.
    #[error("FIREBRICK_SIMD={value} is unknown; use one of scalar, avx2, avx512, neon, or unset it")]
    UnknownLevel {
        /// The variable's value.
        value: String,
    },

    /// The level that was asked for is not available on this processor.
    #[error("this processor cannot run the SIMD level {asked}; it has {}", available.iter().map(SimdLevel::to_string).collect::<Vec<_>>().join(", "))]
    UnavailableLevel {
        /// The level asked for.
        asked: SimdLevel,
        /// The levels that would work.
        available: Vec<SimdLevel>,
    },
}
