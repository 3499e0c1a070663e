//! Keras' files: legacy `.h5`, `.weights.h5` and `.keras`, in PyTorch's layout and words.
//!
//! A tensor is named after its layer and, within it, as PyTorch names it: `Conv1.weight`, `bn_Conv1.running_var`. Layouts:
//!
//! | Keras | PyTorch |
//! | --- | --- |
//! | convolution `(h, w, in, out)`, of any rank | `(out, in, h, w)` |
//! | depthwise convolution `(h, w, channels, m)` | `(channels * m, 1, h, w)` |
//! | dense `(in, out)` | `(out, in)` |
//! | `kernel`, `bias`, `embeddings` | `weight`, `bias`, `weight` |
//! | `gamma`, `beta`, `moving_mean`, `moving_variance` | `weight`, `bias`, `running_mean`, `running_var` |
//! | a separable convolution's parts | `depthwise.weight`, `pointwise.weight`, `pointwise.bias` |
//!
//! Kernels of recurrent and attention layers stay as Keras has them: their gates and heads have other orders.

use std::collections::HashMap;

use serde_json::Value;

use super::hdf5::{Dataset, Hdf5};
use super::table::{Entry, Reason, Table};

/// Whether bytes begin as an HDF5 file does.
pub(super) const SIGNATURE: &[u8] = b"\x89HDF\r\n\x1a\n";

/// State that is saved beside weights and is none.
const OTHER_STATE: &[&str] =
    &["optimizer", "optimizer_weights", "seed_generator", "compile_metrics", "metrics", "loss_tracker"];

/// What a file says of its layers: class and settings by name.
#[derive(Default)]
pub(super) struct Layers {
    by_name: HashMap<String, Layer>,
    /// Names by Keras' key for them in `.weights.h5`: the class in small letters, numbered.
    by_key: HashMap<String, String>,
    /// How many layers of a class there are.
    counts: HashMap<String, usize>,
}

#[derive(Clone)]
struct Layer {
    /// In small letters without underscores: `depthwiseconv2d`.
    class: String,
    /// Of a norm: whether it has a `gamma`, and a `beta`.
    norm: [bool; 2],
}

/// Class names and keys in one spelling.
fn plain(class: &str) -> String {
    class.chars().filter(|&c| c != '_').flat_map(char::to_lowercase).collect()
}

/// A key without the number that tells it from others of its class.
fn unnumbered(key: &str) -> &str {
    match key.rsplit_once('_') {
        Some((base, number)) if !number.is_empty() && number.bytes().all(|c| c.is_ascii_digit()) => base,
        _ => key,
    }
}

impl Layers {
    /// From a model's configuration; one that cannot be read says nothing.
    pub fn parse(text: &str) -> Self {
        serde_json::from_str(text).map(|config| Self::of(&config)).unwrap_or_default()
    }

    /// From a model's configuration.
    pub fn of(config: &Value) -> Self {
        let mut layers = Self::default();
        layers.collect(config);
        layers
    }

    fn collect(&mut self, value: &Value) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| self.collect(item)),
            Value::Object(fields) => {
                if let (Some(class), Some(config)) =
                    (fields.get("class_name").and_then(Value::as_str), fields.get("config"))
                    && let Some(name) = config.get("name").and_then(Value::as_str)
                {
                    let has = |what: &str| config.get(what).and_then(Value::as_bool).unwrap_or(true);
                    let class = plain(class);
                    if !self.by_name.contains_key(name) {
                        let count = self.counts.entry(class.clone()).or_default();
                        let key = if *count == 0 { class.clone() } else { format!("{class}_{count}") };
                        *count += 1;
                        self.by_key.insert(key, name.to_owned());
                    }
                    let layer = Layer { class, norm: [has("scale"), has("center")] };
                    self.by_name.insert(name.to_owned(), layer);
                }
                fields.values().for_each(|field| self.collect(field));
            }
            _ => {}
        }
    }
}

/// The tensors of an HDF5 file that Keras wrote. `config` is the model's, where it lies beside the file.
pub(super) fn read(bytes: Vec<u8>, config: Option<&str>) -> Result<Table, Reason> {
    let file = Hdf5::new(bytes)?;
    let own = file.text("model_config");
    let layers = config.or(own.as_deref()).map(Layers::parse).unwrap_or_default();
    let whole = file.has_attribute(Some("model_weights"), "layer_names");
    let legacy = whole || file.has_attribute(None, "layer_names") || file.has_attribute(None, "layer_names0");
    let mut table = Table::new();
    let mut numbered: HashMap<String, Vec<(usize, Dataset)>> = HashMap::new();
    for dataset in file.datasets()? {
        if dataset.path.iter().any(|part| OTHER_STATE.contains(&part.as_str())) {
            continue;
        }
        if legacy {
            let path = if whole { &dataset.path[1..] } else { &dataset.path[..] };
            if (whole && dataset.path[0] != "model_weights") || path.len() < 2 {
                continue;
            }
            let (owner, variable) = legacy_name(path);
            put(&mut table, &layers, &owner, None, &variable, dataset.entry)?;
        } else if let [.., vars, index] = &dataset.path[..]
            && vars == "vars"
            && let Ok(index) = index.parse()
        {
            let folder = dataset.path[..dataset.path.len() - 1].join("/");
            numbered.entry(folder).or_default().push((index, dataset));
        }
    }
    // The variables of a layer are known by how many there are, so they are looked at together.
    for mut variables in numbered.into_values() {
        variables.sort_by_key(|(index, _)| *index);
        let count = variables.len();
        for (index, dataset) in variables {
            let keys = &dataset.path[..dataset.path.len() - 2];
            let owner = named(keys, &dataset, &layers);
            let key = keys.last().map(String::as_str).unwrap_or_default();
            let layer = owner.last().and_then(|name| layers.by_name.get(name));
            let class = layer.map_or_else(|| plain(unnumbered(key)), |layer| layer.class.clone());
            let in_attention = keys.iter().any(|key| plain(unnumbered(key)).contains("multiheadattention"));
            let class = if in_attention { "multiheadattention".to_owned() } else { class };
            let variable = numbered_variable(&class, layer, index, count, dataset.entry.shape.len());
            put(&mut table, &layers, &owner, Some(&class), &variable, dataset.entry)?;
        }
    }
    if table.is_empty() {
        return Err("it is an HDF5 file without a layer's weights; expected one that Keras wrote".to_owned());
    }
    Ok(separable(table))
}

/// The tensors of weights that are named as Keras 2 names them: `Conv1/kernel`.
pub(super) fn put_named(table: &mut Table, layers: &Layers, name: &str, entry: Entry) -> Result<(), Reason> {
    let path: Vec<String> = name.split('/').map(str::to_owned).collect();
    let Some((variable, owner)) = path.split_last() else { return Ok(()) };
    put(table, layers, owner, None, variable, entry)
}

/// Gives a separable convolution's parts the names that they have as two modules.
pub(super) fn separable(mut table: Table) -> Table {
    let owners: Vec<String> =
        table.keys().filter_map(|name| name.strip_suffix(".pointwise.weight")).map(str::to_owned).collect();
    for owner in owners {
        for (from, to) in [("weight", "depthwise.weight"), ("bias", "pointwise.bias")] {
            if let Some(entry) = table.remove(&format!("{owner}.{from}")) {
                table.insert(format!("{owner}.{to}"), entry);
            }
        }
    }
    table
}

/// Names of the layers that a variable of `.weights.h5` lies in, from the outermost.
fn named(keys: &[String], dataset: &Dataset, layers: &Layers) -> Vec<String> {
    let mut owner = Vec::new();
    for (depth, key) in keys.iter().enumerate() {
        if key == "layers" || key == "_layer_checkpoint_dependencies" {
            continue;
        }
        // Files of Keras' first 3.x versions have no labels; then the configuration knows, or nothing does.
        let label = dataset.labels[depth].clone();
        let known = || layers.by_key.get(&numbered_key(key)).cloned();
        owner.push(label.or_else(known).unwrap_or_else(|| key.clone()));
    }
    owner
}

fn numbered_key(key: &str) -> String {
    let base = unnumbered(key);
    format!("{}{}", plain(base), &key[base.len()..])
}

/// The variable in place `index` of a layer of this class that has `count` of them.
fn numbered_variable(class: &str, layer: Option<&Layer>, index: usize, count: usize, rank: usize) -> String {
    let names: Vec<&str> = match class {
        "batchnormalization" | "syncbatchnormalization" => {
            let [scale, center] = match (layer, count) {
                (Some(layer), _) => layer.norm,
                (None, 4..) => [true, true],
                // Inception's norms shift and do not scale; the other way round is unknown in Keras' applications.
                (None, 3) => [false, true],
                (None, _) => [false, false],
            };
            let affine = [(scale, "gamma"), (center, "beta")];
            let affine = affine.into_iter().filter(|(has, _)| *has).map(|(_, name)| name);
            affine.chain(["moving_mean", "moving_variance"]).collect()
        }
        "layernormalization" | "groupnormalization" => {
            let [scale, center] = layer.map_or([true, count > 1], |layer| layer.norm);
            [(scale, "gamma"), (center, "beta")]
                .into_iter()
                .filter(|(has, _)| *has)
                .map(|(_, name)| name)
                .collect()
        }
        "embedding" => vec!["embeddings"],
        "normalization" => vec!["mean", "variance", "count"],
        _ if class.starts_with("separableconv") => vec!["depthwise_kernel", "pointwise_kernel", "bias"],
        // One number for each unit is no kernel: a scale, a token, a slope.
        _ if index == 0 && rank < 2 => vec![],
        _ => vec!["kernel", "bias"],
    };
    names.get(index).map_or_else(|| index.to_string(), |&name| name.to_owned())
}

/// Layer and variable of a legacy file's dataset: its group is the layer, and within it lies the variable's own path.
fn legacy_name(path: &[String]) -> (Vec<String>, String) {
    let (layer, rest) = path.split_first().expect("a layer and a variable");
    let (variable, rest) = rest.split_last().expect("a layer and a variable");
    let owner = match rest.iter().rposition(|part| part == layer) {
        Some(place) => rest[place..].to_vec(),
        None if layer == "top_level_model_weights" => rest.to_vec(),
        // Keras 1 put the layer's name into the variable's.
        None => [std::slice::from_ref(layer), rest].concat(),
    };
    let variable = variable.split(':').next().unwrap_or_default();
    let old = unnumbered(variable).strip_prefix(layer.as_str()).and_then(|rest| rest.strip_prefix('_'));
    let variable = match old {
        Some("W") => "kernel",
        Some("b") => "bias",
        Some("running_mean") => "moving_mean",
        // Named so, and the variance all the same.
        Some("running_std") => "moving_variance",
        Some(old) => old,
        None => variable,
    };
    (owner, variable.to_owned())
}

/// Puts a variable into the table in PyTorch's layout and words.
fn put(
    table: &mut Table,
    layers: &Layers,
    owner: &[String],
    class: Option<&str>,
    variable: &str,
    entry: Entry,
) -> Result<(), Reason> {
    let layer = owner.last().map(String::as_str).unwrap_or_default();
    let known =
        class.map(str::to_owned).or_else(|| layers.by_name.get(layer).map(|layer| layer.class.clone()));
    let (variable, entry) = converted(layer, known.as_deref(), variable, entry);
    let name = [owner, &[variable]].concat().join(".");
    match table.insert(name.clone(), entry) {
        None => Ok(()),
        Some(_) => Err(format!("it has two tensors that are both `{name}`")),
    }
}

/// A variable's name and numbers as PyTorch has them.
fn converted(layer: &str, class: Option<&str>, variable: &str, entry: Entry) -> (String, Entry) {
    let name = match variable {
        "kernel" | "depthwise_kernel" | "gamma" | "embeddings" => "weight",
        "pointwise_kernel" => "pointwise.weight",
        "beta" => "bias",
        "moving_mean" => "running_mean",
        "moving_variance" => "running_var",
        other => other,
    };
    let rank = entry.shape.len();
    let entry = match variable {
        "depthwise_kernel" => depthwise(entry),
        "kernel" | "pointwise_kernel" if rank >= 2 => match class {
            Some(class) if class.starts_with("depthwiseconv") => depthwise(entry),
            Some(class) if class.contains("conv") || class == "dense" => turned(entry),
            // A recurrent or an attention layer, or one of the user's own.
            Some(_) => entry,
            None if rank == 4 && variable == "kernel" => {
                let layer = layer.to_lowercase();
                match ["depthwise", "dwconv", "dw_conv"].iter().any(|word| layer.contains(word)) {
                    true => depthwise(entry),
                    false => {
                        let mut entry = turned(entry);
                        entry.perhaps_depthwise = true;
                        entry
                    }
                }
            }
            None => turned(entry),
        },
        _ => entry,
    };
    (name.to_owned(), entry)
}

/// `(..., in, out)` to `(out, in, ...)`.
fn turned(entry: Entry) -> Entry {
    let rank = entry.shape.len();
    let axes: Vec<usize> = [rank - 1, rank - 2].into_iter().chain(0..rank - 2).collect();
    entry.permuted(&axes)
}

/// `(..., channels, multiplier)` to `(channels * multiplier, 1, ...)`.
fn depthwise(entry: Entry) -> Entry {
    let rank = entry.shape.len();
    if rank < 3 {
        return entry;
    }
    let axes: Vec<usize> = [rank - 2, rank - 1].into_iter().chain(0..rank - 2).collect();
    let entry = entry.permuted(&axes);
    let shape = [&[entry.shape[0] * entry.shape[1], 1], &entry.shape[2..]].concat();
    entry.reshaped(shape)
}

/// A kernel that was taken for an ordinary convolution's, `(out, in, h, w)`, as a depthwise one: `(in * out, 1, h, w)`.
pub(super) fn as_depthwise(entry: Entry) -> Entry {
    let entry = entry.permuted(&[1, 0, 2, 3]);
    let [channels, multiplier] = [entry.shape[0], entry.shape[1]];
    let shape = vec![channels * multiplier, 1, entry.shape[2], entry.shape[3]];
    entry.reshaped(shape)
}
