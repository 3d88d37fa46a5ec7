"""Write rows as JSON lines, so that a file is either whole or not there."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TypeVar

from heedlm.errors import BadInput
from heedlm.records.types import Row

R = TypeVar("R", bound=Row)


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `path` (gzip by suffix) and rename it to `path` only if all went well."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as raw:
            if path.suffix == ".gz":
                # No name and no time in the header: the same rows give the same bytes and fingerprint.
                with gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0, compresslevel=6) as packed:
                    yield packed  # type: ignore[misc]
            else:
                yield raw
            raw.flush()
            os.fsync(raw.fileno())
        part.replace(path)
    except OSError as error:
        raise BadInput(f"{path} cannot be written ({error.strerror or error}): name another place") from error
    finally:
        part.unlink(missing_ok=True)


def write(path: str | Path, rows: Iterable[Row]) -> int:
    """Write rows to `path` as JSON lines (.jsonl or .jsonl.gz) and return how many.

    Fields that hold their default are left out. Rows whose ids were made from equal content get `-2`, `-3`…
    behind the id, so that reading the file finds no duplicate ids.

    Raises:
        BadInput: If the file cannot be written, or its name does not end in .jsonl or .jsonl.gz.
    """
    path = Path(path)
    if not path.name.endswith((".jsonl", ".jsonl.gz")):
        raise BadInput(f"{path} is written as JSON lines: let its name end in .jsonl or .jsonl.gz")
    count = 0
    seen: dict[str, int] = {}
    with whole_file(path) as file:
        for row in rows:
            row = with_own_id(row, seen)
            file.write(row.model_dump_json(exclude_defaults=True).encode("utf-8"))
            file.write(b"\n")
            count += 1
    return count


def with_own_id(row: R, seen: dict[str, int]) -> R:
    """Return the row, under an id not in `seen` if its id was made from its content; note the id there."""
    times = seen[row.id] = seen.get(row.id, 0) + 1
    if times == 1 or "id" in row.model_fields_set:
        return row
    return row.model_copy(update={"id": f"{row.id}-{times}"})
