//! Sequence models against the frameworks that users leave, and what a training loop and a careless user do with them.

mod bert;
mod golden;
mod gpt;
#[path = "../seeded_weights/mod.rs"]
mod seeded_weights;
mod transformer;
