"""All kinds of damage to a sequence of bytes, as networks, disks, encoders and hostile servers cause it."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable
from random import Random

Mutation = Callable[[Random, bytearray, bytes], None]
"""Damages the first bytes in place; the second are those of another file."""

_INTERESTING = (0, 1, 2, 4, 0x7F, 0x80, 0xFE, 0xFF)
_LENGTHS = (0, 1, 2, 3, 7, 8, 0xFF, 0xFFFE, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF0, 0xFFFFFFFF)
# Names of chunks, markers of segments, introducers of blocks: lengths are beside them.
_LANDMARKS = re.compile(
    rb"IHDR|IDAT|IEND|acTL|fcTL|fdAT|iCCP|iTXt|zTXt|tEXt|eXIf|PLTE|tRNS|RIFF|VP8[ LX]|ALPH|ANIM|ANMF|ICCP|EXIF|XMP"
    rb"|\xff[\xc0-\xcf\xda\xdb\xe0-\xef\xfe]|[!][\xf9\xff\xfe]|,|MPF|Exif|http|<|&|=|\"|\\"
)


def mutate(random: Random, content: bytes, other: bytes) -> bytes:
    """Damage some bytes in one to six ways; PNG checksums are mostly fixed, so that the damage reaches deeper."""
    damaged = bytearray(content)
    for _ in range(random.choice((1, 1, 1, 2, 3, 6))):
        if damaged:
            random.choice(MUTATIONS)(random, damaged, other)
    if random.random() < 0.7:
        fix_checksums(damaged)
    return bytes(damaged)


def fix_checksums(content: bytearray) -> None:
    """Write the right checksum behind every chunk of a PNG; anything else is left alone."""
    position = 8
    while content.startswith(b"\x89PNG") and position + 12 <= len(content):
        (size,) = struct.unpack_from(">I", content, position)
        end = position + 8 + size
        if end + 4 > len(content):
            return
        struct.pack_into(">I", content, end, zlib.crc32(content[position + 4 : end]))
        position = end + 4


def flip_bits(random: Random, content: bytearray, _: bytes) -> None:
    for _ in range(random.randint(1, 8)):
        content[random.randrange(len(content))] ^= 1 << random.randrange(8)


def set_bytes(random: Random, content: bytearray, _: bytes) -> None:
    for _ in range(random.randint(1, 8)):
        content[random.randrange(len(content))] = random.choice(_INTERESTING)


def truncate(random: Random, content: bytearray, _: bytes) -> None:
    del content[random.randrange(len(content)) :]


def remove(random: Random, content: bytearray, _: bytes) -> None:
    start, end = _range(random, content)
    del content[start:end]


def duplicate(random: Random, content: bytearray, _: bytes) -> None:
    start, end = _range(random, content)
    content[end:end] = content[start:end] * random.choice((1, 1, 2, 9))


def move(random: Random, content: bytearray, _: bytes) -> None:
    start, end = _range(random, content)
    moved = content[start:end]
    del content[start:end]
    position = random.randint(0, len(content))
    content[position:position] = moved


def splice(random: Random, content: bytearray, other: bytes) -> None:
    start, end = _range(random, content)
    first, last = _range(random, other)
    content[start:end] = other[first:last]


def cross(random: Random, content: bytearray, other: bytes) -> None:
    content[random.randrange(len(content)) :] = other[random.randint(0, len(other)) :]


def insert(random: Random, content: bytearray, _: bytes) -> None:
    position = random.randint(0, len(content))
    content[position:position] = random.randbytes(random.randint(1, 40))


def append(random: Random, content: bytearray, other: bytes) -> None:
    content += random.choice((b"\0" * 40, other, random.randbytes(40)))


def lie_in_header(random: Random, content: bytearray, _: bytes) -> None:
    _write_number(random, content, random.randrange(min(64, len(content))))


def lie_about_length(random: Random, content: bytearray, _: bytes) -> None:
    marks = [found.span() for found in _LANDMARKS.finditer(content)]
    if marks:
        start, end = random.choice(marks)
        _write_number(random, content, random.choice((end, end + 1, end + 2, max(0, start - 4), max(0, start - 2))))


MUTATIONS: tuple[Mutation, ...] = (
    flip_bits,
    set_bytes,
    truncate,
    remove,
    duplicate,
    move,
    splice,
    cross,
    insert,
    append,
    lie_in_header,
    lie_about_length,
    lie_about_length,
)


def _range(random: Random, content: bytes | bytearray) -> tuple[int, int]:
    start = random.randint(0, len(content))
    return start, min(len(content), start + random.choice((1, 2, 4, 12, 64, 999)))


def _write_number(random: Random, content: bytearray, position: int) -> None:
    size = random.choice((1, 2, 4))
    number = random.choice((*_LENGTHS, random.getrandbits(32), random.randint(0, 2 * len(content)))) % (1 << 8 * size)
    content[position : position + size] = number.to_bytes(size, random.choice(("big", "little")))
