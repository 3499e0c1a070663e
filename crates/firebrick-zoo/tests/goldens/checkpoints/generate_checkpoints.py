"""One small network as every framework saves it, and what its tensors are in PyTorch.

The network is made in Keras and in PyTorch. The generator fails unless both compute the same from the converted weights, so
`expected.json`, which is PyTorch's state dict, is right by both frameworks. Weights are multiples of 1/64, which f16 holds.
"""

import importlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import types
import zipfile

os.environ["KERAS_BACKEND"] = "torch"

import h5py
import keras
import numpy as np
import onnx
import safetensors.torch
import torch
import torchvision
from keras.src.legacy.saving import legacy_h5_format
from onnx import TensorProto, helper
from torch import nn

SEED = 20261124
TENSORFLOWJS = "tensorflowjs==4.22.0"
here = pathlib.Path(__file__).parent
versions = {m.__name__: m.__version__ for m in (h5py, keras, np, onnx, safetensors, torch, torchvision)}
certificate = {"made_by": "cargo xtask golden generate_checkpoints", "seed": SEED, "versions": versions}
rng = np.random.default_rng(SEED)
keras.utils.set_random_seed(SEED)


def grid(shape, scale=0.5):
    return (rng.normal(size=shape) * scale * 64).round().clip(-127, 127).astype(np.float32) / 64


def variance(shape):
    return (np.abs(grid(shape)) + 0.5).astype(np.float32)


layers = keras.layers
twin_keras = keras.Sequential([
    keras.Input((6, 7, 3)), layers.Conv2D(4, (3, 2), name="stem"), layers.BatchNormalization(name="norm", epsilon=1e-5),
    layers.DepthwiseConv2D((2, 3), depth_multiplier=2, name="wide", use_bias=False),
    layers.BatchNormalization(name="norm_unscaled", scale=False, epsilon=1e-5),
    layers.SeparableConv2D(3, 2, name="split"), layers.GlobalAveragePooling2D(name="pool"), layers.Dropout(0.5, name="drop"),
    layers.Dense(5, name="head"),
], name="twin")
for variable in twin_keras.variables:
    # The state of the dropout's random numbers is no weight.
    if "seed_generator" not in variable.path:
        variable.assign(variance(variable.shape) if "variance" in variable.path else grid(variable.shape))


class Split(nn.Module):
    def __init__(self):
        super().__init__()
        self.depthwise = nn.Conv2d(8, 8, 2, groups=8, bias=False)
        self.pointwise = nn.Conv2d(8, 3, 1)

    def forward(self, x):
        return self.pointwise(self.depthwise(x))


class Twin(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, (3, 2))
        self.norm = nn.BatchNorm2d(4)
        self.wide = nn.Conv2d(4, 8, (2, 3), groups=4, bias=False)
        self.norm_unscaled = nn.BatchNorm2d(8)
        self.split = Split()
        self.head = nn.Linear(3, 5)

    def forward(self, x):
        x = self.split(self.norm_unscaled(self.wide(self.norm(self.stem(x)))))
        return self.head(x.mean((2, 3)))


def numbers(layer):
    return [np.asarray(keras.ops.convert_to_numpy(w)) for w in twin_keras.get_layer(layer).weights if "seed" not in w.path]


hwio = lambda k: np.ascontiguousarray(k.transpose(3, 2, 0, 1))
depthwise = lambda k: np.ascontiguousarray(k.transpose(2, 3, 0, 1)).reshape(-1, 1, *k.shape[:2])
state = {}
kernel, bias = numbers("stem")
state |= {"stem.weight": hwio(kernel), "stem.bias": bias}
for layer, names in [("norm", ["weight", "bias", "running_mean", "running_var"]), ("norm_unscaled", ["bias", "running_mean", "running_var"])]:
    state |= {f"{layer}.{name}": value for name, value in zip(names, numbers(layer), strict=True)}
state["wide.weight"] = depthwise(numbers("wide")[0])
first, second, bias = numbers("split")
state |= {"split.depthwise.weight": depthwise(first), "split.pointwise.weight": hwio(second), "split.pointwise.bias": bias}
kernel, bias = numbers("head")
state |= {"head.weight": np.ascontiguousarray(kernel.T), "head.bias": bias}
keras_names = sorted(state)
state["norm_unscaled.weight"] = np.ones(8, np.float32)

twin = Twin().eval()
loaded = twin.load_state_dict({k: torch.tensor(v) for k, v in state.items()}, strict=False)
assert not loaded.unexpected_keys and all("num_batches" in key for key in loaded.missing_keys), loaded
x = grid((2, 6, 7, 3))
theirs = np.asarray(keras.ops.convert_to_numpy(twin_keras(x, training=False)))
ours = twin(torch.tensor(x).permute(0, 3, 1, 2)).detach().numpy()
assert np.abs(theirs - ours).max() < 1e-5, np.abs(theirs - ours).max()

golden = certificate | {
    "keras_names": keras_names,
    "tensors": {k: {"shape": list(v.shape), "values": v.flatten().tolist()} for k, v in state.items()},
}
(here / "expected.json").write_text(json.dumps(golden) + "\n")

# Keras.
twin_keras.save(here / "whole.h5")
twin_keras.save(here / "twin.keras")
twin_keras.save_weights(here / "twin.weights.h5")
with h5py.File(here / "weights_only.h5", "w") as f:
    legacy_h5_format.save_weights_to_hdf5_group(f, twin_keras)
# Keras 2 wrote fixed-length bytes as attributes and other names of variables; old files keep them. By hand, with the compression that
# h5py's users turn on.
with h5py.File(here / "keras_2.h5", "w") as f:
    names = [layer.name for layer in twin_keras.layers]
    f.attrs["layer_names"] = np.array([name.encode() for name in names])
    for layer in twin_keras.layers:
        group = f.create_group(layer.name)
        values = [] if layer.name == "drop" else numbers(layer.name)
        paths = [w.path.split("/")[-1] for w in layer.weights if "seed" not in w.path]
        paths = ["depthwise_kernel" if layer.name == "wide" else path for path in paths]
        group.attrs["weight_names"] = np.array([f"{layer.name}/{path}:0".encode() for path in paths])
        for path, value in zip(paths, values, strict=True):
            packed = dict(compression="gzip", shuffle=True, chunks=tuple((n + 1) // 2 for n in value.shape))
            settings = packed if value.ndim > 1 else {}
            group.create_dataset(f"{layer.name}/{path}:0", data=value, **settings)
# Keras' first 3.x versions did not label a layer's variables with its name; the configuration has to tell.
with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(here / "twin.keras") as whole:
    whole.extractall(folder)
    with h5py.File(f"{folder}/model.weights.h5", "a") as f:
        f.visititems(lambda _, group: group.attrs.pop("name", None) and None)
    with zipfile.ZipFile(here / "unlabelled.keras", "w", zipfile.ZIP_DEFLATED) as packed:
        for name in ["metadata.json", "config.json", "model.weights.h5"]:
            packed.write(f"{folder}/{name}", name)
# A model in a model, as transfer learning makes them.
inner = keras.Sequential([keras.Input((2, 2, 3)), layers.Conv2D(2, 1, name="inner_conv")], name="inner")
nested = keras.Sequential([keras.Input((2, 2, 3)), inner, layers.Flatten(name="flat"), layers.Dense(2, name="outer_head")], name="outer")
nested.save_weights(here / "nested.weights.h5")
nested.save(here / "nested.h5")
# The format of HDF5 1.10 and later, in half and double precision, big-endian.
with h5py.File(here / "latest.h5", "w", libver="latest") as f:
    f.attrs["layer_names"] = ["head"]
    kernel, bias = numbers("head")
    f.create_dataset("head/head/kernel:0", data=kernel.astype(np.float16))
    f.create_dataset("head/head/bias:0", data=bias.astype(">f8"))

# PyTorch.
torch.save(twin.state_dict(), here / "zip.pth")
torch.save(twin.state_dict(), here / "legacy.pth", _use_new_zipfile_serialization=False)
optimizer = torch.optim.Adam(twin.parameters())
twin.train()
twin(torch.tensor(x).permute(0, 3, 1, 2)).sum().backward()
twin.load_state_dict({k: torch.tensor(v) for k, v in state.items()}, strict=False)
optimizer.zero_grad()
run = {
    "epoch": 3, "state_dict": {f"module._orig_mod.{k}": v for k, v in twin.state_dict().items()},
    "optimizer": {"state": {0: {"exp_avg": torch.ones(3), "step": torch.tensor(7.0)}}, "param_groups": [{"lr": 0.1}]},
    "ema": {k: v * 0 for k, v in twin.state_dict().items()},
}
torch.save(run, here / "run.pth")
lightning = {"state_dict": {f"net.{k}": v for k, v in twin.state_dict().items()} | {"criterion.weight": torch.ones(5)}}
torch.save(lightning | {"pytorch-lightning_version": "2.6.0", "hyper_parameters": {"lr": 0.1}}, here / "lightning.ckpt")
types_of = [torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8]
mixed = {str(t).removeprefix("torch."): torch.tensor([0, 1, 2, 100]).to(t) for t in types_of}
torch.save(mixed, here / "types.pth")
safetensors.torch.save_file(mixed, here / "types.safetensors")
torch.save({"weight": torch.ones(2, dtype=torch.complex64)}, here / "complex.pth")
torch.save({"weight": torch.ones(2, dtype=torch.bool)}, here / "mask.pth")
# Views of one storage: transposed, and a part.
both = torch.arange(12.0).reshape(3, 4)
torch.save({"turned": both.T, "part": both[1:, 1:3]}, here / "views.pth")
torch.save(nn.Sequential(nn.Linear(2, 2)), here / "module.pth")
safetensors.torch.save_file(twin.state_dict(), here / "twin.safetensors", metadata={"format": "pt"})

# ONNX, in each of the ways that it has to store numbers.
initialisers = []
for index, (name, value) in enumerate(sorted(state.items())):
    kind = index % 5
    if kind == 0:
        initialisers.append(onnx.numpy_helper.from_array(value, name))
    elif kind == 1:
        initialisers.append(helper.make_tensor(name, TensorProto.FLOAT, value.shape, value.flatten()))
    elif kind == 2:
        initialisers.append(helper.make_tensor(name, TensorProto.FLOAT16, value.shape, value.flatten()))
    elif kind == 3:
        initialisers.append(helper.make_tensor(name, TensorProto.DOUBLE, value.shape, value.flatten()))
    else:
        initialisers.append(onnx.numpy_helper.from_array(value.astype(np.float16), name))
node = helper.make_node("Identity", ["x"], ["y"])
inputs, outputs = ([helper.make_tensor_value_info(n, TensorProto.FLOAT, [1])] for n in "xy")
model = helper.make_model(helper.make_graph([node], "twin", inputs, outputs, initialisers))
onnx.save_model(model, here / "twin.onnx")
(here / "outside.onnx.data").unlink(missing_ok=True)
onnx.save_model(model, here / "outside.onnx", save_as_external_data=True, location="outside.onnx.data", size_threshold=64)

# TensorFlow.js, by its converter's own writer. The converter needs TensorFlow only for models that are TensorFlow's.
with tempfile.TemporaryDirectory() as folder:
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", folder, TENSORFLOWJS], check=True)
    gfile = types.SimpleNamespace(GFile=open)
    sys.modules["tensorflow"] = types.SimpleNamespace(io=types.SimpleNamespace(gfile=gfile))
    package = types.ModuleType("tensorflowjs")
    package.__path__ = [f"{folder}/tensorflowjs"]
    sys.modules["tensorflowjs"] = package
    write = importlib.import_module("tensorflowjs.write_weights").write_weights
    # `weights.path` begins with the name of the Sequential, which the converter's own h5 reader removes.
    weights = lambda: [[{"name": w.path.removeprefix("twin/"), "data": np.asarray(keras.ops.convert_to_numpy(w))}
                        for w in twin_keras.weights if "seed" not in w.path]]
    for name, options in [("plain", {}), ("uint8", {"quantization_dtype_map": {"uint8": "*"}}),
                          ("uint16", {"quantization_dtype_map": {"uint16": "*"}}), ("float16", {"quantization_dtype_map": {"float16": "*"}})]:
        out = here / f"tfjs_{name}"
        out.mkdir(exist_ok=True)
        manifest = write(weights(), str(out), shard_size_bytes=512, write_manifest=False, **options)
        config = {"model_config": json.loads(twin_keras.to_json())}
        document = {"format": "layers-model", "generatedBy": f"keras v{keras.__version__}", "convertedBy": TENSORFLOWJS,
                    "modelTopology": config, "weightsManifest": manifest}
        (out / "model.json").write_text(json.dumps(document) + "\n")

# Names of a published model in both frameworks.
mobilenet = keras.applications.MobileNetV2(weights=None)
names = [[type(layer).__name__, layer.name, w.path.split("/")[-1], list(w.shape)] for layer in mobilenet.layers for w in layer.weights]
theirs = {k: list(v.shape) for k, v in torchvision.models.mobilenet_v2().state_dict().items() if "num_batches" not in k}
golden = certificate | {"keras": names, "torchvision": theirs}
(here / "mobilenet_v2_names.json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")

for path in here.rglob("*"):
    assert path.stat().st_size <= 50_000, (path, path.stat().st_size)
