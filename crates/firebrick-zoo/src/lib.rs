//! Model architectures, their metadata, pretrained weights and model packages.
