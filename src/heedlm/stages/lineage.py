"""Lineage: what a run was made from, or every run and model that saw a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from heedlm import runs
from heedlm.config import Config as Settings
from heedlm.errors import BadInput
from heedlm.runs import Node, Sighting


class Config(Settings):
    """Settings of lineage: either a run to walk back from, or a data set to look for."""

    positional: ClassVar[str | None] = "run"

    run: Path | None = Field(None, description="run to walk back from, or a file or model within one")
    of: str | None = Field(None, description="data set to look for: a file, a run, or a fingerprint sha256:…")
    roots: tuple[Path, ...] = Field((Path("runs"),), description="folders that are searched for runs")


def run(config: Config) -> dict[str, Any]:
    """Walk back from a run to its corpora, or list what has seen a data set.

    Raises:
        BadInput: If neither or both are given, or there is nothing of that name.
    """
    if (config.run is None) == (config.of is None):
        raise BadInput("give a run to walk back from, or --of FILE to list what has seen a data set")
    if config.run is not None:
        node = runs.lineage(config.run, check=True)
        return {"lineage": asdict(node), "problems": _problems(node), "text": runs.as_text(node)}
    missing = [str(root) for root in config.roots if not root.is_dir()]
    if missing:
        raise BadInput(f"roots: no folder {', '.join(missing)}; give roots=FOLDER where runs lie")
    seen = runs.models_that_saw(str(config.of), config.roots)
    return {"seen_by": [asdict(item) for item in seen], "text": _listed(str(config.of), seen)}


def _problems(node: Node) -> list[str]:
    own = [f"{node.path}: {node.state}"] if node.state in {"changed", "gone"} else []
    return own + [line for source in node.sources for line in _problems(source)]


def _listed(dataset: str, seen: Sequence[Sighting]) -> str:
    if not seen:
        return f"nothing has seen {dataset}"
    models = sum(item.makes_model for item in seen)
    lines = [f"{dataset} was seen by {len(seen)} runs, {models} of which made a model:"]
    for item in seen:
        how = f"through {item.through}" if item.through else f"as {item.role}"
        status = "" if item.status == "complete" else f", {item.status}"
        lines.append(f"  {'model' if item.makes_model else 'run  '}  {item.path}  ({how}{status})")
    return "\n".join(lines)
