//! Any file of weights as a safetensors file that PyTorch loads.
//!
//! `cargo run -p firebrick-zoo --features ndarray --example convert_checkpoint -- FILE OUT.safetensors` keeps names, but for Keras'
//! MobileNetV2, whose tensors get torchvision's.

use std::path::Path;

use firebrick_zoo::{Checkpoint, NamedTensor, keras_names, write_safetensors};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut files = std::env::args().skip(1);
    let (Some(from), Some(to)) = (files.next(), files.next()) else {
        return Err("give the FILE to read and the one to write".into());
    };
    let checkpoint = Checkpoint::read(Path::new(&from))?.with_keras_names(keras_names::mobilenet_v2)?;
    let mut tensors = Vec::new();
    // The counts of steps are written anew.
    for name in checkpoint.names().filter(|name| !name.ends_with("num_batches_tracked")) {
        let shape = checkpoint.shape(name).unwrap_or_default().to_vec();
        tensors.push(NamedTensor { name: name.to_owned(), shape, values: checkpoint.values(name)?.into() });
    }
    write_safetensors(&tensors, true, Path::new(&to))?;
    Ok(())
}
