"""The numbers of a run as TensorBoard events, beside `metrics.jsonl`.

Written without TensorBoard: an event file is a row of length-prefixed, checksummed protocol-buffer messages, and
scalars need four of their fields. That is less to keep working than a dependency which brings protobuf, gRPC and a web
server into the environment that trains. Only looking needs the viewer: pip install heedlm[tracking].

Format: TFRecord framing (TensorFlow, `lib/io/record_writer.h`), `event.proto` and `summary.proto`.
"""

from __future__ import annotations

import math
import struct
import time
from collections.abc import Mapping
from pathlib import Path

_WALL_TIME, _STEP, _FILE_VERSION, _SUMMARY, _SESSION = 1, 2, 3, 5, 7  # fields of Event
_VALUE = 1  # of Summary
_TAG, _SIMPLE = 1, 2  # of Summary.Value
_STATUS, _START = 1, 1  # of SessionLog, and its value that says: what other sessions logged of this step on is void
_NAME = "events.out.tfevents."  # TensorBoard knows its files by this


class Events:
    """Appends rows of scalars to a file of this process's own in a folder.

    Before its first row, and before a row whose step is not after the last one's, it marks the start of a session
    there. TensorBoard then drops what it has of that step and later ones, so that a resumed or rolled-back run shows
    one curve.

    Args:
        folder: Where the event files lie; made with the first row.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file: Path | None = None
        self._last = math.inf

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Append one row; NaN and infinities are kept."""
        events = []
        if self._file is None:
            self._file = self._new_file()
            events.append(_bytes(_FILE_VERSION, b"brain.Event:2"))
        if step <= self._last:
            events.append(_integer(_STEP, step) + _bytes(_SESSION, _integer(_STATUS, _START)))
        rows = (_bytes(_TAG, tag.encode()) + _float(_SIMPLE, value) for tag, value in values.items())
        events.append(_integer(_STEP, step) + _bytes(_SUMMARY, b"".join(_bytes(_VALUE, row) for row in rows)))
        self._last = step
        clock = _double(_WALL_TIME, time.time())
        with self._file.open("ab") as file:
            file.write(b"".join(record(clock + event) for event in events))

    def _new_file(self) -> Path:
        """Readers take files in the order of their names, which a clock could upset."""
        self.folder.mkdir(parents=True, exist_ok=True)
        numbers = [int(path.name[-10:]) for path in self.folder.glob(f"{_NAME}*") if path.name[-10:].isdigit()]
        return self.folder / f"{_NAME}{max(numbers, default=0) + 1:010}"


def record(message: bytes) -> bytes:
    """A message in its frame: length, checksum of the length, message, checksum of the message."""
    size = struct.pack("<Q", len(message))
    return size + struct.pack("<I", masked_crc(size)) + message + struct.pack("<I", masked_crc(message))


def masked_crc(data: bytes) -> int:
    """CRC-32C (Castagnoli) of the data, rotated and shifted so that a checksum of checksums is no weaker."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _table_entry(value: int) -> int:
    for _ in range(8):
        value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
    return value


_TABLE = [_table_entry(value) for value in range(256)]


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def _integer(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _double(field: int, value: float) -> bytes:
    return _varint(field << 3 | 1) + struct.pack("<d", value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _float(field: int, value: float) -> bytes:
    try:
        return _varint(field << 3 | 5) + struct.pack("<f", value)
    except OverflowError:  # beyond 32 bits
        return _float(field, math.copysign(math.inf, value))
