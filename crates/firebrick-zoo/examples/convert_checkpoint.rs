//! Any file of weights as a safetensors file that PyTorch loads.
//!
//! `cargo run -p firebrick-zoo --features ndarray --example convert_checkpoint -- FILE OUT.safetensors [MODEL]` keeps names, but for those of a
//! Keras file, which become torchvision's: MODEL, a name of the zoo such as `keras_resnet50`, says which. It is `keras_mobilenet_v2` otherwise.

use std::path::Path;

use firebrick_zoo::{Checkpoint, NamedTensor, find, keras_names, write_safetensors};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut files = std::env::args().skip(1);
    let (Some(from), Some(to)) = (files.next(), files.next()) else {
        return Err("give the FILE to read and the one to write".into());
    };
    let spec = find(files.next().as_deref().unwrap_or("keras_mobilenet_v2"))?;
    let mut checkpoint = Checkpoint::read(Path::new(&from))?;
    if let Some(names) = keras_names::of(spec) {
        checkpoint = checkpoint.with_names_of_keras(names)?;
    }
    let mut tensors = Vec::new();
    // The counts of steps are written anew.
    for name in checkpoint.names().filter(|name| !name.ends_with("num_batches_tracked")) {
        let shape = checkpoint.shape(name).unwrap_or_default().to_vec();
        tensors.push(NamedTensor { name: name.to_owned(), shape, values: checkpoint.values(name)?.into() });
    }
    write_safetensors(&tensors, true, Path::new(&to))?;
    Ok(())
}
