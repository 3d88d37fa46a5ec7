"""Active selection: what to ask first, from scores that reward models gave, or from what people said so far.

Priorities are never negative; items that nothing is known of have 0 and come last.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from heedlm.errors import BadInput
from heedlm.feedback.accounts import User
from heedlm.feedback.adjudication import agreements
from heedlm.feedback.projects import Project, Projects
from heedlm.feedback.tables import items, scores

Rule = Literal["added", "margin", "spread", "disagreement"]
RULES: tuple[Rule, ...] = get_args(Rule)


def uncertainty(values: Sequence[float]) -> float:
    """exp(−m) in (0, 1], m how far the best answer's score lies above the second best; one answer: 0.

    [2.0, 1.5, −1.0] has m = .5 and gives .606531.
    """
    if len(values) < 2:
        return 0.0
    best, second = sorted(values, reverse=True)[:2]
    return math.exp(second - best)


def spread(members: Sequence[Sequence[float]]) -> float:
    """Standard deviation between the M members of an ensemble, averaged over K answers; M rows of K scores.

    Of several answers only differences between answers count: each member's mean over the item is taken off first.
    [[1, 3], [2, 2]] becomes [[−1, 1], [0, 0]] and gives .5.
    """
    if len(members) < 2:
        return 0.0
    answers = len(members[0])
    rows = [[value - (sum(row) / answers if answers > 1 else 0.0) for value in row] for row in members]
    total = 0.0
    for column in zip(*rows, strict=True):
        mean = sum(column) / len(column)
        total += math.sqrt(sum((value - mean) ** 2 for value in column) / len(column))
    return total / answers


def prioritise(projects: Projects, by: User, project: str, rule: Rule, source: str | None = None) -> int:
    """Put the items of a project in the order of a rule; returns how many of them the rule has something to say of.

    Args:
        projects: The store.
        by: A manager of the project.
        project: Which.
        rule: `added`: as they came; `margin`: the best two answers score nearly the same; `spread`: the reward models
            whose scores are stored differ most, each brought to the same scale; `disagreement`: people differ most.
        source: For `margin`: whose scores; the newest if not given.

    Raises:
        Refused: Only the project's managers may.
        BadInput: There is no such rule, or no scores that it needs.
    """
    known = projects.managed(by, project)
    if rule not in RULES:
        raise BadInput(f"rule={rule!r}: must be one of {', '.join(RULES)}")
    with projects.database.read() as connection:
        every = [row.id for row in connection.execute(sa.select(items.c.id).where(items.c.project == project))]
        found = _PRIORITIES[rule](connection, known, source)
    projects.set_priorities(project, {item: found.get(item, 0.0) for item in every})
    return len(found)


def _stored(connection: Connection, project: str) -> dict[str, dict[str, Sequence[float]]]:
    """Scores by source, the newest source first, and item."""
    query = sa.select(scores).join(items, items.c.id == scores.c.item).where(items.c.project == project)
    found: dict[str, dict[str, Sequence[float]]] = {}
    for row in connection.execute(query.order_by(scores.c.created.desc(), scores.c.source)):
        found.setdefault(row.source, {})[row.item] = row._mapping["values"]
    return found


def _by_margin(connection: Connection, project: Project, source: str | None) -> dict[str, float]:
    stored = _stored(connection, project.id)
    if not stored or (source is not None and source not in stored):
        raise BadInput("there are no such scores yet: store those of a reward model first")
    chosen = stored[source if source is not None else next(iter(stored))]
    return {item: uncertainty(values) for item, values in chosen.items()}


def _by_spread(connection: Connection, project: Project, source: str | None) -> dict[str, float]:
    stored = _stored(connection, project.id)
    if len(stored) < 2:
        raise BadInput(f"scores of two reward models or more are needed, there are those of {len(stored)}")
    members = [_standardised(found) for found in stored.values()]
    shared = set.intersection(*(set(member) for member in members))
    return {item: spread([member[item] for member in members]) for item in shared}


def _standardised(found: Mapping[str, Sequence[float]]) -> dict[str, Sequence[float]]:
    """Scores of one reward model with mean 0 and standard deviation 1 over all answers: a scale means nothing."""
    values = [value for row in found.values() for value in row]
    mean = sum(values) / len(values)
    scale = math.sqrt(sum((value - mean) ** 2 for value in values) / len(values)) or 1.0
    return {item: [(value - mean) / scale for value in row] for item, row in found.items()}


def _by_disagreement(connection: Connection, project: Project, source: str | None) -> dict[str, float]:
    return {item: 1 - value for item, (value, _) in agreements(connection, project).items()}


_PRIORITIES: dict[Rule, Callable[[Connection, Project, str | None], dict[str, float]]] = {
    "added": lambda connection, project, source: {},
    "margin": _by_margin,
    "spread": _by_spread,
    "disagreement": _by_disagreement,
}


def read_scores(path: Path, name: str | None = None) -> dict[str, list[float]]:
    """Scores from a file of lines `{"id": "ITEM", "scores": [0.3, -1.2]}`, one for each answer of the item.

    Args:
        path: The file.
        name: What errors call it.

    Raises:
        BadInput: A line is something else; the message names it.
    """
    found: dict[str, list[float]] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            values = [float(value) for value in row["scores"]]
            if not isinstance(row["id"], str) or not values or not all(map(math.isfinite, values)):
                raise ValueError
        except (ValueError, TypeError, KeyError, RecursionError):
            wanted = '{"id": "ITEM", "scores": [0.3, -1.2]}'
            raise BadInput(f"{name or path}: line {number}: must look like {wanted}, with finite scores") from None
        found[row["id"]] = values
    if not found:
        raise BadInput(f"{name or path}: holds no scores")
    return found


def store(projects: Projects, by: User, project: str, source: str, found: Mapping[str, Sequence[float]]) -> int:
    """Keep scores of a reward model; returns of how many items.

    Raises:
        Refused: Only the project's managers may.
        BadInput: An item is not in the project, or does not have as many answers as scores.
    """
    projects.managed(by, project)
    if not 1 <= len(source.strip()) <= 64:
        raise BadInput("source: must have 1 to 64 characters: say which reward model gave the scores")
    with projects.database.read() as connection:
        rows = connection.execute(sa.select(items.c.id, items.c.content).where(items.c.project == project)).all()
    answers = {row.id: len(row.content["answers"]) for row in rows}
    for item, values in found.items():
        if item in answers and answers[item] != len(values):
            raise BadInput(f"scores: item {item!r} has {answers[item]} answers, but {len(values)} scores")
    projects.store_scores(project, source.strip(), found)
    return len(found)
