//! PyTorch's checkpoints: zip archives, and the pickle streams of before 1.6. No pickle is run.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use burn::store::pytorch_reader::{DType as Theirs, PytorchReader};
use zip::ZipArchive;

use super::pickle::{self, Objection};
use super::source::Source;
use super::table::{Dtype, Entry, Reason, Table, to_floats};

/// No honest pickle of a state dict is longer, bytes: its numbers lie beside it.
const MAX_PICKLE: u64 = 256 << 20;

/// Why a checkpoint is not taken.
pub(super) enum Refusal {
    /// Its pickle asks for this Python name.
    Hostile(String),
    /// It cannot be read.
    Unreadable(Reason),
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self::Unreadable(reason)
    }
}

impl From<Objection> for Refusal {
    fn from(objection: Objection) -> Self {
        match objection {
            Objection::Name(name) => Self::Hostile(name),
            Objection::Malformed(what) => Self::Unreadable(format!("its pickle has {what}")),
        }
    }
}

/// The tensors of a zip archive that `torch.save` wrote.
pub(super) fn read_zip(path: &Path) -> Result<Table, Refusal> {
    let unreadable = |error: &dyn std::fmt::Display| Refusal::Unreadable(error.to_string());
    let file = File::open(path).map_err(|error| unreadable(&error))?;
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(|error| unreadable(&error))?;
    for index in 0..archive.len() {
        // Every pickle, whichever of them a reader will take for the checkpoint's own.
        let entry = archive.by_index(index).map_err(|error| unreadable(&error))?;
        if entry.name().is_ok_and(|name| !name.ends_with(".pkl")) {
            continue;
        }
        let mut bytes = Vec::new();
        entry.take(MAX_PICKLE + 1).read_to_end(&mut bytes).map_err(|error| unreadable(&error))?;
        if bytes.len() as u64 > MAX_PICKLE {
            return Err(Refusal::Unreadable(format!("its pickle has more than {MAX_PICKLE} bytes")));
        }
        pickle::scan(&bytes)?;
    }
    tensors(path)
}

/// The tensors of a stream of pickles (PyTorch before 1.6), or of a single one.
pub(super) fn read_pickles(path: &Path, source: &Source) -> Result<Table, Refusal> {
    // What follows the pickles of a stream are numbers, by far the most of it, so that its start is enough if they end there.
    let mut length = (1 << 20).min(source.length());
    loop {
        match scan_stream(&source.bytes(0, length as usize)?, length == source.length()) {
            Err(Objection::Malformed(_)) if length < source.length().min(MAX_PICKLE) => {
                length = (4 * length).min(source.length());
            }
            scanned => {
                scanned?;
                break;
            }
        }
    }
    tensors(path)
}

/// Scans the pickles at the start of a file; `whole` if these are all of its bytes.
fn scan_stream(bytes: &[u8], whole: bool) -> Result<(), Objection> {
    // A magic number, a version, facts about the system, the checkpoint, and the keys of its storages. A file of one pickle ends
    // with the first; in a stream numbers follow the fifth, which are not scanned, for no reader takes them for a pickle.
    let mut rest = bytes;
    for _ in 0..5 {
        let length = pickle::scan(rest)?;
        rest = &rest[length..];
        match (rest.is_empty(), whole) {
            (true, true) => break,
            // A pickle may end where the bytes do by chance, with more behind it.
            (true, false) => return Err(Objection::Malformed("more pickles than were read".to_owned())),
            (false, _) => {}
        }
    }
    Ok(())
}

fn tensors(path: &Path) -> Result<Table, Refusal> {
    let reader = PytorchReader::new(path).map_err(|error| Refusal::Unreadable(error.to_string()))?;
    let mut table = Table::new();
    for (name, tensor) in reader.into_tensors() {
        let (_, theirs, shape, read) = tensor.into_parts();
        let dtype = dtype(theirs);
        let read = move || to_floats(&read().map_err(|error| error.to_string())?, dtype);
        table.insert(name, Entry::new(shape, dtype, read));
    }
    Ok(table)
}

fn dtype(dtype: Theirs) -> Dtype {
    match dtype {
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
        Theirs::Bool => Dtype::Bool,
    }
}
