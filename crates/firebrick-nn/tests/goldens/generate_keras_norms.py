"""Keras' norms with its defaults: a training step of each, BatchNormalization's moving statistics, and inference with them."""

import json
import os
import pathlib

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np

keras.config.set_floatx("float64")
rng = np.random.default_rng(20261128)
# Of small variance, so that epsilon is seen.
x = (rng.normal(size=(4, 3, 2, 4)) * 0.1 * 1024).round() / 1024
numbers = lambda value: np.asarray(keras.ops.convert_to_numpy(value)).flatten().tolist()
batch_norm = keras.layers.BatchNormalization()
training = numbers(batch_norm(x, training=True))
golden = {
    "made_by": "cargo xtask golden generate_keras_norms", "versions": {"keras": keras.__version__, "numpy": np.__version__},
    "shape": list(x.shape), "x": x.flatten().tolist(), "batch_norm": training,
    "moving_mean": numbers(batch_norm.moving_mean), "moving_variance": numbers(batch_norm.moving_variance),
    "inference": numbers(batch_norm(x, training=False)),
    "layer_norm": numbers(keras.layers.LayerNormalization()(x)), "group_norm": numbers(keras.layers.GroupNormalization(groups=2)(x)),
}
pathlib.Path(__file__).with_name("keras_norms.json").write_text(json.dumps(golden) + "\n")
