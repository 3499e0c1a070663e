//! ONNX models: their initialisers, by name. The graph is not read.
//!
//! Messages and numbers of fields are those of `onnx.proto`; fields that are not needed are passed over.

use std::path::Path;
use std::sync::Arc;

use prost::Message;
use prost::bytes::Bytes;

use super::source::Source;
use super::table::{Dtype, Entry, Reason, Table, elements, to_floats};
use super::tfjs::beside;

#[derive(Clone, PartialEq, Message)]
struct Model {
    #[prost(int64, tag = "1")]
    ir_version: i64,
    /// Still encoded, and so are its tensors: an empty one has two bytes, and as a message two hundred.
    #[prost(bytes = "bytes", optional, tag = "7")]
    graph: Option<Bytes>,
}

/// The number of a graph's field for initialisers.
const INITIALIZER: u64 = 5;

#[derive(Clone, PartialEq, Message)]
struct Tensor {
    #[prost(int64, repeated, tag = "1")]
    dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    data_type: i32,
    #[prost(float, repeated, tag = "4")]
    float_data: Vec<f32>,
    #[prost(int32, repeated, tag = "5")]
    int32_data: Vec<i32>,
    #[prost(int64, repeated, tag = "7")]
    int64_data: Vec<i64>,
    #[prost(string, tag = "8")]
    name: String,
    #[prost(bytes = "bytes", tag = "9")]
    raw_data: Bytes,
    #[prost(double, repeated, tag = "10")]
    double_data: Vec<f64>,
    #[prost(uint64, repeated, tag = "11")]
    uint64_data: Vec<u64>,
    #[prost(message, repeated, tag = "13")]
    external_data: Vec<KeyValue>,
    #[prost(int32, tag = "14")]
    data_location: i32,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

/// `data_location` of a tensor whose numbers are in another file.
const EXTERNAL: i32 = 1;

/// The initialisers of a model; `path` is its file's, beside which numbers may lie that it leaves out.
pub(super) fn read(source: &Source, path: &Path) -> Result<Table, Reason> {
    let bytes = Bytes::from(source.bytes(0, source.length() as usize)?);
    let model = Model::decode(bytes).map_err(|error| format!("it is no ONNX model: {error}"))?;
    let mut graph =
        model.graph.filter(|_| model.ir_version > 0).ok_or("it is no ONNX model: it has no graph")?;
    let mut table = Table::new();
    while !graph.is_empty() {
        let (number, content) = field(&mut graph).ok_or("its graph is cut short, or no graph")?;
        if number != INITIALIZER {
            continue;
        }
        let tensor = Tensor::decode(content).map_err(|error| format!("an initialiser of it: {error}"))?;
        let name = tensor.name.clone();
        let entry = entry(tensor, path).map_err(|reason| format!("`{name}`: {reason}"))?;
        if table.insert(name.clone(), entry).is_some() {
            return Err(format!("it has two tensors that are both `{name}`"));
        }
    }
    if table.is_empty() {
        return Err("it is an ONNX model without initialisers".to_owned());
    }
    Ok(table)
}

/// Takes the next field off an encoded message: its number, and its bytes, if it is one of bytes.
fn field(message: &mut Bytes) -> Option<(u64, Bytes)> {
    let key = varint(message)?;
    let length = match key & 7 {
        0 => varint(message).map(|_| 0)?,
        1 => 8,
        2 => usize::try_from(varint(message)?).ok()?,
        5 => 4,
        _ => return None,
    };
    (length <= message.len()).then(|| (key >> 3, message.split_to(length)))
}

/// Takes a number off an encoded message: groups of seven bits, the lowest first.
fn varint(message: &mut Bytes) -> Option<u64> {
    let length = message.iter().take(10).position(|byte| byte & 0x80 == 0)? + 1;
    let groups = message.split_to(length);
    Some(groups.iter().rev().fold(0, |number, byte| number << 7 | u64::from(byte & 0x7f)))
}

fn entry(tensor: Tensor, path: &Path) -> Result<Entry, Reason> {
    let dtype = dtype(tensor.data_type)
        .ok_or_else(|| format!("its type, number {} of ONNX, is none of weights", tensor.data_type))?;
    let shape = tensor
        .dims
        .iter()
        .map(|&side| usize::try_from(side).map_err(|_| format!("its shape is {:?}", tensor.dims)))
        .collect::<Result<Vec<_>, _>>()?;
    let count = elements(&shape, usize::MAX / 8)?;
    if tensor.data_location == EXTERNAL {
        return external(&tensor, shape, dtype, count, path);
    }
    let length =
        if tensor.raw_data.is_empty() { tensor.listed() } else { tensor.raw_data.len() / dtype.size() };
    if length != count || !tensor.raw_data.len().is_multiple_of(dtype.size()) {
        return Err(format!("it has {length} values, its shape {shape:?} wants {count}"));
    }
    Ok(Entry::new(shape, dtype, move || match tensor.raw_data.is_empty() {
        true => tensor.values(dtype),
        false => to_floats(&tensor.raw_data, dtype),
    }))
}

impl Tensor {
    /// How many numbers its lists have.
    fn listed(&self) -> usize {
        self.float_data.len()
            + self.int32_data.len()
            + self.int64_data.len()
            + self.double_data.len()
            + self.uint64_data.len()
    }

    /// The numbers of the list that its type has.
    fn values(&self, dtype: Dtype) -> Result<Vec<f32>, Reason> {
        let bytes: Vec<u8> = match dtype {
            Dtype::F32 => return Ok(self.float_data.clone()),
            Dtype::F64 => self.double_data.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Dtype::I64 => self.int64_data.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Dtype::U64 => self.uint64_data.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Dtype::U32 => self.uint64_data.iter().flat_map(|&value| (value as u32).to_le_bytes()).collect(),
            // Narrow types lie in the lower bytes of 32-bit ones.
            _ => self
                .int32_data
                .iter()
                .flat_map(|value| value.to_le_bytes()[..dtype.size()].to_vec())
                .collect(),
        };
        to_floats(&bytes, dtype)
    }
}

/// A tensor whose numbers lie in a file beside the model's.
fn external(
    tensor: &Tensor,
    shape: Vec<usize>,
    dtype: Dtype,
    count: usize,
    path: &Path,
) -> Result<Entry, Reason> {
    let value =
        |key: &str| tensor.external_data.iter().find(|pair| pair.key == key).map(|pair| pair.value.as_str());
    let location = value("location").ok_or("it is in another file, which is not named")?;
    let offset: u64 = match value("offset") {
        Some(text) => {
            text.parse().map_err(|_| format!("it is at `{text}` of {location}, which is no place"))?
        }
        None => 0,
    };
    let file = beside(path.parent().unwrap_or(Path::new("")), location)?;
    let source = Source::open(&file).map_err(|error| {
        format!("cannot read {}, where its numbers are: {error}; put it beside the model", file.display())
    })?;
    let source = Arc::new(source);
    if offset.saturating_add((count * dtype.size()) as u64) > source.length() {
        return Err(format!("{location} is cut short: it has {} bytes", source.length()));
    }
    Ok(Entry::new(shape, dtype, move || source.floats(offset, count, dtype)))
}

/// ONNX's numbers of its types.
fn dtype(number: i32) -> Option<Dtype> {
    Some(match number {
        1 => Dtype::F32,
        2 => Dtype::U8,
        3 => Dtype::I8,
        4 => Dtype::U16,
        5 => Dtype::I16,
        6 => Dtype::I32,
        7 => Dtype::I64,
        9 => Dtype::Bool,
        10 => Dtype::F16,
        11 => Dtype::F64,
        12 => Dtype::U32,
        13 => Dtype::U64,
        16 => Dtype::Bf16,
        _ => return None,
    })
}
