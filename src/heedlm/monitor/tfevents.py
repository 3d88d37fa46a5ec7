"""Scalars out of TensorBoard's event files, without TensorBoard.

A file is a row of records: length (8 bytes), its checksum (4), the message, its checksum (4). The message is an `Event`
in protocol-buffer encoding, of which four nested fields matter here; reading those takes fewer lines than a dependency
would need to be explained. Checksums are not verified: a record cut short at the end of a running log ends the file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_STEP, _SUMMARY = 2, 5  # of Event
_VALUE = 1  # of Summary
_TAG, _SIMPLE, _TENSOR = 1, 2, 8  # of Summary.Value
_DTYPE, _CONTENT, _FLOATS = 1, 4, 5  # of TensorProto
_FLOAT = 1  # a dtype: 32-bit floats


class Scalar(NamedTuple):
    """One number under a name (TensorBoard's tag)."""

    step: int
    tag: str
    value: float


def scalars(path: Path) -> Iterator[Scalar]:
    """Every scalar of an event file, in the order of writing; texts, pictures and histograms are passed over.

    Raises:
        ValueError: The file is damaged or is no event file.
    """
    data, place = path.read_bytes(), 0
    while place + 12 <= len(data):
        (size,) = struct.unpack_from("<Q", data, place)
        message = data[place + 12 : place + 12 + size]
        if len(message) < size:
            return
        yield from _event(message)
        place += 12 + size + 4


def _event(message: bytes) -> Iterator[Scalar]:
    found = list(_fields(message))
    step = next((value for number, value in found if number == _STEP and isinstance(value, int)), 0)
    for number, summary in found:
        if number == _SUMMARY and isinstance(summary, bytes):
            for inner, value in _fields(summary):
                if inner == _VALUE and isinstance(value, bytes):
                    parts = dict(_fields(value))
                    tag, number_ = parts.get(_TAG), _number(parts)
                    if isinstance(tag, bytes) and number_ is not None:
                        yield Scalar(step, tag.decode(), number_)


def _number(value: dict[int, int | bytes]) -> float | None:
    """A `Summary.Value` holds its scalar plainly (PyTorch) or as a tensor (TensorFlow)."""
    raw = value.get(_SIMPLE)
    tensor = value.get(_TENSOR)
    if isinstance(tensor, bytes):
        parts = dict(_fields(tensor))
        raw = (parts.get(_CONTENT) or parts.get(_FLOATS)) if parts.get(_DTYPE) == _FLOAT else None
    return float(struct.unpack("<f", raw)[0]) if isinstance(raw, bytes) and len(raw) == 4 else None


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Field numbers and values of a message: integers for variable-length ones, bytes for all others."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        kind = key & 7
        if kind == 0:
            value, place = _varint(message, place)
            yield key >> 3, value
            continue
        size, place = _varint(message, place) if kind == 2 else ({1: 8, 5: 4}.get(kind, len(message)), place)
        if place + size > len(message):
            raise ValueError("a field is longer than its message")
        yield key >> 3, message[place : place + size]
        place += size


def _varint(message: bytes, place: int) -> tuple[int, int]:
    """A number in groups of seven bits, the lowest first; each byte's top bit says whether more follow."""
    value = shift = 0
    while place < len(message):
        byte = message[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place
    raise ValueError("a number is cut short")
