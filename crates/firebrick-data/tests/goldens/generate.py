#!/usr/bin/env python3
"""Makes small image files of every kind that is read, and what PIL reads out of them.

Usage: python3 crates/firebrick-data/tests/goldens/generate.py

Needs numpy and Pillow. Writes images/* and expected.txt beside this script. A line of expected.txt is
`NAME WIDTH HEIGHT TOLERANCE HEX`: the picture as 8-bit RGB rows, and the greatest difference allowed in a channel.

The expectation is PIL's `ImageOps.exif_transpose(Image.open(f)).convert("RGB")` with one exception, 16-bit grey: PIL
clips its samples at 255, which turns the picture white, so there the high byte is expected, as PIL itself takes it
for 16-bit colour and for 16-bit grey with alpha.

Lossless files must agree exactly, but for one level of rounding where CMYK is converted. Lossy ones may differ by a few levels: the standards leave decoders that freedom,
and chroma upsampling, inverse DCT and colour conversion are rounded differently in libjpeg-turbo and libwebp on the one hand
and the Rust decoders on the other.
"""

import io
import pathlib
import struct
import sys
import zlib

import numpy as np
import PIL
from PIL import Image, ImageOps, features

SEED = 7
HERE = pathlib.Path(__file__).resolve().parent
IMAGES = HERE / "images"
SMALL = (11, 7)  # width, height of the lossless files; odd on purpose
LARGE = (21, 18)  # of the lossy files: more than one 16x16 block, and part of another

LOSSLESS = 0
CMYK_ROUNDING = 1
JPEG = 4
WEBP = 3

ORIENTATION_TAG = 0x0112

lines = []


def photo(size, channels=3):
    """A smooth picture with an edge in it, different in every channel."""
    width, height = size
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    rng = np.random.default_rng(SEED)
    planes = []
    for _ in range(channels):
        fx, fy, phase = rng.uniform(0.1, 0.35), rng.uniform(0.1, 0.35), rng.uniform(0, 6)
        plane = 128 + 80 * np.sin(fx * x + fy * y + phase)
        plane[height // 2 :, : width // 3] += 40
        planes.append(plane)
    return np.clip(np.stack(planes, axis=-1), 0, 255).astype(np.uint8)


def noise(size, channels=3, dtype=np.uint8):
    width, height = size
    rng = np.random.default_rng(SEED + channels)
    return rng.integers(0, np.iinfo(dtype).max, (height, width, channels), dtype=dtype, endpoint=True)


def record(name, content, tolerance, expected=None):
    (IMAGES / name).write_bytes(content)
    if expected is None:
        with Image.open(io.BytesIO(content)) as opened:
            expected = np.asarray(ImageOps.exif_transpose(opened).convert("RGB"))
    assert expected.dtype == np.uint8 and expected.ndim == 3 and expected.shape[2] == 3
    height, width, _ = expected.shape
    lines.append(f"{name} {width} {height} {tolerance} {expected.tobytes().hex()}")


def save(name, image, tolerance, **options):
    buffer = io.BytesIO()
    image.save(buffer, **options)
    record(name, buffer.getvalue(), tolerance)


def png(array, bits, colour_type):
    """A PNG of samples that PIL cannot write, e.g. 16-bit colour. `array` is [height, width, channels]."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, _ = array.shape
    rows = b"".join(b"\0" + row.astype(">u2" if bits == 16 else "u1").tobytes() for row in array)
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def orientation_exif(value):
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = value
    return exif


def make_png():
    save("rgb.png", Image.fromarray(noise(SMALL)), LOSSLESS, format="PNG")
    save("rgba.png", Image.fromarray(noise(SMALL, 4), "RGBA"), LOSSLESS, format="PNG")
    save("grey.png", Image.fromarray(noise(SMALL, 1)[:, :, 0]), LOSSLESS, format="PNG")
    save("grey_alpha.png", Image.fromarray(noise(SMALL, 2), "LA"), LOSSLESS, format="PNG")
    save("bilevel.png", Image.fromarray(noise(SMALL, 1)[:, :, 0] > 127), LOSSLESS, format="PNG")
    palette = Image.fromarray(photo(SMALL)).quantize(13)
    save("palette.png", palette, LOSSLESS, format="PNG")
    save("palette_transparent.png", palette, LOSSLESS, format="PNG", transparency=3)
    save("orientation_6.png", Image.fromarray(noise(SMALL)), LOSSLESS, format="PNG", exif=orientation_exif(6))
    record("rgb16.png", png(noise(SMALL, 3, np.uint16), 16, 2), LOSSLESS)
    record("rgba16.png", png(noise(SMALL, 4, np.uint16), 16, 6), LOSSLESS)
    record("grey_alpha16.png", png(noise(SMALL, 2, np.uint16), 16, 4), LOSSLESS)
    grey16 = noise(SMALL, 1, np.uint16)
    record("grey16.png", png(grey16, 16, 0), LOSSLESS, (grey16 >> 8).astype(np.uint8).repeat(3, axis=2))


def make_jpeg():
    image = Image.fromarray(photo(LARGE))
    save("444.jpg", image, JPEG, format="JPEG", quality=92, subsampling="4:4:4")
    save("422.jpg", image, JPEG, format="JPEG", quality=92, subsampling="4:2:2")
    save("420.jpg", image, JPEG, format="JPEG", quality=92, subsampling="4:2:0")
    save("progressive.jpg", image, JPEG, format="JPEG", quality=92, progressive=True)
    save("restart.jpg", image, JPEG, format="JPEG", quality=92, restart_marker_blocks=1)
    save("grey.jpg", Image.fromarray(photo(LARGE, 1)[:, :, 0]), JPEG, format="JPEG", quality=92)
    save("cmyk.jpg", Image.fromarray(photo(LARGE, 4), "CMYK"), JPEG, format="JPEG", quality=92)
    for value in range(1, 9):
        upright = Image.fromarray(photo(SMALL))
        options = {"quality": 92, "subsampling": "4:4:4", "exif": orientation_exif(value)}
        save(f"orientation_{value}.jpg", upright, JPEG, format="JPEG", **options)


def make_gif():
    frames = [Image.fromarray(photo(SMALL)).quantize(16), Image.fromarray(noise(SMALL)).quantize(16)]
    save("animated.gif", frames[0], LOSSLESS, format="GIF", save_all=True, append_images=frames[1:], duration=50)
    save("transparent.gif", frames[0], LOSSLESS, format="GIF", transparency=2)
    save("interlaced.gif", frames[1], LOSSLESS, format="GIF", interlace=1)


def make_webp():
    image = Image.fromarray(photo(LARGE))
    save("lossy.webp", image, WEBP, format="WEBP", quality=90)
    save("lossless.webp", image, LOSSLESS, format="WEBP", lossless=True)
    save("lossless_alpha.webp", Image.fromarray(noise(SMALL, 4), "RGBA"), LOSSLESS, format="WEBP", lossless=True, exact=True)
    save("lossy_alpha.webp", Image.fromarray(photo(LARGE, 4), "RGBA"), WEBP, format="WEBP", quality=90, exact=True)
    save("orientation_8.webp", image, LOSSLESS, format="WEBP", lossless=True, exif=orientation_exif(8))
    frames = [Image.fromarray(photo(SMALL)), Image.fromarray(noise(SMALL))]
    save("animated.webp", frames[0], LOSSLESS, format="WEBP", lossless=True, save_all=True, append_images=frames[1:])


def make_bmp():
    save("rgb.bmp", Image.fromarray(noise(SMALL)), LOSSLESS, format="BMP")
    save("rgba.bmp", Image.fromarray(noise(SMALL, 4), "RGBA"), LOSSLESS, format="BMP")
    save("grey.bmp", Image.fromarray(noise(SMALL, 1)[:, :, 0]), LOSSLESS, format="BMP")
    save("palette.bmp", Image.fromarray(photo(SMALL)).quantize(13), LOSSLESS, format="BMP")


def make_tiff():
    rgb = Image.fromarray(noise(SMALL))
    save("rgb.tiff", rgb, LOSSLESS, format="TIFF")
    save("lzw.tiff", rgb, LOSSLESS, format="TIFF", compression="tiff_lzw")
    save("deflate.tiff", rgb, LOSSLESS, format="TIFF", compression="tiff_adobe_deflate")
    save("packbits.tiff", rgb, LOSSLESS, format="TIFF", compression="packbits")
    save("rgba.tiff", Image.fromarray(noise(SMALL, 4), "RGBA"), LOSSLESS, format="TIFF")
    save("grey.tiff", Image.fromarray(noise(SMALL, 1)[:, :, 0]), LOSSLESS, format="TIFF")
    save("bilevel.tiff", Image.fromarray(noise(SMALL, 1)[:, :, 0] > 127), LOSSLESS, format="TIFF")
    save("cmyk.tiff", Image.fromarray(noise(SMALL, 4), "CMYK"), CMYK_ROUNDING, format="TIFF")
    save("orientation_3.tiff", rgb, LOSSLESS, format="TIFF", tiffinfo={ORIENTATION_TAG: 3})
    grey16 = noise(SMALL, 1, np.uint16)
    buffer = io.BytesIO()
    Image.fromarray(grey16[:, :, 0]).save(buffer, format="TIFF")
    record("grey16.tiff", buffer.getvalue(), LOSSLESS, (grey16 >> 8).astype(np.uint8).repeat(3, axis=2))
    # Not read: only the refusal is tested.
    Image.fromarray(photo(SMALL)).quantize(13).save(IMAGES / "unsupported_palette.tiff")


def main():
    IMAGES.mkdir(exist_ok=True)
    for make in (make_png, make_jpeg, make_gif, make_webp, make_bmp, make_tiff):
        make()
    libraries = " ".join(f"{name} {features.version(name)}" for name in ("libjpeg_turbo", "webp", "libtiff", "zlib"))
    header = [
        "# What PIL reads out of images/*, as RGB: NAME WIDTH HEIGHT TOLERANCE HEX",
        f"# Pillow {PIL.__version__} ({libraries}), numpy {np.__version__}, Python {sys.version.split()[0]}, seed {SEED}",
        "# Made by: python3 crates/firebrick-data/tests/goldens/generate.py",
    ]
    (HERE / "expected.txt").write_text("\n".join(header + lines) + "\n")


if __name__ == "__main__":
    main()
