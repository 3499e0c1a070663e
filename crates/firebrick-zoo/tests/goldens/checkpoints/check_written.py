"""Whether PyTorch takes what is written here, and Keras' MobileNetV2 computes the same in torchvision's.

`python check_written.py PROGRAM`, where PROGRAM is the built example `convert_checkpoint`, in an environment of requirements.txt.
torchvision's and timm's models (timm if it is installed) go out and in again with `strict=True`, to the last bit. Keras' padding of
strided convolutions and its norms' epsilon differ, so that PyTorch's model is given both for the comparison.
"""

import os
import pathlib
import subprocess
import sys
import tempfile

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np
import safetensors.torch
import torch
import torchvision

program = sys.argv[1]
torch.manual_seed(0)
folder = pathlib.Path(tempfile.mkdtemp())


def converted(file):
    out = folder / "out.safetensors"
    subprocess.run([program, file, out], check=True)
    return safetensors.torch.load_file(out)


makers = {"torchvision": lambda: torchvision.models.mobilenet_v2()}
try:
    import timm

    makers["timm"] = lambda: timm.create_model("mobilenetv3_small_050")
except ImportError:
    print("timm is not installed: skipped")
for name, make in makers.items():
    model = make()
    torch.save(model.state_dict(), folder / "model.pth")
    again = make()
    print(name, again.load_state_dict(converted(folder / "model.pth"), strict=True))
    for key, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key

theirs = keras.applications.MobileNetV2(weights=None, input_shape=(96, 96, 3))
rng = np.random.default_rng(0)
for variable in theirs.variables:
    # Weights of some size, so that a pair that is swapped is seen.
    if "moving" in variable.path or "gamma" in variable.path:
        variable.assign(rng.uniform(0.5, 1.5, variable.shape))
ours = torchvision.models.mobilenet_v2()
for module in ours.modules():
    if isinstance(module, torch.nn.BatchNorm2d):
        module.eps = 1e-3
    if isinstance(module, torch.nn.Conv2d) and module.stride == (2, 2):
        module.padding = (0, 0)
        module.register_forward_pre_hook(lambda _, x: (torch.nn.functional.pad(x[0], (0, 1, 0, 1)),))
x = rng.uniform(-1, 1, (2, 96, 96, 3)).astype(np.float32)
expected = np.asarray(keras.ops.convert_to_numpy(theirs(x, training=False)))
for file in ["whole.h5", "model.keras", "model.weights.h5"]:
    theirs.save_weights(folder / file) if file.endswith("weights.h5") else theirs.save(folder / file)
    print(file, ours.load_state_dict(converted(folder / file), strict=True))
    found = ours.eval()(torch.tensor(x).permute(0, 3, 1, 2)).softmax(1).detach().numpy()
    off = np.abs(found - expected).max()
    print(f"largest difference of probabilities {off:.2e}, of {expected.max():.3f}")
    assert off < 1e-7
