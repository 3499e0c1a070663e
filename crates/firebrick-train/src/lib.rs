//! The training loop: fit, evaluate, predict; callbacks, metrics, history and curves.
