"""Checkpoints that a crash cannot break: written aside, flushed, then renamed into place.

The manifest lists every file with size and SHA-256. Reading takes the newest checkpoint that holds what
its manifest says and falls back over damaged ones.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from heedlm.errors import HeedError
from heedlm.runs.files import flush_folder, flush_to_disk
from heedlm.runs.fingerprints import file_hash
from heedlm.runs.run import Run

_MANIFEST = "manifest.json"
_WITHIN = "+"


def save(
    run: Run,
    step: int,
    write: Callable[[Path], None],
    *,
    within: bool = False,
    keep_last: int = 2,
    protect: Collection[int] = (),
    budget_bytes: int | None = None,
) -> Path:
    """Save one checkpoint; the earlier ones stay usable whatever happens meanwhile.

    Args:
        run: The run; its metrics so far are put on the disk first.
        step: Number of finished steps; names the folder.
        within: Whether the step after it is under way; such a checkpoint is there for resuming only, and the one at
            the step's beginning stays beside it.
        write: Writes all state into the folder it is given.
        keep_last: How many of the newest to keep.
        protect: Steps of others that stay too.
        budget_bytes: Remove older ones, though never the newest or a protected one, until the rest fits.

    Raises:
        HeedError: If the disk is full or fails.
    """
    folder = run.path / "checkpoints"
    name = f"{step:06d}{_WITHIN if within else ''}"
    temporary, final = folder / f".tmp-{name}", folder / name
    try:
        folder.mkdir(exist_ok=True)
        _tidy(folder)
        run.flush()
        temporary.mkdir()
        write(temporary)
        _seal(temporary, step)
        _move_into_place(temporary, final)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        earlier = newest(run)
        intact = f"{earlier.name} is intact: free space, then heed resume {run.path}" if earlier else "none is left"
        what = error.strerror or error
        raise HeedError(f"{final}: checkpoint could not be written ({what}); of the earlier ones {intact}") from error
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _retire(folder, final, max(keep_last, 1), protect, budget_bytes)
    return final


def newest(run: Run | Path) -> Path | None:
    """The newest complete checkpoint, or None; damaged ones are named on stderr and passed over."""
    folder = (run.path if isinstance(run, Run) else Path(run)) / "checkpoints"
    _restore_replaced(folder)
    for path in reversed(_numbered(folder)):
        fault = damage(path)
        if fault is None:
            return path
        sys.stderr.write(f"{path}: passed over, {fault}\n")
    return None


def at(run: Run | Path, step: int) -> Path:
    """The complete checkpoint of a step.

    Raises:
        HeedError: It is missing or damaged.
    """
    path = (run.path if isinstance(run, Run) else Path(run)) / "checkpoints" / f"{step:06d}"
    fault = damage(path)
    if fault is not None:
        raise HeedError(f"{path}: cannot be gone back to, {fault}")
    return path


def steps(run: Run | Path) -> list[int]:
    """Steps after which there is a checkpoint that looks whole, in order; hashes are checked only when it is read."""
    folder = (run.path if isinstance(run, Run) else Path(run)) / "checkpoints"
    return [step_of(path) for path in _numbered(folder) if not _is_within(path) and _looks_whole(path)]


def step_of(checkpoint: Path) -> int:
    """Number of steps finished when the checkpoint was saved."""
    return int(checkpoint.name.removesuffix(_WITHIN))


def damage(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint, or None if every file is as its manifest says."""
    listed = _manifest(checkpoint)
    if listed is None:
        return "its manifest is missing or torn"
    for name, facts in listed.items():
        path = checkpoint / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != facts["bytes"]:
            return f"{name} has {path.stat().st_size} bytes instead of {facts['bytes']}"
        if file_hash(path) != facts["sha256"]:
            return f"{name} does not match its hash"
    return None


def _manifest(checkpoint: Path) -> dict[str, dict[str, Any]] | None:
    try:
        files = json.loads((checkpoint / _MANIFEST).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return files if isinstance(files, dict) else None


def _seal(folder: Path, step: int) -> None:
    """Put every file on the disk and list it in the manifest, written last."""
    files: dict[str, dict[str, Any]] = {}
    for path in _files(folder):
        with path.open("rb") as file:
            flush_to_disk(file)
        files[path.relative_to(folder).as_posix()] = {"bytes": path.stat().st_size, "sha256": file_hash(path)}
    with (folder / _MANIFEST).open("w", encoding="utf-8") as file:
        json.dump({"format": 1, "step": step, "files": files}, file, indent=1)
        flush_to_disk(file)
    for parent, _, _ in os.walk(folder):
        flush_folder(Path(parent))


def _move_into_place(temporary: Path, final: Path) -> None:
    """Rename into place; one of the same step is kept aside until the new one stands."""
    aside = final.with_name(f".old-{final.name}")
    if final.exists():
        final.rename(aside)
    temporary.rename(final)
    flush_folder(final.parent)
    shutil.rmtree(aside, ignore_errors=True)


def _tidy(folder: Path) -> None:
    """Remove what an earlier crash left half-written."""
    _restore_replaced(folder)
    for path in folder.glob(".tmp-*"):
        shutil.rmtree(path)


def _restore_replaced(folder: Path) -> None:
    for aside in folder.glob(".old-*"):
        final = folder / aside.name.removeprefix(".old-")
        if final.exists():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            aside.rename(final)


def _retire(folder: Path, just_saved: Path, keep_last: int, protect: Collection[int], budget_bytes: int | None) -> None:
    """Remove checkpoints beyond the newest few and beyond the budget; damaged ones do not count."""
    earlier = [path for path in _numbered(folder) if path != just_saved]
    # Steps after this one can only be left over from before a fall-back to an older checkpoint.
    older = [path for path in earlier if _looks_whole(path) and _order(path) < _order(just_saved)]
    older = [path for path in older if not _is_within(path)]  # left behind by training that went on
    kept = [path for path in older if step_of(path) in protect]
    older = [path for path in older if path not in kept]
    stay = older[len(older) - (keep_last - 1) :] if keep_last > 1 else []
    for path in earlier:
        if path not in stay and path not in kept:
            shutil.rmtree(path, ignore_errors=True)
    if budget_bytes is None:
        return
    while (size := sum(_bytes(path) for path in _numbered(folder))) > budget_bytes and stay:
        shutil.rmtree(stay.pop(0), ignore_errors=True)
    if size > budget_bytes:
        sys.stderr.write(f"{folder}: holds {size} bytes, over its budget of {budget_bytes}; none can be spared\n")


def _looks_whole(checkpoint: Path) -> bool:
    listed = _manifest(checkpoint)
    return listed is not None and all(
        (checkpoint / name).is_file() and (checkpoint / name).stat().st_size == facts["bytes"]
        for name, facts in listed.items()
    )


def _numbered(folder: Path) -> list[Path]:
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted((p for p in found if p.name.removesuffix(_WITHIN).isdigit() and p.is_dir()), key=_order)


def _is_within(checkpoint: Path) -> bool:
    return checkpoint.name.endswith(_WITHIN)


def _order(checkpoint: Path) -> tuple[int, bool]:
    return step_of(checkpoint), _is_within(checkpoint)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in _files(folder))
