//! Sequence models against the frameworks that users leave, and what a training loop and a careless user do with them.

// The largest error of each is printed: tables of what is checked are read off them.
#![allow(clippy::print_stdout)]

mod bert;
mod golden;
mod gpt;
#[path = "../seeded_weights/mod.rs"]
mod seeded_weights;
mod transformer;
