//! What can go wrong between a name and a model.

use std::path::{Path, PathBuf};

use crate::Mismatch;

/// An error of the zoo; its message names the file, the value and the way out.
#[derive(Debug, thiserror::Error)]
pub enum ZooError {
    /// A name that no model of the zoo has.
    #[error("unknown model `{name}`{nearest} `firebrick models` lists all names")]
    UnknownModel {
        /// What was asked for.
        name: String,
        /// What stands behind the name: `, did you mean ...?`, where else it is found, or a full stop.
        nearest: String,
    },
    /// The architecture has no published weights here.
    #[error("there are no `{weights}` weights for {model}; train from `--weights none` or give a FILE")]
    NoWeights {
        /// Name of the model.
        model: String,
        /// Name of the weights.
        weights: String,
    },
    /// A file that could not be read or written.
    #[error("{}: cannot {action}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried: read, write, ...
        action: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file that is no readable checkpoint.
    #[error("{}: not a readable checkpoint: {reason}; expected a PyTorch .pth/.pt state dict, .safetensors, Keras .h5/.keras/.weights.h5, a TensorFlow.js model.json or .onnx, whole and unencrypted", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A tensor whose numbers no network can compute with.
    #[error("{}: `{tensor}` cannot be weights: {reason}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// What is wrong with its numbers, and the way out.
        reason: String,
    },
    /// A checkpoint whose pickle asks for something other than tensors; it was refused, not run.
    #[error("{}: refused: the pickle in it asks for `{what}`, which is not tensor data. Nothing of it was run; save a plain state dict (torch.save(model.state_dict(), ...)) or a .safetensors file", path.display())]
    HostilePickle {
        /// The file.
        path: PathBuf,
        /// The Python name that it wanted to call.
        what: String,
    },
    /// A readable checkpoint with other tensors than the model's.
    #[error("{}: these weights do not fit {model}:\n{mismatch}", path.display())]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// Name of the model.
        model: String,
        /// What is missing, extra and misshapen.
        mismatch: Box<Mismatch>,
    },
    /// Tensors that no file of weights can hold.
    #[error("{}: not written: {reason}; give each tensor a name of its own and as many values as its shape has", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What is wrong with the tensors.
        reason: String,
    },
    /// A safetensors file without the metadata of a model package.
    #[error("{}: {reason}; a model package is a model.safetensors that `firebrick train` wrote. For bare weights use --model NAME --weights FILE", path.display())]
    NotAPackage {
        /// The file.
        path: PathBuf,
        /// What is missing.
        reason: String,
    },
    /// A file whose bytes are not the published ones.
    #[error("{}: sha256 is {found}, the published file's is {expected}; delete it and try again", path.display())]
    WrongHash {
        /// The file.
        path: PathBuf,
        /// What it has.
        found: String,
        /// What it should have.
        expected: String,
    },
    /// A download that failed.
    #[error("cannot download {url}: {reason}. When offline, put the file at {} yourself or name it with {flag} FILE", path.display())]
    Download {
        /// The address.
        url: String,
        /// What went wrong.
        reason: String,
        /// Where the file is looked for.
        path: PathBuf,
        /// What of the command line names such a file.
        flag: &'static str,
    },
    /// Neither embedded, nor in the cache, and this build cannot download.
    #[error("no weights at {}; download {url} to there, or build with the feature `download` or `embedded-weights`", path.display())]
    NotFound {
        /// The address.
        url: String,
        /// Where the file is looked for.
        path: PathBuf,
    },
    /// A name that no stage of the network has.
    #[error("the network has no stage `{stage}` here; its stages are {known}")]
    UnknownStage {
        /// What was asked for.
        stage: String,
        /// All names.
        known: String,
    },
    /// Images that the network cannot take.
    #[error("images of {}x{} pixels (height x width): {source}", size[0], size[1])]
    ImageSize {
        /// Height and width, pixels.
        size: [usize; 2],
        /// What has nothing to work on.
        source: crate::graph::ShapeError,
    },
    /// A sequence without a token.
    #[error("{model}: there are no tokens; give at least one, such as the one that begins a text")]
    NoTokens {
        /// The model.
        model: &'static str,
    },
    /// A sequence longer than a model's context.
    #[error(
        "{model}: {tokens} tokens are more than its context of {context}; keep the last {context} of them, or split the text"
    )]
    TooManyTokens {
        /// The model.
        model: &'static str,
        /// Tokens given.
        tokens: usize,
        /// The most it takes.
        context: usize,
    },
    /// A token id that is negative or no row of the embeddings.
    #[error("{model}: sequence {sequence}, token {token}: id {id} is not in the vocabulary of {vocabulary} (0 to {}); is the tokenizer another model's?", vocabulary.saturating_sub(1))]
    UnknownToken {
        /// The model.
        model: &'static str,
        /// The sequence, from 0.
        sequence: usize,
        /// The token's place in the sequence, from 0.
        token: usize,
        /// The id.
        id: i64,
        /// Ids that there are.
        vocabulary: usize,
    },
    /// A configuration file of another model, or with a setting that the model does not have.
    #[error("{}: {reason}; give the config.json that lies beside the checkpoint", path.display())]
    Configuration {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A name that no sentence encoder of the zoo has.
    #[error("unknown sentence encoder `{name}`{nearest} There is: {known}")]
    UnknownSentenceModel {
        /// What was asked for.
        name: String,
        /// `, did you mean ...?`, or a full stop.
        nearest: String,
        /// All names.
        known: String,
    },
    /// A tokenizer of another model.
    #[error(
        "{}: this tokenizer has ids up to {}, the model knows those below {vocabulary}; give the tokenizer that was published with the weights",
        path.display(), tokens.saturating_sub(1)
    )]
    TokenizerTooLarge {
        /// The tokenizer's file.
        path: PathBuf,
        /// One more than its largest id.
        tokens: usize,
        /// Ids that the model knows.
        vocabulary: usize,
    },
    /// A tokenizer, or a text for it.
    #[cfg(feature = "text")]
    #[error(transparent)]
    Text(#[from] firebrick_text::TextError),
    /// A setting of a model or of sampling outside its range.
    #[error(transparent)]
    Setting(#[from] firebrick_nn::LayerError),
    /// Attention over a feature map whose channels its heads cannot share.
    #[error("{heads} heads cannot share the feature map's {channels} channels; give a divisor of {channels}")]
    Heads {
        /// How many were asked for.
        heads: usize,
        /// Of the map.
        channels: usize,
    },
    /// The compiled plan of a frozen backbone.
    #[error(transparent)]
    Kernel(#[from] firebrick_kernels::KernelError),
    /// The cache folder.
    #[error(transparent)]
    Data(#[from] firebrick_data::DataError),
}

impl ZooError {
    pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, action, source }
    }
}
