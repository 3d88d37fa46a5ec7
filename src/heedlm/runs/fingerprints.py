"""What content a path holds, as a hash, and the files a stage's inputs stand for."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heedlm.errors import BadInput

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Input:
    """Something a stage reads: what it is for, and the file, folder, run or hub name that holds it."""

    role: str
    path: str | Path


def file_hash(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(path: str | Path, role: str | None = None) -> str:
    """A hash of the content behind a path.

    A file counts by its bytes, a folder by the names and bytes of its files (hidden ones aside), a run by
    its output of this role, else by all its outputs, and a name on the hub by the name.

    Raises:
        BadInput: If there is nothing at the path.
    """
    path = Path(path)
    if path.is_file():
        return "sha256:" + file_hash(path)
    if (path / "run.json").is_file():
        outputs = {item["role"]: item["fingerprint"] for item in run_json(path).get("outputs", [])}
        return str(outputs[role]) if role in outputs else outputs_fingerprint(outputs.values())
    if path.is_dir():
        lines = [f"{file.relative_to(path).as_posix()}\t{file_hash(file)}" for file in folder_files(path)]
        return "sha256:" + hashlib.sha256("\n".join(lines).encode()).hexdigest()
    if is_hub_name(path):
        return f"hub:{path.as_posix()}"
    raise BadInput(f"{path}: no such file or folder")


def outputs_fingerprint(outputs: Iterable[str]) -> str:
    """The fingerprint of a run as a whole."""
    return "sha256:" + hashlib.sha256("\n".join(sorted(outputs)).encode()).hexdigest()


def folder_files(folder: Path) -> list[Path]:
    """All files below a folder in a fixed order, without hidden ones."""
    found: list[Path] = []
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found.extend(Path(parent) / name for name in files if not name.startswith("."))
    return sorted(found, key=lambda file: file.relative_to(folder).as_posix())


def is_hub_name(path: Path) -> bool:
    """Whether this can only be a name on the hub ("org/name"): nothing of that name lies here."""
    return HUB_NAME.fullmatch(path.as_posix()) is not None and not path.exists() and not path.suffix


def run_json(run: Path) -> dict[str, Any]:
    """What a run wrote about itself.

    Raises:
        BadInput: If the folder holds no readable `run.json`.
    """
    try:
        info = json.loads((run / "run.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(f"{run}: is not a run (it has no run.json)") from None
    except (OSError, ValueError) as error:
        raise BadInput(f"{run}/run.json: cannot be read ({error})") from None
    if not isinstance(info, dict):
        raise BadInput(f"{run}/run.json: is not the record of a run")
    return info


def run_of(path: str | Path) -> Path | None:
    """The run that a path is or lies in."""
    path = Path(path).absolute()
    return next((folder for folder in (path, *path.parents) if (folder / "run.json").is_file()), None)


def find_data(path: str | Path, role: str) -> Path:
    """The data file meant by a path: the file itself, or a run's output of this role.

    Raises:
        BadInput: If there is nothing, the run has no such output, or the output has changed since the run wrote it.
    """
    path = Path(path)
    if path.is_file():
        return path
    if not path.exists():
        raise BadInput(f"{path}: no such file; give a data file or a run with {role}")
    if not (path / "run.json").is_file():
        raise BadInput(f"{path}: is a folder but no run; give a data file or a run with {role}")
    return _output(path, role)


def has_data(path: str | Path, role: str) -> bool:
    """Whether the path is a run with an output of this role."""
    path = Path(path)
    if not (path / "run.json").is_file():
        return False
    return any(item["role"] == role for item in run_json(path).get("outputs", []))


def find_model(path: str | Path) -> Path:
    """The model meant by a path: a run's model, a folder in Hugging Face layout, or a name on the hub.

    Raises:
        BadInput: If there is no model, or it has changed since its run wrote it.
    """
    path = Path(path)
    if (path / "run.json").is_file():
        return _output(path, next((role for role in ("model", "reward_model") if has_data(path, role)), "model"))
    if (path / "config.json").is_file() or is_hub_name(path):
        return path
    if not path.exists():
        raise BadInput(f"{path}: no such model; give a run, a folder with config.json or a hub name org/name")
    raise BadInput(f"{path}: holds no model (config.json is missing); give a run or a Hugging Face folder")


def _output(run: Path, role: str) -> Path:
    info = run_json(run)
    outputs = {item["role"]: item for item in info.get("outputs", [])}
    if role not in outputs:
        has = f"it has: {', '.join(sorted(outputs))}" if outputs else "it has no outputs yet"
        raise BadInput(f"{run}: has no output {role!r} (status {info.get('status')}); {has}")
    path = run / str(outputs[role]["path"])
    if not path.exists():
        raise BadInput(f"{path}: is gone, though {run}/run.json lists it; run its stage again")
    if fingerprint(path) != outputs[role]["fingerprint"]:
        raise BadInput(f"{path}: has changed since its run wrote it; give the file itself to use it as it is")
    return path


def check_unchanged(run: Path, inputs: Sequence[Any]) -> None:
    """Refuse to go on when an input no longer holds what the run read from it.

    Raises:
        BadInput: Naming the first input that is gone or has changed.
    """
    for item in inputs:
        path = item.locate(run)
        if fingerprint(path, item.role) != item.fingerprint:
            raise BadInput(f"{path}: has changed since {run} read it ({item.role}); restore it or start anew")
