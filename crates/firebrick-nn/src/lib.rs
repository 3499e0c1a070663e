//! Layers, blocks, heads and losses: what acts on activations.
