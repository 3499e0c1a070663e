#!/usr/bin/env python3
"""Prints the golden orders of src/shuffle.rs: ChaCha8 and Fisher-Yates written out from their definitions.

Usage: python3 crates/firebrick-data/tests/goldens/chacha8_shuffle.py

ChaCha as D. J. Bernstein defines it (64-bit block counter, 64-bit nonce), 8 rounds, nonce 0. Only the standard library.
"""

import struct

MASK = 0xFFFFFFFF


def quarter(s, a, b, c, d):
    def rotate(value, by):
        return ((value << by) | (value >> (32 - by))) & MASK

    s[a] = (s[a] + s[b]) & MASK
    s[d] = rotate(s[d] ^ s[a], 16)
    s[c] = (s[c] + s[d]) & MASK
    s[b] = rotate(s[b] ^ s[c], 12)
    s[a] = (s[a] + s[b]) & MASK
    s[d] = rotate(s[d] ^ s[a], 8)
    s[c] = (s[c] + s[d]) & MASK
    s[b] = rotate(s[b] ^ s[c], 7)


def chacha8(key):
    """An endless stream of 64-bit numbers, each made of two successive words, low word first."""
    counter = 0
    while True:
        start = list(struct.unpack("<4I", b"expand 32-byte k")) + list(struct.unpack("<8I", key))
        start += [counter & MASK, counter >> 32, 0, 0]
        s = list(start)
        for _ in range(4):
            for column in ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15)):
                quarter(s, *column)
            for diagonal in ((0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)):
                quarter(s, *diagonal)
        words = [(a + b) & MASK for a, b in zip(s, start)]
        for low, high in zip(words[::2], words[1::2]):
            yield low | high << 32
        counter += 1


def shuffled(length, seed, epoch):
    stream = chacha8(struct.pack("<QQ", seed, epoch) + b"firebrick/epoch\0")
    order = list(range(length))
    for last in range(length - 1, 0, -1):
        bound = last + 1
        greatest = 2**64 - 1
        draw = next(number for number in stream if number < greatest - greatest % bound)
        order[last], order[draw % bound] = order[draw % bound], order[last]
    return order


print("seed 0, epoch 0:", shuffled(12, 0, 0))
print("seed 42, epoch 3:", shuffled(12, 42, 3))
