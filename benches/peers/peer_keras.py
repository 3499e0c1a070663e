"""Keras on TensorFlow: a head on a frozen base, the input pipeline, and the article's whole program. See worker.py."""

import worker

import io
import os
import time

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Otherwise a GPU would be looked for, and complained about.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import keras
import numpy as np
import PIL
import scipy
import tensorflow as tf
from keras.src.legacy.preprocessing.image import ImageDataGenerator

tf.config.threading.set_intra_op_parallelism_threads(worker.THREADS)
tf.config.threading.set_inter_op_parallelism_threads(worker.THREADS)

SIDE, CLASSES = 224, 10

# The article's augmentation.
VARIED = dict(
    rescale=1 / 255,
    rotation_range=40,
    width_shift_range=0.2,
    height_shift_range=0.2,
    shear_range=0.2,
    zoom_range=0.2,
    horizontal_flip=True,
    fill_mode="nearest",
)


def classifier():
    """A frozen MobileNetV2, GlobalAveragePooling2D, Dense(128, relu), Dense(10, softmax). Nothing is downloaded."""
    keras.utils.set_random_seed(0)
    base = keras.applications.MobileNetV2(input_shape=(SIDE, SIDE, 3), include_top=False, weights=None)
    base.trainable = False
    model = keras.Sequential(
        [
            base,
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dense(CLASSES, activation="softmax"),
        ]
    )
    model.compile(keras.optimizers.Adam(1e-4), "categorical_crossentropy", metrics=["accuracy"])
    return model


def frozen(batch):
    """A training step of the head, the base's features computed in it."""
    pixels = np.random.default_rng(0).uniform(-1, 1, (batch, SIDE, SIDE, 3)).astype(np.float32)
    x, y = tf.constant(pixels), tf.one_hot(np.arange(batch) % CLASSES, CLASSES)
    model = classifier()
    return lambda: model.train_on_batch(x, y)


def pipeline(batch, photo):
    """`batch` times: decode the JPEG, resize to 224x224, vary, rescale. As flow_from_directory does it, one thread."""
    with open(photo, "rb") as file:
        data = file.read()
    generator = ImageDataGenerator(**VARIED)
    np.random.seed(0)

    def run():
        for _ in range(batch):
            image = keras.utils.load_img(io.BytesIO(data), target_size=(SIDE, SIDE))
            pixels = keras.utils.img_to_array(image)
            pixels = generator.apply_transform(pixels, generator.get_random_transform(pixels.shape))
            generator.standardize(pixels)

    return run


class Seconds(keras.callbacks.Callback):
    """Seconds of each epoch, its validation included."""

    def __init__(self):
        super().__init__()
        self.seconds = []

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(time.perf_counter() - self.start)


def article(data, epochs):
    """The article's program on class folders in `data`/train and `data`/validation; seconds of each epoch."""
    settings = dict(target_size=(SIDE, SIDE), batch_size=32, class_mode="categorical")
    train = ImageDataGenerator(**VARIED).flow_from_directory(os.path.join(data, "train"), **settings)
    validation = ImageDataGenerator(rescale=1 / 255).flow_from_directory(os.path.join(data, "validation"), **settings)
    seconds = Seconds()
    classifier().fit(train, epochs=epochs, validation_data=validation, callbacks=[seconds], verbose=0)
    return {"seconds": seconds.seconds}


worker.serve(
    "Keras",
    {
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "pillow": PIL.__version__,
    },
    {"frozen": frozen, "pipeline": pipeline, "article": article},
)
