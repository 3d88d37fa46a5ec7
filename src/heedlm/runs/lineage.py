"""Where a model comes from, and what has seen a data set."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from heedlm.errors import BadInput
from heedlm.runs.fingerprints import fingerprint, run_of
from heedlm.runs.run import Run


@dataclass(frozen=True)
class Node:
    """One artifact of a lineage and what it was made from.

    `role` is what it was to the run that used it, empty at the root; `state` is filled where it was checked.
    """

    role: str
    path: str
    fingerprint: str
    stage: str | None = None
    status: str | None = None
    seed: int | None = None
    state: Literal["as read", "changed", "gone"] | None = None
    sources: tuple[Node, ...] = ()


@dataclass(frozen=True)
class Sighting:
    """A run that saw a data set: directly as the input `role`, or through another run."""

    path: str
    stage: str
    status: str
    role: str
    through: str | None = None
    makes_model: bool = False


def lineage(run: Run | Path | str, *, check: bool = False) -> Node:
    """The tree of everything a run was made from, back to the files no run has made.

    Args:
        run: A run, or a path within one.
        check: Hash every input and tell which have changed since or are gone.

    Raises:
        BadInput: If the path belongs to no run.
    """
    if isinstance(run, Run):
        return _node(run, "", check, {})
    found = run_of(run)
    if found is None:
        raise BadInput(f"{run}: belongs to no run (no run.json in it or above); give a run directory")
    return _node(Run.open(_short(found)), "", check, {})


def _node(run: Run, role: str, check: bool, seen: dict[Path, tuple[Node, ...]]) -> Node:
    key = run.path.resolve()
    if key not in seen:
        seen[key] = ()  # a run can come from itself only if someone moved files about; do not go in circles
        seen[key] = tuple(_sources(run, check, seen))
    prints = "\n".join(f"{item.role} {item.fingerprint}" for item in run.info.outputs)
    info = run.info
    return Node(role, str(run.path), prints, info.stage, info.status, info.seed, None, seen[key])


def _sources(run: Run, check: bool, seen: dict[Path, tuple[Node, ...]]) -> Iterator[Node]:
    for item in run.info.inputs:
        path = _short(item.locate(run.path))
        state: Literal["as read", "changed", "gone"] | None = None
        if check:
            state = _state(path, item.role, item.fingerprint)
        maker = run_of(path)
        if maker is None:
            yield Node(item.role, str(path), item.fingerprint, state=state)
            continue
        node = _node(Run.open(_short(maker)), item.role, check, seen)
        yield Node(item.role, str(path), item.fingerprint, node.stage, node.status, node.seed, state, node.sources)


def _state(path: Path, role: str, recorded: str) -> Literal["as read", "changed", "gone"]:
    try:
        return "as read" if fingerprint(path, role) == recorded else "changed"
    except BadInput:
        return "gone"


def _short(path: Path) -> Path:
    """The path relative to here where that is shorter."""
    relative = os.path.relpath(path)
    return Path(path) if relative.startswith("..") else Path(relative)


def as_text(node: Node) -> str:
    """The tree for people; a run that comes up again is not spelt out twice."""
    return "\n".join(_lines(node, "", "", set()))


def _lines(node: Node, first: str, rest: str, told: set[tuple[str, str]]) -> Iterator[str]:
    facts = [
        node.status if node.status != "complete" else None,
        node.state if node.state != "as read" else None,
    ]
    facts += [node.fingerprint.removeprefix("sha256:")[:12] if node.stage is None else None]
    key = (node.path, node.fingerprint)
    again = key in told and bool(node.sources)
    facts += ["see above"] if again else []
    told.add(key)
    remark = ", ".join(fact for fact in facts if fact)
    role = f"{node.role}: " if node.role else ""
    yield f"{first}{role}{node.path}" + (f"  ({remark})" if remark else "")
    for index, source in enumerate(() if again else node.sources):
        last = index == len(node.sources) - 1
        yield from _lines(source, rest + ("└─ " if last else "├─ "), rest + ("   " if last else "│  "), told)


def all_runs(roots: Sequence[Path]) -> list[Run]:
    """Every readable run below some folders, oldest first."""
    found: dict[Path, Run] = {}
    for root in roots:
        for file in sorted(root.rglob("run.json")):
            try:
                found[file.parent.resolve()] = Run.open(_short(file.parent))
            except BadInput:
                continue  # one damaged run must not hide the others
    return sorted(found.values(), key=lambda run: (run.info.started, str(run.path)))


def models_that_saw(dataset: Path | str, roots: Sequence[Path] = (Path("runs"),)) -> list[Sighting]:
    """Every run that read a data set, or anything made from it.

    The data set is recognised by its content wherever it lies, and by its path where the content has
    changed since.

    Args:
        dataset: A file, a folder, a run (all its outputs), or a fingerprint "sha256:…".
        roots: Folders to search for runs.

    Raises:
        BadInput: If there is nothing of that name and no run has read it either.
    """
    prints, places = _identity(dataset)
    runs = all_runs(roots)
    sightings: dict[Path, Sighting] = {}
    tainted: dict[str, str] = {}  # fingerprint of something made from the data set -> run that made it
    makers: dict[Path, str] = {}
    while True:
        before = len(sightings)
        for run in runs:
            if run.path.resolve() in sightings:
                continue
            found = _sighting(run, prints, places, tainted, makers)
            if found is not None:
                sightings[run.path.resolve()] = found
                makers[run.path.resolve()] = str(run.path)
                tainted |= {item.fingerprint: str(run.path) for item in run.info.outputs}
        if len(sightings) == before:
            break
    if not sightings and not prints:
        raise BadInput(f"{dataset}: no such file, and no run has read it")
    order = {run.path.resolve(): index for index, run in enumerate(runs)}
    return [sightings[path] for path in sorted(sightings, key=lambda path: order[path])]


def _identity(dataset: Path | str) -> tuple[set[str], set[Path]]:
    """Fingerprints and places by which a data set is known."""
    if str(dataset).startswith("sha256:"):
        return {str(dataset)}, set()
    path = Path(dataset)
    if (path / "run.json").is_file():
        run = Run.open(path)
        return {item.fingerprint for item in run.info.outputs} | {fingerprint(path)}, {path.resolve()}
    return ({fingerprint(path)} if path.exists() else set()), {path.resolve()}


def _sighting(
    run: Run, prints: set[str], places: set[Path], tainted: dict[str, str], makers: dict[Path, str]
) -> Sighting | None:
    makes_model = any(item.role.endswith("model") for item in run.info.outputs)
    for item in run.info.inputs:
        where = item.locate(run.path)
        maker = run_of(where)
        if item.fingerprint in prints or where.resolve() in places:
            through = None
        elif item.fingerprint in tainted:
            through = tainted[item.fingerprint]
        elif maker is not None and maker.resolve() in makers:
            through = makers[maker.resolve()]
        else:
            continue
        return Sighting(str(run.path), run.info.stage, run.info.status, item.role, through, makes_model=makes_model)
    return None
