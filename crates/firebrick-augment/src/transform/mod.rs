//! torchvision's transforms for classification: a [`Transform`] draws [`Op`]s, which are applied without any chance.

mod blur;
mod config;
mod enhance;
mod op;
mod pipeline;
mod policy;
#[cfg(test)]
mod tests;
mod tone;
mod warp;

pub use config::Transform;
pub use op::Op;
pub use pipeline::Pipeline;
pub use policy::LearntPolicy;
pub use warp::Sampling;
