//! safetensors files: a JSON header of names, types, shapes and places, then the numbers.

use std::fmt;
use std::sync::Arc;

use safetensors::tensor::{Metadata, TensorInfo};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::source::Source;
use super::table::{Dtype, Entry, Reason, Table, elements};

/// No honest header is longer than this, bytes.
const MAX_HEADER: u64 = 100_000_000;

/// The tensors of a safetensors file.
pub(super) fn read(source: Arc<Source>) -> Result<Table, Reason> {
    let start = source.bytes(0, 8).map_err(|_| "it is shorter than any safetensors file".to_owned())?;
    let header = u64::from_le_bytes(start.try_into().expect("eight bytes"));
    if header > MAX_HEADER {
        return Err(format!("its header would have {header} bytes, so it is no safetensors file"));
    }
    let start = 8 + header;
    let header = source.bytes(8, header as usize).map_err(|reason| format!("its header: {reason}"))?;
    let Header(mut tensors) =
        serde_json::from_slice(&header).map_err(|error| format!("its header: {error}"))?;
    let count = tensors.len();
    tensors.sort_by_key(|(_, tensor)| tensor.data_offsets);
    let metadata = Metadata::new(None, tensors).map_err(|error| format!("its header: {error}"))?;
    let end = start.saturating_add(metadata.data_len() as u64);
    if end != source.length() {
        return Err(format!("it has {} bytes, and its header describes {end}", source.length()));
    }
    let mut table = Table::new();
    for (name, tensor) in metadata.tensors() {
        let (begin, end) = tensor.data_offsets;
        let dtype = dtype(tensor.dtype).ok_or_else(|| {
            format!("`{name}` has the type {:?}, which is none of weights here; save it as f32", tensor.dtype)
        })?;
        let count = elements(&tensor.shape, source.length() as usize)?;
        if begin > end || end as u64 > source.length() - start || (end - begin) != count * dtype.size() {
            return Err(format!(
                "`{name}` of shape {:?} and type {dtype} is said to lie at {begin} to {end}",
                tensor.shape
            ));
        }
        let source = Arc::clone(&source);
        let read = move || source.floats(start + begin as u64, count, dtype);
        table.insert(name, Entry::new(tensor.shape.clone(), dtype, read));
    }
    match table.len() == count {
        true => Ok(table),
        false => Err("its header has two tensors of one name".to_owned()),
    }
}

/// Names and tensors of a header. The crate's own form of it keeps whatever stands there in memory before it looks at it, at forty times the
/// length.
struct Header(Vec<(String, TensorInfo)>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Entries)
    }
}

struct Entries;

impl<'de> Visitor<'de> for Entries {
    type Value = Header;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
        let mut tensors = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            match name.as_str() {
                "__metadata__" => drop(map.next_value::<IgnoredAny>()?),
                _ => tensors.push((name, map.next_value()?)),
            }
        }
        Ok(Header(tensors))
    }
}

fn dtype(dtype: safetensors::Dtype) -> Option<Dtype> {
    use safetensors::Dtype as Theirs;
    Some(match dtype {
        Theirs::F64 => Dtype::F64,
        Theirs::F32 => Dtype::F32,
        Theirs::F16 => Dtype::F16,
        Theirs::BF16 => Dtype::Bf16,
        Theirs::I64 => Dtype::I64,
        Theirs::I32 => Dtype::I32,
        Theirs::I16 => Dtype::I16,
        Theirs::I8 => Dtype::I8,
        Theirs::U64 => Dtype::U64,
        Theirs::U32 => Dtype::U32,
        Theirs::U16 => Dtype::U16,
        Theirs::U8 => Dtype::U8,
        Theirs::BOOL => Dtype::Bool,
        _ => return None,
    })
}
