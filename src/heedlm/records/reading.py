"""Read a file of rows: every sound row, and for every other its line and what is wrong with it."""

from __future__ import annotations

import gc
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from heedlm.errors import BadInput
from heedlm.records.faults import BadRow, RowFault, explain, fault
from heedlm.records.files import Raw, container, json_name, raw_rows
from heedlm.records.formats import FORMATS, Format, format_of, native_kind
from heedlm.records.parsed import build, natural_kind
from heedlm.records.types import Prompt, Row
from heedlm.records.writing import whole_file, with_own_id

T = TypeVar("T", bound=Row)

EXCERPT = 160  # characters of a bad row that are kept
NATIVE = FORMATS[0]
KNOWN = "prompt + chosen + rejected, prompt + completion, messages, conversations, instruction + output, text"


@dataclass(frozen=True)
class Rows(Sequence[T], Generic[T]):
    """What a file held: the sound rows, and the rows set aside with line and reason.

    `lines[k]` is the line (its place, from 1, in a JSON list) that row k came from; `format` names the format
    of most rows; `total` counts sound and bad rows together.
    """

    path: Path
    kind: type[T]
    rows: list[T]
    lines: list[int]
    bad: list[BadRow]
    format: str
    max_bad_rows: float = 0.01
    quarantine: Path | None = None
    formats: dict[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Sound and bad rows together."""
        return len(self.rows) + len(self.bad)

    def __len__(self) -> int:
        """Count the sound rows."""
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        """Return sound rows by place."""
        return self.rows[index]

    def __iter__(self) -> Iterator[T]:
        """Run over the sound rows."""
        return iter(self.rows)

    def filter(self, reason: Callable[[T], str | None]) -> Rows[T]:
        """Set aside each row for which `reason` returns one, under the same limit and into the same file.

        So a stage that knows the tokenizer sets aside rows longer than the context.

        Raises:
            BadInput: If none remain, or more than `max_bad_rows` of all rows are bad.
        """
        reasons = [reason(row) for row in self.rows]
        bad = [
            BadRow(line, why, row.model_dump_json(exclude_defaults=True)[:EXCERPT])
            for row, line, why in zip(self.rows, self.lines, reasons, strict=True)
            if why is not None
        ]
        if not bad:
            return self
        kept = [place for place, why in enumerate(reasons) if why is None]
        left = replace(
            self,
            rows=[self.rows[place] for place in kept],
            lines=[self.lines[place] for place in kept],
            bad=sorted([*self.bad, *bad], key=lambda row: row.line),
        )
        left.settle()
        return left

    def reject(self, index: int, reason: str) -> Rows[T]:
        """Set aside the row at `index`; see `filter`."""
        unwanted = self.rows[index]
        return self.filter(lambda row: reason if row is unwanted else None)

    def summary(self) -> str:
        """Return one line: how many rows of which format, how many set aside."""
        aside = f", {len(self.bad)} set aside" if self.bad else ""
        return f"{self.path}: {len(self.rows)} rows ({self.format}){aside}"

    def settle(self) -> None:
        """Write the bad rows to the quarantine file, if one was named and there are any, and apply the limit.

        Raises:
            BadInput: If no rows remain, or more than `max_bad_rows` of all rows are bad.
        """
        if self.quarantine is not None and self.bad:
            if self.quarantine.resolve() == self.path.resolve():
                raise BadInput(f"quarantine={self.quarantine} is the data file itself: name another file")
            with whole_file(self.quarantine) as file:
                for row in self.bad:
                    text = json.dumps({"line": row.line, "reason": row.reason, "excerpt": row.excerpt})
                    file.write(text.encode() + b"\n")
        share = len(self.bad) / max(1, self.total)
        if self.rows and share <= self.max_bad_rows:
            return
        first = "; ".join(f"line {row.line}: {row.reason}" for row in self.bad[:3])
        more = f"; and {len(self.bad) - 3} more" if len(self.bad) > 3 else ""
        kind = f"{self.kind.__name__.lower()}s".replace("answerss", "answers")
        if not self.total:
            raise BadInput(f"{self.path} holds no rows: it needs at least one")
        if not self.rows:
            raise BadInput(f"{self.path}: none of {self.total} rows can be read as {kind} ({first}{more}); "
                           f"'heed check {self.path}' tells what the file holds")  # fmt: skip
        raise BadInput(
            f"{self.path}: {len(self.bad)} of {self.total} rows are bad ({first}{more}): mend them, "
            f"or let them be left out with max_bad_rows={_round_up(share)} (now {self.max_bad_rows:g})"
        )


def _round_up(share: float) -> float:
    return min(1.0, int(share * 1000 + 1) / 1000)


def read(
    path: str | Path,
    kind: type[T],
    *,
    max_bad_rows: float = 0.01,
    quarantine: str | Path | None = None,
    limit: int | None = None,
) -> Rows[T]:
    """Read a file's rows as `kind`, whatever its layout (.jsonl, .json, .csv, .txt, …, also .gz) and format.

    A row that is torn, that is not valid, that teaches nothing (see `faults.fault`) or whose given id an
    earlier row has is set aside and the rest goes on. Rows without ids get one made from their content; of
    rows with equal content the later ones get `-2`, `-3`… behind it.

    Args:
        path: The file; it is never written to.
        kind: What to read the rows as. Richer rows serve for poorer kinds: comparisons as prompts,
            demonstrations (the best answer) and documents.
        max_bad_rows: The largest share of bad rows to go on with, from 0 to 1.
        quarantine: Where to write the bad rows as {line, reason, excerpt}, if there are any.
        limit: Stop after this many sound rows.

    Raises:
        BadInput: If the file is missing, unreadable or empty, if no row is sound, or if more than
            `max_bad_rows` of the rows are bad.
    """
    path = Path(path)
    reader = _Reader(kind, limit)
    with _without_collection():
        for line, raw in raw_rows(path, lines_are_rows=kind is Prompt):
            reader.take(line, raw)
            if limit is not None and len(reader.rows) >= limit:
                break
    rows = Rows(
        path=path,
        kind=kind,
        rows=reader.rows,
        lines=reader.lines,
        bad=reader.bad,
        format=_most_common(reader.formats, path) if reader.formats else "unknown",
        max_bad_rows=max_bad_rows,
        quarantine=None if quarantine is None else Path(quarantine),
        formats=dict(reader.formats),
    )
    rows.settle()
    return rows


@contextmanager
def _without_collection() -> Iterator[None]:
    """Pause the search for cycles: rows have none, and it took four fifths of the time of reading many."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class _Reader(Generic[T]):
    """Turns raw rows into rows of one kind, and keeps what cannot be turned."""

    def __init__(self, kind: type[T], limit: int | None) -> None:
        self.kind = kind
        self.limit = limit
        self.rows: list[T] = []
        self.lines: list[int] = []
        self.bad: list[BadRow] = []
        self.formats: Counter[str] = Counter()
        self._line_of: dict[str, int] = {}  # given ids
        self._seen: dict[str, int] = {}  # how often an id was given or made
        self._last: Format | None = None

    def take(self, line: int, raw: Raw) -> None:
        try:
            rows = self._rows(raw)
        except ValidationError as error:
            self._reject(line, explain(error), raw)
            return
        except RowFault as error:
            self._reject(line, str(error), raw)
            return
        for row in rows:
            self._keep(line, row, raw)

    def _rows(self, raw: Raw) -> list[T]:
        if isinstance(raw, RowFault):
            raise raw
        if isinstance(raw, bytes):
            if self._last is NATIVE:  # most rows are like the one before, and pydantic is faster than json
                try:
                    row = self.kind.model_validate_json(raw)
                except ValidationError:
                    pass
                else:
                    self.formats[NATIVE.name] += 1
                    return [row]
            raw = parse_json(raw)
        form = format_of(raw)
        if form is None:
            raise RowFault(f"no known format has the fields {', '.join(list(raw)[:6]) or '(none)'}")
        self._last = form
        self.formats[form.name] += 1
        if form is NATIVE and native_kind(raw) is self.kind:
            rows = [self.kind.model_validate(raw)]
        else:
            self._last = None
            rows = build_all(form, raw, self.kind)
        for row in rows:
            _check_unicode(row)
        return rows

    def _keep(self, line: int, row: T, raw: Raw) -> None:
        reason = fault(row)
        if "id" in row.model_fields_set:
            first = self._line_of.setdefault(row.id, line)
            if row.id in self._seen and reason is None:
                reason = f"duplicate id {row.id!r} (first on line {first})"
        if reason is not None:
            self._reject(line, reason, raw)
        elif self.limit is None or len(self.rows) < self.limit:
            self.rows.append(with_own_id(row, self._seen))
            self.lines.append(line)

    def _reject(self, line: int, reason: str, raw: Raw) -> None:
        self.bad.append(BadRow(line, reason, _excerpt(raw)))


def build_all(form: Format, row: Mapping[str, Any], kind: type[T]) -> list[T]:
    """Make the rows of `kind` that one raw row holds; of a tree's branches those that cannot are left out.

    Raises:
        RowFault: If it holds none.
    """
    rows: list[T] = []
    parsed = form.parse(row)
    for one in parsed:
        try:
            rows.append(build(one, kind))
        except RowFault:
            if len(parsed) == 1:
                raise
    if not rows:
        raise RowFault(f"nothing in it can be read as {kind.__name__.lower()}")
    return rows


def parse_json(line: bytes) -> dict[str, Any]:
    """Return the JSON object that a line holds, or raise RowFault with the reason why it holds none."""
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise RowFault(f"invalid UTF-8 at byte {error.start + 1}") from error
    except json.JSONDecodeError as error:
        what = error.msg.lower().removesuffix(" at")
        raise RowFault(f"not JSON: {what} at character {error.pos + 1}") from error
    except (ValueError, RecursionError) as error:
        raise RowFault(f"not JSON: {str(error).lower()}") from error
    if not isinstance(row, dict):
        raise RowFault(f"{json_name(row)}, expected an object")
    return row


def _check_unicode(row: Row) -> None:
    """Raise RowFault for text that no encoding can write: half of a surrogate pair, or bytes that are no UTF-8."""
    try:
        row.model_dump_json()
    except PydanticSerializationError as error:
        raise RowFault("invalid unicode (half a surrogate pair, or bytes that are no UTF-8)") from error


def _excerpt(raw: Raw) -> str:
    if isinstance(raw, RowFault):
        return ""
    if isinstance(raw, dict):
        return json.dumps(raw, ensure_ascii=True, default=str)[:EXCERPT]
    return raw[: 4 * EXCERPT].decode("utf-8", "replace")[:EXCERPT]


def detect(path: str | Path) -> str:
    """Return the name of the format that most of the first 50 rows of a file have.

    Raises:
        BadInput: If the file cannot be read, or if no known format is found.
    """
    found: Counter[str] = Counter()
    fields: list[str] = []
    for raw in first_rows(Path(path), 50):
        form = format_of(raw)
        fields = fields or list(raw)
        if form is not None:
            found[form.name] += 1
    if not found:
        held = f"its rows have the fields {', '.join(fields[:8])}" if fields else "no row can be read"
        raise BadInput(f"{path}: {held}, which is no format Heed knows; it knows {KNOWN}")
    return _most_common(found, path)


def _most_common(formats: Counter[str], path: str | Path) -> str:
    return "plain text" if container(Path(path)) == "txt" else formats.most_common(1)[0][0]


def detect_kind(path: str | Path) -> type[Row]:
    """Return the kind that loses the least of most of a file's first 50 rows.

    Raises:
        BadInput: If the file cannot be read, or if no known format is found.
    """
    found: Counter[type[Row]] = Counter()
    for raw in first_rows(Path(path), 50):
        form = format_of(raw)
        if form is None:
            continue
        try:
            found[native_kind(raw) or natural_kind(form.parse(raw)[0])] += 1
        except (RowFault, ValidationError, IndexError):
            continue
    if not found:
        detect(path)
        raise BadInput(f"{path}: none of its first rows is sound; Heed knows {KNOWN}")
    return found.most_common(1)[0][0]


def first_rows(path: Path, count: int) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects among the first `count` raw rows."""
    for _, raw in islice(raw_rows(path), count):
        if isinstance(raw, dict):
            yield raw
        elif isinstance(raw, bytes):
            try:
                yield parse_json(raw)
            except RowFault:
                continue
