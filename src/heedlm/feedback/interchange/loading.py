"""Read judgements from any file Heed knows and from exports of annotation tools: what is sound, and what is not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import ValidationError

from heedlm.feedback.interchange import argilla, label_studio
from heedlm.feedback.interchange.replies import Columns, judgements
from heedlm.records.faults import BadRow, RowFault, explain, fault
from heedlm.records.files import Raw, raw_rows
from heedlm.records.formats import format_of
from heedlm.records.parsed import Parsed, build, natural_kind
from heedlm.records.reading import EXCERPT, Rows, parse_json
from heedlm.records.types import Criterion, Row, Strength
from heedlm.records.writing import with_own_id

T = TypeVar("T", bound=Row)

TOOLS = {"argilla": argilla, "label-studio": label_studio}


@dataclass(frozen=True)
class Imported:
    """What a file held: rows of any kinds, those set aside, and how many replies were left out as no judgements."""

    rows: Rows[Row]
    left_out: dict[str, int] = field(default_factory=dict)

    def of(self, kind: type[T]) -> list[T]:
        """The sound rows of one kind."""
        return [row for row in self.rows if isinstance(row, kind)]


def load(
    path: str | Path,
    *,
    columns: Columns | None = None,
    predictions: bool = False,
    max_bad_rows: float = 0.01,
    quarantine: str | Path | None = None,
) -> Imported:
    """Read a file's rows, each as the kind that loses the least of it.

    Exports of Argilla and Label Studio hold several replies a record: each is a row of its own, under its annotator,
    or is set aside on its own with the line, the field and the reason. Other formats are those of `records.read`;
    columns such as `annotator` and `criterion` beside them are kept.

    Args:
        path: The file (.json, .jsonl, .csv, .parquet, …, also .gz); it is never written to.
        columns: What the names of fields and questions do not say.
        predictions: Whether to read what models suggested as well, under the models' names.
        max_bad_rows: The largest share of bad rows to go on with.
        quarantine: Where to write the bad rows as {line, reason, excerpt}, if there are any.

    Raises:
        BadInput: The file is missing, unreadable or empty, no row is sound, or too many are bad.
    """
    path, loader = Path(path), _Loader(columns or Columns(), predictions)
    for line, raw in raw_rows(path):
        loader.take(line, raw)
    name = loader.formats.most_common(1)[0][0] if loader.formats else "unknown"
    rows = Rows[Row](
        path, Row, loader.rows, loader.lines, loader.bad, name, max_bad_rows,
        None if quarantine is None else Path(quarantine), dict(loader.formats),
    )  # fmt: skip
    rows.settle()
    return Imported(rows, dict(loader.left_out))


class _Loader:
    """Turns raw rows into rows of their natural kinds, and keeps what cannot be turned."""

    def __init__(self, columns: Columns, predictions: bool) -> None:
        self.columns, self.predictions = columns, predictions
        self.rows: list[Row] = []
        self.lines: list[int] = []
        self.bad: list[BadRow] = []
        self.formats: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()
        self._seen: dict[str, int] = {}
        self._line_of: dict[str, int] = {}

    def take(self, line: int, raw: Raw) -> None:
        """Read one raw row."""
        try:
            if isinstance(raw, RowFault):
                raise raw
            fields = parse_json(raw) if isinstance(raw, bytes) else raw
            found = list(self._parsed(fields))
        except (RowFault, ValidationError) as error:
            self._reject(line, error, raw)
            return
        for where, parsed in found:
            try:
                if isinstance(parsed, RowFault):
                    raise parsed
                self._keep(line, build(parsed, natural_kind(parsed)))
            except (RowFault, ValidationError) as error:
                self._reject(line, error, raw, where)

    def _parsed(self, fields: Mapping[str, Any]) -> Iterator[tuple[str, Parsed | RowFault]]:
        for name, tool in TOOLS.items():
            if tool.recognise(fields):
                self.formats[name] += 1
                yield from self._replies(tool, fields)
                return
        form = format_of(fields)
        if form is None:
            raise RowFault(f"no known format has the fields {', '.join(list(fields)[:6]) or '(none)'}")
        self.formats[form.name] += 1
        for parsed in form.parse(fields):
            parsed.more = _beside(fields) | parsed.more
            yield "", parsed

    def _replies(self, tool: Any, fields: Mapping[str, Any]) -> Iterator[tuple[str, Parsed | RowFault]]:
        seen, replies = tool.read(fields, self.columns)
        said = []
        for reply in replies:
            if reply.left_out is None or (self.predictions and reply.left_out in ("suggestions", "predictions")):
                said.append(reply)
            else:
                self.left_out[reply.left_out] += 1
        if not replies:
            self.left_out["records without a reply"] += 1
        for reply, parsed in judgements(said, seen, self.columns):
            if parsed is not None:
                yield f"{reply.where} by {reply.annotator}: ", parsed

    def _keep(self, line: int, row: Row) -> None:
        reason = fault(row)
        if reason is not None:
            raise RowFault(reason)
        try:
            row.model_dump_json()
        except ValueError as error:
            raise RowFault("invalid unicode (half a surrogate pair, or bytes that are no UTF-8)") from error
        if "id" in row.model_fields_set:
            first = self._line_of.setdefault(row.id, line)
            if row.id in self._seen:
                raise RowFault(f"duplicate id {row.id!r} (first on line {first})")
        self.rows.append(with_own_id(row, self._seen))
        self.lines.append(line)

    def _reject(self, line: int, error: RowFault | ValidationError, raw: Raw, where: str = "") -> None:
        reason = explain(error) if isinstance(error, ValidationError) else str(error)
        if isinstance(raw, RowFault):
            text = ""
        else:
            text = raw[: 4 * EXCERPT].decode("utf-8", "replace") if isinstance(raw, bytes) else str(raw)
        self.bad.append(BadRow(line, f"{where}{reason}", text[:EXCERPT]))


def _beside(fields: Mapping[str, Any]) -> dict[str, Any]:
    """What columns beside those of a format say of a judgement; a column of that name that holds else is no such."""
    found: dict[str, Any] = {}
    for name in ("annotator", "group", "guideline_version"):
        value = fields.get(name)
        if isinstance(value, str | int) and not isinstance(value, bool) and str(value):
            found[name] = str(value)
    for name, known in (
        ("criterion", get_args(Criterion)),
        ("strength", get_args(Strength)),
        ("consent", (True, False)),
    ):
        if isinstance(fields.get(name), str | bool) and fields[name] in known:
            found[name] = fields[name]
    return found
