//! What every layer promises: PyTorch's results and gradients, and the contract of all layers.

// The largest error of every case is printed: the tables of docs/layers.md are read off it.
#![allow(clippy::print_stdout, reason = "figures for the documentation")]

mod contract;
mod dropout;
mod golden;
mod peers;
mod presets;
mod sequence;
