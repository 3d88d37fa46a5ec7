"""Write judgements as the columns that trainers read: Heed's own, TRL's pairs, KTO's thumbs, conversations for SFT."""

from __future__ import annotations

import importlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from heedlm.errors import BadInput
from heedlm.records.convert import as_format
from heedlm.records.faults import RowFault
from heedlm.records.parsed import JUDGED
from heedlm.records.types import Comparison, Demonstration, Row, Thumb
from heedlm.records.writing import whole_file, with_own_id

Form = Literal["heed", "pairs", "kto", "sft"]
FORMS: tuple[Form, ...] = get_args(Form)
ROWS: dict[Form, type[Row]] = {"heed": Row, "pairs": Comparison, "kto": Thumb, "sft": Demonstration}
NAMES = {"pairs": "pairs", "kto": "completions", "sft": "messages"}  # as `records.as_format` calls them
BESIDE = (*(name for name in JUDGED if name != "schema_version"), "criterion", "strength")


@dataclass(frozen=True)
class Exported:
    """A file that was written: its rows, and what it could not hold, by reason."""

    path: Path
    rows: int
    left_out: dict[str, int] = field(default_factory=dict)


def save(path: str | Path, rows: Iterable[Row], form: Form = "heed") -> Exported:
    """Write rows to `path` (.jsonl, .jsonl.gz, or .parquet where pyarrow is installed), whole or not at all.

    - heed: every row as it is;
    - pairs: each ordered pair of a ranking as prompt, chosen, rejected (TRL, explicit prompt, lists of messages);
      the pairs of a row ID with more answers are ID-1, ID-2, …; ties are left out;
    - kto: thumbs as prompt, completion, label;
    - sft: demonstrations as messages.

    What else is said of a judgement (annotator, group, criterion, strength, consent) stands in columns of its own,
    which trainers pass over and `load` reads back. Rows whose consent was refused are left out.

    Raises:
        BadInput: The name has another ending, pyarrow is missing, nothing can be written, or the disk refuses.
    """
    path = Path(path)
    if not path.name.endswith((".jsonl", ".jsonl.gz", ".parquet")):
        raise BadInput(f"{path}: let its name end in .jsonl, .jsonl.gz or .parquet")
    if form not in FORMS:
        raise BadInput(f"form={form}: choose from {', '.join(FORMS)}")
    left_out: Counter[str] = Counter()
    written = list(_lines(rows, form, left_out, full=path.suffix == ".parquet"))
    if not written:
        why = "; ".join(f"{count} {reason}" for reason, count in left_out.items()) or "there are no rows"
        raise BadInput(f"{path}: nothing to write as {form} ({why})")
    if path.suffix == ".parquet":
        _parquet(path, written)
    else:
        with whole_file(path) as file:
            for line in written:
                file.write(json.dumps(line, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n")
    return Exported(path, len(written), dict(left_out))


def _lines(rows: Iterable[Row], form: Form, left_out: Counter[str], full: bool) -> Iterator[dict[str, Any]]:
    seen: dict[str, int] = {}
    for row in rows:
        row = with_own_id(row, seen)
        if full:  # in a table, the village's ground truth has another shape in every row
            row = row.model_copy(update={"meta": row.meta.model_copy(update={"task": None})})
        if getattr(row, "consent", None) is False or row.meta.consent is False:
            left_out["rows without consent"] += 1
        elif not isinstance(row, ROWS[form]):
            left_out[f"{type(row).__name__.lower()} rows"] += 1
        elif form == "heed":
            # A table has every column in every row: a default left out would come back as no value.
            yield row.model_dump(mode="json", exclude_defaults=not full)
        else:
            for one, own in _pairs(row, left_out) if isinstance(row, Comparison) else [(row, row.id)]:
                try:
                    yield _foreign(one, own, NAMES[form])
                except RowFault as error:
                    left_out[f"rows: {error}"] += 1


def _pairs(row: Comparison, left_out: Counter[str]) -> Iterator[tuple[Comparison, str]]:
    """Each ordered pair of a ranking as a comparison of its own, with its id."""
    if row.ties():
        left_out["tied pairs"] += len(row.ties())
    found = row.pairs()
    for number, (better, worse) in enumerate(found, start=1):
        two = {"answers": (row.answers[better], row.answers[worse]), "ranks": (1, 2), "order_shown": None}
        yield row.model_copy(update=two), row.id if len(found) == 1 else f"{row.id}-{number}"


def _foreign(row: Row, own: str, name: str) -> dict[str, Any]:
    said = row.model_dump(mode="json", exclude_defaults=True)
    return {**as_format(row, name), "id": own, **{key: said[key] for key in BESIDE if key in said}}


def _parquet(path: Path, lines: list[dict[str, Any]]) -> None:
    try:
        arrow, parquet = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise BadInput(f"{path} needs pyarrow: pip install pyarrow, or save it as .jsonl") from error
    # A table takes its columns from the first row, so that the first one gets them all.
    columns = dict.fromkeys(name for line in lines for name in line)
    table = arrow.Table.from_pylist([dict.fromkeys(columns) | line for line in lines[:1]] + lines[1:])
    with whole_file(path) as file:
        parquet.write_table(table, file)
