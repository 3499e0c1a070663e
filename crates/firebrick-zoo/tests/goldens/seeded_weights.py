"""Weights by a formula that the Rust tests know too (tests/seeded_weights/mod.rs), so that no state dict is shipped.

Value `i` of tensor `name`, counted in row-major order, is drawn from `(-1, 1)` by SplitMix64 of FNV-1a of the name, plus `i`. Matrices and
kernels are scaled to keep the variance of what they multiply; scales and variances of norms lie about 1, biases about 0.
"""

import math

import numpy as np

MASK = (1 << 64) - 1


def fnv1a64(text):
    state = 0xCBF29CE484222325
    for byte in text.encode():
        state = ((state ^ byte) * 0x100000001B3) & MASK
    return state


def uniform(name, count):
    """`count` values in [-1, 1), in f64."""
    z = np.arange(count, dtype=np.uint64) + np.uint64(fnv1a64(name)) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return (z >> np.uint64(11)).astype(np.float64) / 2.0**53 * 2 - 1


def values(name, shape):
    """The tensor `name` as f32."""
    shape = tuple(shape)
    u = uniform(name, math.prod(shape))
    if len(shape) >= 2:
        u = math.sqrt(3 / math.prod(shape[1:])) * u
    elif name.rsplit(".", 1)[-1] in ("weight", "gamma", "running_var"):
        u = 1 + 0.1 * u
    else:
        u = 0.1 * u
    return u.astype(np.float32).reshape(shape)


def seeded(state):
    """The floating tensors of a PyTorch state dict, or any mapping of names to tensors, that are to be filled: `(name, tensor)`. Of names
    that share memory the first counts. Integers (counters, positions) are left alone."""
    seen = set()
    for name, tensor in state.items():
        key = (tensor.data_ptr(), tuple(tensor.shape))
        if not tensor.is_floating_point() or key in seen:
            continue
        seen.add(key)
        yield name, tensor


def fill(module):
    """Gives a PyTorch module these weights; returns the names and shapes, which the Rust side makes its file from."""
    import torch

    names = []
    with torch.no_grad():
        for name, tensor in seeded(module.state_dict()):
            tensor.copy_(torch.from_numpy(values(name, tensor.shape)))
            names.append([name, list(tensor.shape)])
    return names
