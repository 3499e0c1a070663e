"""Variances of PyTorch's and Keras' initialisers, each of a weight of 3,200 inputs and 800 outputs."""

import json
import os
import pathlib

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np
import torch
from torch.nn import init

SEED = 20261201
IN, OUT = 3200, 800
torch.manual_seed(SEED)
K = keras.initializers


def of_torch(name, function):
    return f"torch {name}", float(function(torch.empty(OUT, IN)).double().var())


def of_keras(initializer):
    values = keras.ops.convert_to_numpy(initializer((IN, OUT))).astype(np.float64)
    return f"keras {type(initializer).__name__}", float(values.var())


CASES = [
    ({"constant": {"value": 0.25}}, of_torch("constant_", lambda w: init.constant_(w, 0.25))),
    ("zeros", of_torch("zeros_", init.zeros_)),
    ({"uniform": {"low": -0.5, "high": 0.5}}, of_torch("uniform_", lambda w: init.uniform_(w, -0.5, 0.5))),
    ({"uniform": {"low": -0.05, "high": 0.05}}, of_keras(K.RandomUniform(seed=SEED))),
    ({"normal": {"std": 0.02}}, of_torch("normal_", lambda w: init.normal_(w, std=0.02))),
    ({"normal": {"std": 0.05}}, of_keras(K.RandomNormal(seed=SEED))),
    ({"truncated_normal": {"std": 0.5}}, of_torch("trunc_normal_", lambda w: init.trunc_normal_(w, std=0.5, a=-1, b=1))),
    ({"truncated_normal": {"std": 0.05}}, of_keras(K.TruncatedNormal(seed=SEED))),
    ("glorot_uniform", of_torch("xavier_uniform_", init.xavier_uniform_)),
    ("glorot_uniform", of_keras(K.GlorotUniform(seed=SEED))),
    ("glorot_normal", of_torch("xavier_normal_", init.xavier_normal_)),
    ("glorot_normal", of_keras(K.GlorotNormal(seed=SEED))),
    ("kaiming_uniform", of_torch("kaiming_uniform_", lambda w: init.kaiming_uniform_(w, nonlinearity="relu"))),
    ("kaiming_uniform", of_keras(K.HeUniform(seed=SEED))),
    ("kaiming_normal", of_torch("kaiming_normal_", lambda w: init.kaiming_normal_(w, nonlinearity="relu"))),
    ("kaiming_normal", of_keras(K.HeNormal(seed=SEED))),
    ("kaiming_normal_fan_out", of_torch("kaiming_normal_(fan_out)", lambda w: init.kaiming_normal_(w, mode="fan_out", nonlinearity="relu"))),
    ("lecun_uniform", of_keras(K.LecunUniform(seed=SEED))),
    ("lecun_normal", of_keras(K.LecunNormal(seed=SEED))),
]

golden = {
    "made_by": "cargo xtask golden generate_initializers", "seed": SEED,
    "versions": {"torch": torch.__version__, "keras": keras.__version__, "numpy": np.__version__}, "fan_in": IN, "fan_out": OUT,
    "cases": [{"initializer": ours, "peer": peer, "variance": variance} for ours, (peer, variance) in CASES],
}
pathlib.Path(__file__).with_name("initializers.json").write_text(json.dumps(golden, indent=0) + "\n")
