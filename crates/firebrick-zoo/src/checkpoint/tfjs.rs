//! TensorFlow.js layers models: `model.json` and files of weights beside it, quantised or not.

use std::path::{Component, Path};
use std::sync::Arc;

use serde::Deserialize;

use super::keras::{self, Layers};
use super::source::Source;
use super::table::{Dtype, Entry, Reason, Table, elements, to_floats};

/// No honest `model.json` is longer than this, bytes; its values take thirty times their text.
const MAX_JSON: u64 = 16 << 20;

#[derive(Deserialize)]
struct Model {
    #[serde(rename = "modelTopology", default)]
    topology: serde_json::Value,
    #[serde(rename = "weightsManifest")]
    manifest: Vec<Group>,
}

/// Files that make one run of bytes, and what lies in it, in order.
#[derive(Deserialize)]
struct Group {
    paths: Vec<String>,
    weights: Vec<Weight>,
}

#[derive(Deserialize)]
struct Weight {
    name: String,
    shape: Vec<usize>,
    dtype: String,
    quantization: Option<Quantization>,
}

#[derive(Clone, Deserialize)]
struct Quantization {
    dtype: String,
    #[serde(default)]
    min: f64,
    #[serde(default = "one")]
    scale: f64,
}

fn one() -> f64 {
    1.0
}

/// The tensors of the model that a `model.json` describes; `path` is that file's.
pub(super) fn read(source: &Source, path: &Path) -> Result<Table, Reason> {
    if source.length() > MAX_JSON {
        return Err(format!("it has {} bytes, which no model.json needs", source.length()));
    }
    let text = source.bytes(0, source.length() as usize)?;
    let model: Model = serde_json::from_slice(&text)
        .map_err(|error| format!("it is JSON, and no TensorFlow.js model.json: {error}"))?;
    let layers = Layers::of(&model.topology);
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut table = Table::new();
    for group in model.manifest {
        let shards = Arc::new(Shards::open(folder, &group.paths)?);
        let mut offset = 0u64;
        for weight in group.weights {
            let named = |reason: Reason| format!("`{}`: {reason}", weight.name);
            let stored =
                weight.quantization.as_ref().map_or(&weight.dtype, |quantization| &quantization.dtype);
            let dtype =
                dtype(stored).ok_or_else(|| named(format!("its type `{stored}` is none of weights")))?;
            let left = shards.length.saturating_sub(offset);
            let count = elements(&weight.shape, (left / dtype.size() as u64) as usize).map_err(|_| {
                named(format!(
                    "its files {:?} are cut short: {left} bytes are left for {:?} {stored}",
                    group.paths, weight.shape
                ))
            })?;
            let start = offset;
            offset += (count * dtype.size()) as u64;
            let shards = Arc::clone(&shards);
            let quantization = weight.quantization.clone();
            let integer = weight.dtype != "float32";
            let read = move || {
                let values = to_floats(&shards.bytes(start, count * dtype.size())?, dtype)?;
                Ok(match &quantization {
                    Some(quantization) if dtype != Dtype::F16 => dequantised(values, quantization, integer),
                    _ => values,
                })
            };
            let mut entry = Entry::new(weight.shape, dtype, read);
            entry.scaled = weight.quantization.is_some();
            keras::put_named(&mut table, &layers, &weight.name, entry)?;
        }
        if offset != shards.length {
            return Err(format!(
                "its files {:?} have {} bytes, and it describes {offset}",
                group.paths, shards.length
            ));
        }
    }
    Ok(keras::separable(table))
}

/// `scale * q + min`, in f64 as the writer computes; integers are rounded.
fn dequantised(values: Vec<f32>, quantization: &Quantization, integer: bool) -> Vec<f32> {
    let value = |q: f32| {
        let value = f64::from(q) * quantization.scale + quantization.min;
        (if integer { value.round() } else { value }) as f32
    };
    values.into_iter().map(value).collect()
}

fn dtype(name: &str) -> Option<Dtype> {
    Some(match name {
        "float32" => Dtype::F32,
        "float16" => Dtype::F16,
        "int32" => Dtype::I32,
        "uint8" => Dtype::U8,
        "uint16" => Dtype::U16,
        "bool" => Dtype::Bool,
        _ => return None,
    })
}

/// Files as one run of bytes.
struct Shards {
    files: Vec<Source>,
    length: u64,
}

impl Shards {
    fn open(folder: &Path, paths: &[String]) -> Result<Self, Reason> {
        let mut files = Vec::with_capacity(paths.len());
        for path in paths {
            let file = beside(folder, path)?;
            files.push(Source::open(&file).map_err(|error| {
                format!(
                    "cannot read its file of weights {}: {error}; put it beside model.json",
                    file.display()
                )
            })?);
        }
        let length = files.iter().map(Source::length).sum();
        Ok(Self { files, length })
    }

    fn bytes(&self, mut offset: u64, length: usize) -> Result<Vec<u8>, Reason> {
        let mut bytes = Vec::with_capacity(length);
        for file in &self.files {
            if bytes.len() == length {
                break;
            }
            if offset >= file.length() {
                offset -= file.length();
                continue;
            }
            let part = (file.length() - offset).min((length - bytes.len()) as u64);
            bytes.extend(file.bytes(offset, part as usize)?);
            offset = 0;
        }
        match bytes.len() == length {
            true => Ok(bytes),
            false => Err("its files of weights are cut short".to_owned()),
        }
    }
}

/// A file that a model names, which must lie in the model's folder.
pub(super) fn beside(folder: &Path, path: &str) -> Result<std::path::PathBuf, Reason> {
    let inside =
        Path::new(path).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    match inside && !path.is_empty() {
        true => Ok(folder.join(path)),
        false => Err(format!("it names the file `{path}`, which is not in its folder")),
    }
}
