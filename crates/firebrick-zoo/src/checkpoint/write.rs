//! Weights as a safetensors file that PyTorch loads.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::io::Write;
use std::path::Path;

use safetensors::{Dtype, View};

use crate::ZooError;
use crate::package::{publish, temporary_beside};

/// A tensor to be written, under the name that PyTorch knows it by and in PyTorch's layout.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedTensor<'a> {
    /// torchvision's or timm's name, e.g. `features.0.0.weight`.
    pub name: String,
    /// Shape; none for a scalar.
    pub shape: Vec<usize>,
    /// Numbers in row-major order.
    pub values: Cow<'a, [f32]>,
}

/// Writes tensors as a safetensors file: whole or not at all. The same tensors give the same bytes.
///
/// `safetensors.torch.load_file` reads it, and `load_state_dict(strict=True)` takes it if the names and shapes are all
/// that the module has. PyTorch's BatchNorm counts its steps in a buffer of 64-bit integers, which no other framework has;
/// with `count_batches` each `running_mean` gets one, of 0. timm and torchvision want it.
///
/// # Errors
///
/// [`ZooError::Unwritable`] for two tensors of one name, or one whose shape wants another number of values;
/// [`ZooError::Io`] if the file cannot be written.
pub fn write_safetensors(
    tensors: &[NamedTensor<'_>],
    count_batches: bool,
    path: &Path,
) -> Result<(), ZooError> {
    let refused = |reason: String| ZooError::Unwritable { path: path.to_owned(), reason };
    let mut names = BTreeSet::new();
    let mut views = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        let count = tensor.shape.iter().try_fold(1usize, |product, &side| product.checked_mul(side));
        if count != Some(tensor.values.len()) {
            return Err(refused(format!(
                "`{}` of shape {:?} has {} values",
                tensor.name,
                tensor.shape,
                tensor.values.len()
            )));
        }
        views.push((tensor.name.clone(), Stored::Floats(tensor)));
        if let (true, Some(norm)) = (count_batches, tensor.name.strip_suffix("running_mean")) {
            views.push((format!("{norm}num_batches_tracked"), Stored::Zero));
        }
    }
    if let Some((twice, _)) = views.iter().find(|(name, _)| !names.insert(name.clone())) {
        return Err(refused(format!("two tensors are called `{twice}`")));
    }
    // What PyTorch's users look for. One key, so that no hash map's order decides the bytes.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(|error| refused(error.to_string()))?;
    let mut file = temporary_beside(path)?;
    file.write_all(&bytes).map_err(ZooError::io(path, "write"))?;
    publish(file, path)
}

enum Stored<'a> {
    Floats(&'a NamedTensor<'a>),
    /// A count of no steps.
    Zero,
}

impl View for Stored<'_> {
    fn dtype(&self) -> Dtype {
        match self {
            Self::Floats(_) => Dtype::F32,
            Self::Zero => Dtype::I64,
        }
    }

    fn shape(&self) -> &[usize] {
        match self {
            Self::Floats(tensor) => &tensor.shape,
            Self::Zero => &[],
        }
    }

    fn data(&self) -> Cow<'_, [u8]> {
        match self {
            Self::Floats(tensor) if cfg!(target_endian = "little") => {
                bytemuck::cast_slice(&tensor.values).into()
            }
            Self::Floats(tensor) => tensor.values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::Zero => Cow::Borrowed(&[0; 8]),
        }
    }

    fn data_len(&self) -> usize {
        match self {
            Self::Floats(tensor) => 4 * tensor.values.len(),
            Self::Zero => 8,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Checkpoint;

    fn tensor(name: &str, shape: &[usize], values: &[f32]) -> NamedTensor<'static> {
        NamedTensor { name: name.to_owned(), shape: shape.to_vec(), values: values.to_vec().into() }
    }

    #[test]
    fn what_was_written_is_read_again() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("weights.safetensors");
        let tensors = [
            tensor("conv.weight", &[2, 1, 1, 2], &[1.5, -2.0, 0.25, 1e-30]),
            tensor("bn.running_mean", &[2], &[0.1, 0.2]),
            tensor("scale", &[], &[3.0]),
        ];
        write_safetensors(&tensors, true, &path).expect("written");
        let bytes = std::fs::read(&path).expect("written");
        let checkpoint = Checkpoint::read(&path).expect("readable");
        for tensor in &tensors {
            assert_eq!(checkpoint.shape(&tensor.name), Some(&tensor.shape[..]));
            assert_eq!(checkpoint.values(&tensor.name).expect("whole"), *tensor.values);
        }
        assert_eq!(checkpoint.values("bn.num_batches_tracked").expect("whole"), [0.0]);
        assert_eq!(checkpoint.dtype("bn.num_batches_tracked"), Some(crate::Dtype::I64));
        assert_eq!(checkpoint.names().count(), 4);
        write_safetensors(&tensors, true, &path).expect("written again");
        assert_eq!(std::fs::read(&path).expect("written"), bytes, "the same tensors give the same bytes");
        write_safetensors(&tensors, false, &path).expect("written");
        assert_eq!(Checkpoint::read(&path).expect("readable").names().count(), 3);
    }

    #[test]
    fn what_is_no_state_dict_is_refused_and_the_old_file_stays() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("weights.safetensors");
        std::fs::write(&path, b"old").expect("written");
        for (tensors, words) in [
            (vec![tensor("a", &[2, 2], &[0.0; 3])], "`a` of shape [2, 2] has 3 values"),
            (vec![tensor("a", &[1], &[0.0]), tensor("a", &[1], &[1.0])], "two tensors are called `a`"),
            (vec![tensor("a", &[usize::MAX, 2], &[])], "has 0 values"),
        ] {
            let error = write_safetensors(&tensors, false, &path).expect_err("refused").to_string();
            assert!(error.contains(words) && error.contains("weights.safetensors"), "{error}");
        }
        assert_eq!(std::fs::read(&path).expect("still there"), b"old");
    }
}
