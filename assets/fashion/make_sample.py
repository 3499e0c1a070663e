#!/usr/bin/env python3
"""Makes the 3,000-image Fashion-MNIST sample from the full data set.

Usage: python3 make_sample.py INPUT_FOLDER [OUTPUT_FOLDER]

INPUT_FOLDER holds train-images-idx3-ubyte.gz and train-labels-idx1-ubyte.gz, as the Debian package
`dataset-fashion-mnist` installs them into /usr/share/datasets/fashion-mnist. OUTPUT_FOLDER is this script's
own folder unless given.

Of each of the 10 classes the first 200 images of the training file become training images and the next 100
validation images. Both parts keep the file's order. The output is two gzip'd IDX files that hold the 2,000
training images first and the 1,000 validation images after them. Needs only Python's standard library, and
writes the same bytes on every run (with the same zlib).
"""

import gzip
import hashlib
import io
import pathlib
import struct
import sys

CLASSES = 10
TRAIN_PER_CLASS = 200
VALIDATION_PER_CLASS = 100

# The full data set's files, so that the sample cannot silently come from something else.
INPUT_SHA256 = {
    "train-images-idx3-ubyte.gz": "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
    "train-labels-idx1-ubyte.gz": "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
}


def read_checked(folder, name):
    compressed = (folder / name).read_bytes()
    digest = hashlib.sha256(compressed).hexdigest()
    if digest != INPUT_SHA256[name]:
        sys.exit(f"{folder / name}: sha256 is {digest}, expected {INPUT_SHA256[name]}")
    return gzip.decompress(compressed)


def choose(labels):
    """Indices of the training sample and of the validation sample, each in file order."""
    seen = [0] * CLASSES
    train, validation = [], []
    for index, label in enumerate(labels):
        if seen[label] < TRAIN_PER_CLASS:
            train.append(index)
        elif seen[label] < TRAIN_PER_CLASS + VALIDATION_PER_CLASS:
            validation.append(index)
        seen[label] += 1
    return train, validation


def write_gzip(path, content):
    # An explicit empty name and zero time keep the machine and the moment out of the header.
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=buffer, mtime=0) as file:
        file.write(content)
    path.write_bytes(buffer.getvalue())
    for what, data in (("file", buffer.getvalue()), ("content", content)):
        print(f"{path.name} {what}: {len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}")


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    source = pathlib.Path(sys.argv[1])
    target = pathlib.Path(sys.argv[2]) if len(sys.argv) == 3 else pathlib.Path(__file__).resolve().parent

    images = read_checked(source, "train-images-idx3-ubyte.gz")
    labels = read_checked(source, "train-labels-idx1-ubyte.gz")
    magic, count, rows, columns = struct.unpack(">IIII", images[:16])
    assert (magic, rows, columns) == (0x803, 28, 28), "not an IDX file of 28x28 u8 images"
    assert struct.unpack(">II", labels[:8]) == (0x801, count), "labels do not belong to the images"

    train, validation = choose(labels[8:])
    chosen = train + validation
    assert (len(train), len(validation)) == (CLASSES * TRAIN_PER_CLASS, CLASSES * VALIDATION_PER_CLASS)

    size = rows * columns
    pixels = b"".join(images[16 + i * size : 16 + (i + 1) * size] for i in chosen)
    write_gzip(target / "images-idx3-ubyte.gz", struct.pack(">IIII", 0x803, len(chosen), rows, columns) + pixels)
    write_gzip(
        target / "labels-idx1-ubyte.gz",
        struct.pack(">II", 0x801, len(chosen)) + bytes(labels[8 + i] for i in chosen),
    )


if __name__ == "__main__":
    main()
