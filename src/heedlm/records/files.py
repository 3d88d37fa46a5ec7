"""From a file to its raw rows: lines, JSON lists, tables and plain text, compressed or not, torn or whole."""

from __future__ import annotations

import csv
import gzip
import importlib
import json
import re
import zlib
from collections.abc import Iterator
from io import BufferedIOBase
from pathlib import Path
from typing import Any

from heedlm.errors import BadInput
from heedlm.records.faults import RowFault

MAX_ROW_BYTES = 16 * 2**20
BOM = b"\xef\xbb\xbf"
DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile)  # what a compressed file raises where it is damaged or cut

Raw = bytes | dict[str, Any] | RowFault  # JSON text of one row, the row itself, or why there is none


def check_file(path: Path) -> None:
    """Raise BadInput unless `path` is a file with something in it."""
    if path.is_dir():
        inside = sorted(p.name for p in path.iterdir() if p.is_file() and container(p) != "unknown")
        hint = f"for example {path / inside[0]}" if inside else "it holds no data file"
        raise BadInput(f"{path} is a folder, a file is needed: name one, {hint}")
    if not path.exists():
        raise BadInput(f"{path} does not exist: check the path (relative to {Path.cwd()})")
    if path.stat().st_size == 0:
        raise BadInput(f"{path} is empty: it needs at least one row")


def container(path: Path) -> str:
    """Return how the file's name says rows are laid out: jsonl, json, csv, tsv, txt, parquet or unknown."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    last = suffixes[-1].removeprefix(".") if suffixes else ""
    names = {"ndjson": "jsonl", "jl": "jsonl", "text": "txt", "md": "txt"}
    last = names.get(last, last)
    return last if last in {"jsonl", "json", "csv", "tsv", "txt", "parquet"} else "unknown"


def raw_rows(path: Path, *, lines_are_rows: bool = False) -> Iterator[tuple[int, Raw]]:
    """Yield (line or place, raw row) for every row of a file.

    A fault of one row is yielded in its place; a fault that ends the file early (a cut .gz) is yielded last.

    Args:
        path: The file.
        lines_are_rows: In plain text, whether each line is a row; else blank lines part the rows.

    Raises:
        BadInput: If the file is missing, empty or cannot be read at all.
    """
    check_file(path)
    try:
        if container(path) == "parquet":
            yield from _parquet(path)
            return
        with _open(path) as file:
            yield from _by_layout(path, file, lines_are_rows)
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror or error}): check its permissions") from error


def _open(path: Path) -> BufferedIOBase:
    with path.open("rb") as file:
        start = file.read(4)
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise BadInput(f"{path} is UTF-16 text: save it as UTF-8")
    if start == b"\x28\xb5\x2f\xfd" or start.startswith(b"PK\x03\x04"):
        raise BadInput(f"{path} is a zip or zstd archive: unpack it, or compress it as .gz")
    if start.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(path, "rb")
    return path.open("rb")


def _by_layout(path: Path, file: BufferedIOBase, lines_are_rows: bool) -> Iterator[tuple[int, Raw]]:
    layout = container(path)
    if layout in {"csv", "tsv"}:
        yield from _table(file, "\t" if layout == "tsv" else ",")
        return
    if layout == "txt":
        yield from _text(file, lines_are_rows)
        return
    start = _first_byte(file)
    file.seek(0)
    if start == b"":
        raise BadInput(f"{path} holds nothing but blanks: it needs at least one row")
    if start == b"[":
        yield from _json_list(file)
    elif layout == "json" and not _first_line_is_row(file):
        yield from _json_object(path, file)
    else:
        yield from _lines(file)


def _first_byte(file: BufferedIOBase) -> bytes:
    """Return the first byte that is neither blank nor part of a byte order mark."""
    try:
        start = file.read(2**16).removeprefix(BOM).lstrip()
        while not start and (more := file.read(2**16)):
            start = more.lstrip()
    except DAMAGED:
        return b"?"
    return start[:1]


def _first_line_is_row(file: BufferedIOBase) -> bool:
    """Whether the file is JSON lines under the name .json; leaves the file at its start."""
    lines = (line for _, line in _lines(file))
    first, second = next(lines, b""), next(lines, b"")
    file.seek(0)
    try:
        return bool(second) and isinstance(first, bytes) and isinstance(json.loads(first), dict)
    except (ValueError, RecursionError):
        return False


def _lines(file: BufferedIOBase) -> Iterator[tuple[int, bytes | RowFault]]:
    """Yield every line that is not blank, stripped; a line over the limit is passed over unparsed."""
    number = 0
    try:
        while line := file.readline(MAX_ROW_BYTES + 1):
            number += 1
            if len(line) > MAX_ROW_BYTES:
                size = len(line)
                while not line.endswith(b"\n") and (line := file.readline(MAX_ROW_BYTES)):
                    size += len(line)
                limit = MAX_ROW_BYTES // 2**20
                yield number, RowFault(f"a line of {size / 2**20:.1f} MB (at most {limit} MB a line)")
                continue
            line = (line.removeprefix(BOM) if number == 1 else line).strip()
            if line:
                yield number, line
    except DAMAGED as error:
        yield number + 1, _cut_off(error)


def _read(file: BufferedIOBase) -> tuple[bytes, RowFault | None]:
    """Return all that can be read without the byte order mark, and why it ended early if it did."""
    chunks = []
    try:
        while chunk := file.read1(2**20):  # read would drop what precedes the damage
            chunks.append(chunk)
    except DAMAGED as error:
        return b"".join(chunks).removeprefix(BOM), _cut_off(error)
    return b"".join(chunks).removeprefix(BOM), None


def _cut_off(error: Exception) -> RowFault:
    return RowFault(f"the compressed file is damaged or cut off here ({error})")


def _json_object(path: Path, file: BufferedIOBase) -> Iterator[tuple[int, Raw]]:
    """Yield the rows of {"data": [...]}, or the one row that the object is."""
    text, _ = _read(file)
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        # Objects one behind the other without a list around them, or a torn file: what can be found.
        yield from _items(text.decode("utf-8", "surrogateescape"), 0)
        return
    if not isinstance(whole, dict):
        raise BadInput(f"{path} holds neither rows nor a list of rows: expected JSON objects")
    lists = [value for value in whole.values() if isinstance(value, list)]
    inside = next((rows for rows in lists if rows and all(isinstance(row, dict) for row in rows)), None)
    if len(whole) == 1 and inside is not None and not set(whole) & {"messages", "conversations"}:
        yield from enumerate(inside, start=1)
    else:
        yield 1, whole


def _json_list(file: BufferedIOBase) -> Iterator[tuple[int, Raw]]:
    read, cut_off = _read(file)
    text = read.decode("utf-8", "surrogateescape")
    place = 0
    for place, row in _items(text, text.find("[") + 1):
        yield place, row
    if cut_off is not None:
        yield place + 1, cut_off


def _items(text: str, at: int) -> Iterator[tuple[int, Raw]]:
    """Yield a JSON list's objects from character `at`; after a torn one, from the next that starts a line."""
    decoder = json.JSONDecoder()
    between = re.compile(r"[\s,]*")
    start_of_item = re.compile(rf"\n\s{{0,{_indent(text)}}}\{{")
    place = 0
    while True:
        skipped = between.match(text, at)
        at = skipped.end() if skipped else at
        if at >= len(text) or text[at] == "]":
            return
        place += 1
        try:
            row, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            yield place, RowFault(f"not JSON: {str(error).split(':')[0].lower()}")
            found = start_of_item.search(text, at + 1)
            if found is None:
                return
            at = found.end() - 1
            continue
        yield place, _item(row, text, at, end)
        at = end


def _item(row: object, text: str, start: int, end: int) -> Raw:
    if (end - start) * 4 > MAX_ROW_BYTES and len(text[start:end].encode("utf-8", "ignore")) > MAX_ROW_BYTES:
        return RowFault(f"a row of more than {MAX_ROW_BYTES // 2**20} MB")
    if isinstance(row, dict):
        return row
    return RowFault(f"{json_name(row)}, expected an object")


def json_name(value: object) -> str:
    """Return what JSON calls a value that is no object."""
    if value is None:
        return "null"
    if isinstance(value, list):
        return "a list"
    return "a string" if isinstance(value, str) else "true or false" if isinstance(value, bool) else "a number"


def _indent(text: str) -> int:
    """Return how far a list's first item is indented: objects inside items are indented further."""
    first = re.search(r"\n(\s*)\{", text[:10_000])
    return len(first.group(1).rpartition("\n")[2]) if first else 0


def _table(file: BufferedIOBase, delimiter: str) -> Iterator[tuple[int, Raw]]:
    texts = (line.decode("utf-8", "surrogateescape") for line in file)
    old_limit = csv.field_size_limit(MAX_ROW_BYTES)
    try:
        reader = csv.reader(texts, delimiter=delimiter)
        header = [name.strip().lower() for name in next(reader)]
        header[0] = header[0].removeprefix(BOM.decode()).strip('"')
        while True:
            try:
                cells = next(reader)
            except csv.Error as error:
                yield reader.line_num, RowFault(f"not a row of the table: {error}")
                continue
            except StopIteration:
                return
            if cells:
                yield reader.line_num, _cells(header, cells)
    except DAMAGED as error:
        yield reader.line_num + 1, _cut_off(error)
    finally:
        csv.field_size_limit(old_limit)


def _cells(header: list[str], cells: list[str]) -> Raw:
    if len(cells) != len(header):
        return RowFault(f"{len(cells)} cells, but the header names {len(header)} columns")
    return dict(zip(header, cells, strict=True))


def _text(file: BufferedIOBase, lines_are_rows: bool) -> Iterator[tuple[int, Raw]]:
    """Yield {"prompt": …} for each line, or {"text": …} for what <|endoftext|> or else blank lines part."""
    read, cut_off = _read(file)
    whole = read.replace(b"\r\n", b"\n")
    end = b"<|endoftext|>"
    if lines_are_rows:
        parting = rb"\n"
    elif end in whole:
        parting = re.escape(end)
    else:
        parting = rb"\n[ \t]*\n\s*"
    line, at = 1, 0
    for found in [*re.finditer(parting, whole), None]:
        part = whole[at : found.start() if found else len(whole)]
        stripped = part.strip()
        if stripped:
            yield (
                line + part[: part.index(stripped)].count(b"\n"),
                _piece(stripped, "prompt" if lines_are_rows else "text"),
            )
        if found:
            line += whole.count(b"\n", at, found.end())
            at = found.end()
    if cut_off is not None:
        yield line + 1, cut_off


def _piece(piece: bytes, name: str) -> Raw:
    try:
        return {name: piece.decode("utf-8")}
    except UnicodeDecodeError as error:
        return RowFault(f"invalid UTF-8 at byte {error.start + 1} of it")


def _parquet(path: Path) -> Iterator[tuple[int, Raw]]:
    try:
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise BadInput(f"{path} needs pyarrow: pip install pyarrow, or save it as .jsonl") from error
    place = 0
    try:
        for batch in parquet.ParquetFile(path).iter_batches():
            for row in batch.to_pylist():
                place += 1
                yield place, {key: value for key, value in row.items() if value is not None}
    except (ValueError, OSError) as error:  # pyarrow's own errors derive from these
        raise BadInput(f"{path} is not a whole parquet file: {str(error).splitlines()[0]}") from error
