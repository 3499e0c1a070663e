//! Optimizers with every hyper-parameter named: what acts on parameters and gradients.
