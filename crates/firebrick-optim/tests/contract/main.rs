//! What every member of this crate promises, against PyTorch's and Keras' figures.

// The largest error of every case is printed: the tables of docs/optimization.md are read off it.
#![allow(clippy::print_stdout)]

mod optimizers;
mod schedules;
mod steps;
