"""Goldens of keras.applications' image models with weights by a formula (../seeded_weights.py), in f64.

    python generate_keras_models.py [FAMILY...]

writes FAMILY.json. Per model and side of square images, a batch of two: the logits in evaluation; with a gradient also the images' gradient of
`sum(direction * logits)`. Of each the norm and some values are kept. A weight is drawn under its name in a Keras file and in PyTorch's
layout, e.g. `Conv1.weight` as [32, 3, 3, 3].

    python generate_keras_models.py structure

writes structure.json of every member: its parameters, learned and all, and the hash of its tensors' Keras names and layouts.
"""

import hashlib
import json
import os
import pathlib
import sys

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"

import keras
import numpy as np
import tensorflow as tf

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
import seeded_weights

# Values that are kept of a tensor, evenly spread.
KEPT = 24

applications = keras.applications

# Our name -> Keras' function and its settings.
MEMBERS = {
    **{
        name: (applications.MobileNetV2, {"alpha": alpha})
        for name, alpha in [
            ("keras_mobilenet_v2", 1.0),
            ("keras_mobilenet_v2_0.35", 0.35),
            ("keras_mobilenet_v2_0.5", 0.5),
            ("keras_mobilenet_v2_0.75", 0.75),
            ("keras_mobilenet_v2_1.3", 1.3),
            ("keras_mobilenet_v2_1.4", 1.4),
        ]
    },
    **{
        name: (applications.MobileNet, {"alpha": alpha})
        for name, alpha in [
            ("keras_mobilenet", 1.0),
            ("keras_mobilenet_0.25", 0.25),
            ("keras_mobilenet_0.5", 0.5),
            ("keras_mobilenet_0.75", 0.75),
        ]
    },
    "keras_vgg16": (applications.VGG16, {}),
    "keras_vgg19": (applications.VGG19, {}),
    "keras_resnet50": (applications.ResNet50, {}),
    "keras_resnet101": (applications.ResNet101, {}),
    "keras_resnet152": (applications.ResNet152, {}),
    "keras_densenet121": (applications.DenseNet121, {}),
    "keras_densenet169": (applications.DenseNet169, {}),
    "keras_densenet201": (applications.DenseNet201, {}),
    "keras_inception_v3": (applications.InceptionV3, {}),
    **{f"keras_efficientnet_b{n}": (getattr(applications, f"EfficientNetB{n}"), {}) for n in range(8)},
}

# Family -> model -> sides for the logits, and for the gradient. A VGG is bound to the size that it is made for.
NUMBERS = {
    "mobilenet_v2": {"keras_mobilenet_v2": ([64, 65], 33), "keras_mobilenet_v2_0.35": ([32], None)},
    "mobilenet_v1": {"keras_mobilenet": ([64, 65], 33)},
    "vgg": {"keras_vgg16": ([], 224)},
    "resnet": {"keras_resnet50": ([64, 65], 33)},
    "densenet": {"keras_densenet121": ([64, 65], 33)},
    "inception_v3": {"keras_inception_v3": ([107], 75)},
    "efficientnet": {"keras_efficientnet_b0": ([64, 65], 33), "keras_efficientnet_b2": ([64], None)},
}

WORDS = {
    "kernel": "weight",
    "gamma": "weight",
    "bias": "bias",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def made(name, side=None):
    # Layers without a name are counted through a session.
    keras.backend.clear_session()
    make, settings = MEMBERS[name]
    shape = (side, side, 3) if side else None
    return make(weights=None, classifier_activation=None, input_shape=shape, **settings)


def tensors(model):
    """Keras name, shape in PyTorch's layout, the variable, and the axes that bring PyTorch's layout into Keras'."""
    for layer in model.layers:
        # What it computes is done to the images before the network sees them here.
        if isinstance(layer, keras.layers.Normalization):
            continue
        for variable in layer.weights:
            shape = tuple(variable.shape)
            if isinstance(layer, keras.layers.DepthwiseConv2D) and variable.name == "kernel":
                assert shape[3] == 1
                shape, axes = (shape[2], 1, *shape[:2]), (2, 3, 0, 1)
            elif len(shape) == 4:
                shape, axes = (shape[3], shape[2], *shape[:2]), (2, 3, 1, 0)
            elif len(shape) == 2:
                shape, axes = shape[::-1], (1, 0)
            else:
                axes = (0,)
            yield f"{layer.name}.{WORDS[variable.name]}", shape, variable, axes


def fill(model):
    for name, shape, variable, axes in tensors(model):
        variable.assign(seeded_weights.values(name, shape).astype(np.float64).transpose(axes))


def structure(name):
    model = made(name)
    listed = sorted(f"{name} {list(shape)}" for name, shape, _, _ in tensors(model))
    return {
        "learned": sum(int(np.prod(variable.shape)) for variable in model.trainable_variables),
        "all": model.count_params(),
        "tensors": len(listed),
        "names_sha256": hashlib.sha256("\n".join(listed).encode()).hexdigest(),
    }


def images_of(side):
    values = seeded_weights.uniform(f"images {side}", 2 * 3 * side * side)
    return values.reshape(2, 3, side, side).transpose(0, 2, 3, 1)


def pick(tensor):
    """Norm and some values of an array, in PyTorch's order."""
    flat = tensor.astype(np.float64).reshape(-1)
    places = [i * flat.size // KEPT for i in range(KEPT)]
    return {"norm": float(np.linalg.norm(flat)), "values": [float(f"{flat[place]:.9g}") for place in places]}


def computed(name, side, with_gradient):
    model = made(name, side)
    fill(model)
    images = tf.constant(images_of(side))
    rescales = any(isinstance(layer, keras.layers.Rescaling) for layer in model.layers)
    with tf.GradientTape() as tape:
        tape.watch(images)
        # EfficientNet divides by 255 itself; its normalisation is none until it is told of data.
        logits = model(images * 255.0 if rescales else images, training=False)
        assert logits.dtype == tf.float64
        direction = seeded_weights.uniform("direction", int(tf.size(logits))).reshape(logits.shape)
        loss = tf.reduce_sum(logits * direction)
    if not with_gradient:
        return pick(logits.numpy())
    gradient = tape.gradient(loss, images).numpy().transpose(0, 3, 1, 2)
    return {"side": side, "logits": pick(logits.numpy()), "gradient": pick(gradient)}


def main():
    keras.config.set_floatx("float64")
    keras.utils.set_random_seed(0)
    for family in sys.argv[1:] or ["structure", *NUMBERS]:
        out = {
            "made_by": f"python generate_keras_models.py {family}: keras {keras.__version__}, tensorflow {tf.__version__}",
            "models": {},
        }
        if family == "structure":
            for name in MEMBERS:
                out["models"][name] = structure(name)
                print(name, out["models"][name]["all"], flush=True)
        for name, (sides, gradient_side) in NUMBERS.get(family, {}).items():
            record = {"sizes": {str(side): computed(name, side, False) for side in sides}}
            record["gradient"] = computed(name, gradient_side, True) if gradient_side else None
            out["models"][name] = record
            print(name, flush=True)
        text = json.dumps(out, separators=(",", ":")).replace('"models":', '\n"models":').replace('},"keras', '},\n"keras')
        (HERE / f"{family}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
