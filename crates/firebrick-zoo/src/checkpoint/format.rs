//! Which format a file of weights has: by what it begins with, then by its name.

use std::fmt;
use std::path::Path;

use super::source::Source;
use super::{keras, table::Reason};

/// A format that weights are read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// `torch.save` of 1.6 and later: a zip archive of a pickle and storages.
    PyTorch,
    /// `torch.save` of before 1.6, or a pickle alone.
    PyTorchLegacy,
    /// A header of JSON and numbers.
    Safetensors,
    /// HDF5 as Keras writes it: `.h5` and `.weights.h5`.
    KerasHdf5,
    /// Keras 3's `.keras`: a zip archive of a configuration and HDF5.
    Keras,
    /// A TensorFlow.js layers model: `model.json` and files beside it.
    TensorFlowJs,
    /// A graph whose initialisers are the weights.
    Onnx,
}

impl Format {
    /// Whether layouts and names were Keras'.
    pub fn is_keras(self) -> bool {
        matches!(self, Self::KerasHdf5 | Self::Keras | Self::TensorFlowJs)
    }

    /// The format of a file, by its content; `path` decides where that leaves it open.
    pub(super) fn of(source: &Source, path: &Path) -> Result<Self, Reason> {
        let length = source.length().min(512) as usize;
        let start = source.bytes(0, length)?;
        let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        if start.starts_with(b"PK\x03\x04") {
            return Ok(if extension == "keras" { Self::Keras } else { Self::PyTorch });
        }
        // After a block of the user's, HDF5 may begin at 512 or twice that and so on; Keras writes none.
        if start.starts_with(keras::SIGNATURE) {
            return Ok(Self::KerasHdf5);
        }
        if start.starts_with(b"version https://git-lfs") {
            return Err(
                "it is a pointer of Git LFS, not the file itself; fetch that with `git lfs pull`".to_owned()
            );
        }
        if start.get(257..262) == Some(b"ustar") {
            return Err(
                "it is a TAR archive, as PyTorch wrote before 0.1.10; load it in PyTorch and save it again"
                    .to_owned(),
            );
        }
        // A safetensors header is JSON after its length, whose upper bytes are 0.
        if start.get(8) == Some(&b'{') && start.get(5..8) == Some(&[0; 3]) || extension == "safetensors" {
            return Ok(Self::Safetensors);
        }
        if start.trim_ascii_start().starts_with(b"{") {
            return Ok(Self::TensorFlowJs);
        }
        if extension == "onnx" {
            return Ok(Self::Onnx);
        }
        match (start.first(), extension.as_str()) {
            // Protocols from 2 on begin so.
            (Some(0x80), _) => Ok(Self::PyTorchLegacy),
            // Protocols 0 and 1 begin with their first value, the magic number of the stream or a dictionary.
            (Some(b'L' | b'(' | b'}' | b']' | b'c'), "pth" | "pt" | "bin" | "pkl" | "ckpt") => {
                Ok(Self::PyTorchLegacy)
            }
            // ONNX begins with the version of its format, field 1 of its message.
            (Some(0x08), _) => Ok(Self::Onnx),
            (_, "h5" | "hdf5") => Err("it is no HDF5 file, though it is called one".to_owned()),
            (_, "keras") => Err("it is no zip archive, which a .keras file is".to_owned()),
            _ => Err("it begins like none of these".to_owned()),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PyTorch => "PyTorch",
            Self::PyTorchLegacy => "PyTorch (before 1.6)",
            Self::Safetensors => "safetensors",
            Self::KerasHdf5 => "Keras HDF5",
            Self::Keras => "Keras",
            Self::TensorFlowJs => "TensorFlow.js",
            Self::Onnx => "ONNX",
        })
    }
}
