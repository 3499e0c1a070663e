//! Every operation against its reference, on every backend of this build, over odd shapes and layouts.
#![allow(deprecated)]

#[path = "../agreement/mod.rs"]
mod agreement;

mod arrange;
mod attention;
mod cross_entropy;
mod embedding;
mod layer_norm;
mod linear;
mod pool;
mod softmax;
mod update;
