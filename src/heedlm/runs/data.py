"""What a stage does with the rows it could not use."""

from __future__ import annotations

import itertools
import json
import re
import sys
from collections.abc import Collection
from pathlib import Path
from typing import TypeVar

from heedlm.records.reading import Rows
from heedlm.records.types import Row
from heedlm.runs.files import write_whole
from heedlm.runs.run import Run

R = TypeVar("R", bound=Row)


def quarantine(run: Run, role: str, rows: Rows[R]) -> None:
    """Keep rows put aside with line and reason in the run; count them in `run.json` and on stderr."""
    if not rows.bad:
        return
    lines = [
        json.dumps({"line": r.line, "reason": r.reason, "excerpt": r.excerpt}, ensure_ascii=False) for r in rows.bad
    ]
    path = run.path / f"quarantine-{role}.jsonl"
    write_whole(path, "\n".join(lines) + "\n")
    run.note(**{f"quarantined/{role}": len(rows.bad)})
    first = rows.bad[0]
    sys.stderr.write(
        f"{role}: {len(rows.bad)} of {rows.total} rows put aside in {path} (line {first.line}: {first.reason})\n"
    )


def unused_name(out: Path, stage: str, base: str, besides: Collection[str] = ()) -> str:
    """`base`, or `base-2`, `base-3`, … if runs of that name exist: for what people start again and again.

    Args:
        out: Folder of the runs.
        stage: Of which stage.
        base: The name.
        besides: Names that are given away already to runs that do not exist yet.
    """
    taken = {*besides} | {re.sub(r"-[0-9a-f]{6}$", "", folder.name) for folder in (out / stage).glob(f"{base}*")}
    names = (base if number == 1 else f"{base}-{number}" for number in itertools.count(1))
    return next(name for name in names if name not in taken)
