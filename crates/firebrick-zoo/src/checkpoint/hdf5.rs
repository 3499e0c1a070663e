//! The datasets of an HDF5 file, read from memory within limits.

use std::sync::Arc;

use hdf5_reader::group::Group;
use hdf5_reader::{Datatype, Hdf5File, OpenOptions};

use super::table::{Dtype, Entry, Reason, elements, to_floats};

/// How deep groups lie in groups at most.
const MAX_DEPTH: usize = 32;
/// How many groups and datasets are looked at: links may run in circles.
const MAX_OBJECTS: usize = 200_000;
/// How much longer than its file a dataset may be. Weights do not compress well; only zeros do.
const MAX_EXPANSION: usize = 64;
/// No honest object header is longer, bytes.
const MAX_OBJECT_HEADER: usize = 16 << 20;

/// A file in memory.
pub(super) struct Hdf5 {
    file: Hdf5File,
    /// Bytes that a dataset may have at most.
    limit: usize,
}

/// A dataset with the names of the groups it lies in.
pub(super) struct Dataset {
    /// From the root, the last one is the dataset's own.
    pub path: Vec<String>,
    /// What the attribute `name` of the group `vars` in each of these groups says, in the order of `path`: Keras notes a
    /// layer's name there.
    pub labels: Vec<Option<String>>,
    /// Its numbers.
    pub entry: Entry,
}

impl Hdf5 {
    /// Reads the superblock of a file that is in memory.
    pub fn new(bytes: Vec<u8>) -> Result<Self, Reason> {
        let limit = bytes.len().saturating_mul(MAX_EXPANSION);
        let options = OpenOptions::default()
            .with_max_read_bytes(limit)
            .with_max_chunk_bytes(limit)
            .with_max_object_header_bytes(MAX_OBJECT_HEADER.min(bytes.len()));
        let file = Hdf5File::from_vec_with_options(bytes, options).map_err(|error| error.to_string())?;
        Ok(Self { file, limit })
    }

    /// A text attribute of the root.
    pub fn text(&self, name: &str) -> Option<String> {
        self.file.root_group().ok()?.attribute(name).ok()?.read_string().ok()
    }

    /// Whether the root or one of its groups has an attribute.
    pub fn has_attribute(&self, group: Option<&str>, name: &str) -> bool {
        self.file
            .root_group()
            .and_then(|root| group.map_or(Ok(root.clone()), |group| root.group(group)))
            .and_then(|group| group.attribute(name))
            .is_ok()
    }

    /// Every dataset of numbers.
    pub fn datasets(&self) -> Result<Vec<Dataset>, Reason> {
        let root = self.file.root_group().map_err(|error| error.to_string())?;
        let mut found = Vec::new();
        let mut seen = 0;
        self.walk(&root, &mut Vec::new(), &mut Vec::new(), &mut seen, &mut found)?;
        Ok(found)
    }

    fn walk(
        &self,
        group: &Group,
        path: &mut Vec<String>,
        labels: &mut Vec<Option<String>>,
        seen: &mut usize,
        found: &mut Vec<Dataset>,
    ) -> Result<(), Reason> {
        if path.len() > MAX_DEPTH {
            return Err(format!("its groups are more than {MAX_DEPTH} deep: /{}", path.join("/")));
        }
        let place = |name: &str| format!("/{}", [&path[..], &[name.to_owned()]].concat().join("/"));
        let (groups, datasets) = group.members().map_err(|error| format!("{}: {error}", place("")))?;
        *seen += groups.len() + datasets.len();
        if *seen > MAX_OBJECTS {
            return Err(format!("it has more than {MAX_OBJECTS} groups and datasets"));
        }
        for dataset in datasets {
            let name = dataset.name().rsplit('/').next().unwrap_or_default().to_owned();
            let Some(dtype) = dtype(dataset.dtype()) else { continue };
            let refused = |reason: String| format!("{}: {reason}", place(&name));
            let shape = dataset
                .shape()
                .iter()
                .map(|&side| usize::try_from(side))
                .collect::<Result<Vec<_>, _>>()
                .map_err(|_| refused("its shape overflows".to_owned()))?;
            elements(&shape, self.limit / dtype.size()).map_err(refused)?;
            let dataset = Arc::new(dataset);
            let entry = Entry::new(shape, dtype, move || {
                let bytes = dataset.read_native_bytes().map_err(|error| error.to_string())?;
                to_floats(&bytes, dtype)
            });
            found.push(Dataset {
                path: [&path[..], &[name]].concat(),
                labels: [&labels[..], &[None]].concat(),
                entry,
            });
        }
        for group in groups {
            let label = group.group("vars").and_then(|vars| vars.attribute("name"));
            let label = label.and_then(|label| label.read_string()).ok();
            path.push(group.name().rsplit('/').next().unwrap_or_default().to_owned());
            labels.push(label);
            self.walk(&group, path, labels, seen, found)?;
            path.pop();
            labels.pop();
        }
        Ok(())
    }
}

fn dtype(dtype: &Datatype) -> Option<Dtype> {
    Some(match dtype {
        Datatype::FloatingPoint { size: 2, .. } => Dtype::F16,
        Datatype::FloatingPoint { size: 4, .. } => Dtype::F32,
        Datatype::FloatingPoint { size: 8, .. } => Dtype::F64,
        Datatype::FixedPoint { size: 1, signed: true, .. } => Dtype::I8,
        Datatype::FixedPoint { size: 2, signed: true, .. } => Dtype::I16,
        Datatype::FixedPoint { size: 4, signed: true, .. } => Dtype::I32,
        Datatype::FixedPoint { size: 8, signed: true, .. } => Dtype::I64,
        Datatype::FixedPoint { size: 1, signed: false, .. } => Dtype::U8,
        Datatype::FixedPoint { size: 2, signed: false, .. } => Dtype::U16,
        Datatype::FixedPoint { size: 4, signed: false, .. } => Dtype::U32,
        Datatype::FixedPoint { size: 8, signed: false, .. } => Dtype::U64,
        _ => return None,
    })
}
