"""What the examples share: where the data is, one stage after another, and the file of results."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from heedlm import __version__
from heedlm.config import load
from heedlm.runs import Run

ROOT = Path(__file__).parents[1]


def shared() -> Path:
    """The folder with `data/` and `models/`: HEED_SHARED, or `shared` beside the repository."""
    folder = Path(os.environ.get("HEED_SHARED") or ROOT.parent / "shared")
    if not folder.is_dir():
        sys.exit(f"no data at {folder}: set HEED_SHARED to the folder that holds data/ and models/")
    return folder


def do(stage: ModuleType, name: str, out: Path, **settings: Any) -> Run:
    """Run a stage with its directory under `out`, or take up what lies there: the finished run, or its checkpoint.

    Args:
        stage: Module of the stage, such as `heedlm.stages.sft`.
        name: The stage's command, such as `sft`.
        out: A folder for this one run alone.
        settings: As on the command line; nested ones as dictionaries.
    """
    earlier = [Run.open(path.parent) for path in sorted((out / name).glob("*/run.json"))]
    for run in earlier:
        if run.info.status == "complete":
            return run
    words = as_words({"threads": 1, **settings, "out": str(out)})
    print(f"heed {name} {' '.join(words)}", file=sys.stderr, flush=True)
    config = load(stage.Config, words, stage=name)
    done: Run = stage.run(config, resume=earlier[0].path if earlier else None)
    return done


def as_words(settings: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Nested settings as the `key=value` words of a command line."""
    words: list[str] = []
    for key, value in settings.items():
        if isinstance(value, Mapping):
            words += as_words(value, f"{prefix}{key}.")
        else:
            words.append(f"{prefix}{key}={value if isinstance(value, str | Path) else json.dumps(value)}")
    return words


def write_result(path: Path, command: str, figures: Mapping[str, Any]) -> None:
    """Write figures as JSON, with the command that makes them again and the versions they were made with."""
    packages = ("torch", "transformers", "tokenizers", "numpy", "scikit-learn")
    facts = {
        "command": command,
        "versions": {"heedlm": __version__, "python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in packages},
        **figures,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rounded(facts), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def rounded(value: Any) -> Any:
    """The same with floats cut to five significant digits, so that a result file reads well."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, Mapping):
        return {key: rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list | tuple) else value
