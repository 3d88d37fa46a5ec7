"""Blind comparison of two runs: people choose between answers to the same prompts and are not told whose they are.

The result is a project of the kind `pair` whose first answer is always the first run's (each person sees the two in an
order of their own), and a file of verdicts that `evals.human` counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from heedlm.errors import BadInput
from heedlm.feedback.accounts import User
from heedlm.feedback.adjudication import decisions
from heedlm.feedback.measures import newest_labels
from heedlm.feedback.projects import Project, Projects
from heedlm.feedback.tables import events, items
from heedlm.feedback.tasks import Content
from heedlm.records import Answers, read
from heedlm.runs import find_data, run_of
from heedlm.runs.fingerprints import run_json

MADE = "blind comparison made"  # in the log of events: the two runs, and how often they said the same


def answered_runs(runs: Path) -> list[str]:
    """The runs below a folder that hold answers, as `stage/name`, newest first."""
    found = []
    for file in runs.glob("*/*/run.json"):
        try:
            info = run_json(file.parent)
        except BadInput:
            continue
        if any(output.get("role") == "answers" for output in info.get("outputs", [])):
            found.append((str(info.get("started", "")), f"{file.parent.parent.name}/{file.parent.name}"))
    return [name for _, name in sorted(found, reverse=True)]


def make(
    projects: Projects,
    by: User,
    name: str,
    first: Path,
    second: Path,
    *,
    overlap: int = 1,
    criterion: str = "overall",
    guideline: str = "",
    limit: int | None = None,
) -> tuple[Project, dict[str, Any]]:
    """A project that compares two runs blindly; returns it, and what it compares.

    Of several answers to a prompt the first counts. Prompts to which both gave the same answer are not asked: they
    are told as `identical`, and count as ties.

    Args:
        projects: The store.
        by: Whose project it is.
        name: Its name.
        first: A run with answers (`heed sample`), or a file of answers.
        second: The same of the other run.
        overlap: How many people compare each pair.
        criterion: What to go by.
        guideline: The first guidelines.
        limit: At most this many prompts.

    Raises:
        Refused: They may not make projects.
        BadInput: A run holds no answers, or the two share no prompt, or say the same everywhere.
    """
    ours, theirs = _answers(first), _answers(second)
    shared = [key for key in ours if key in theirs][:limit]
    if not shared:
        raise BadInput(f"{first.name} and {second.name} answered no prompt in common: sample both on the same prompts")
    labels = _names(first, second)
    contents = []
    for key in shared:
        pair = (ours[key].answers[0], theirs[key].answers[0])
        if pair[0].text != pair[1].text:
            answers = tuple(
                answer.model_copy(update={"model": label}) for answer, label in zip(pair, labels, strict=True)
            )
            contents.append(Content(prompt=ours[key].prompt, answers=answers, meta=ours[key].meta))
    if not contents:
        raise BadInput(f"{first.name} and {second.name} gave the same answer to all {len(shared)} prompts")
    project = projects.create(by, name, "pair", criterion=criterion, overlap=overlap, guideline=guideline)
    projects.add_items(by, project.id, contents)
    facts = {
        "first": labels[0],
        "second": labels[1],
        "first_model": _model(first),
        "second_model": _model(second),
        "prompts": len(shared),
        "identical": len(shared) - len(contents),
    }
    with projects.database.write() as connection:
        row = {"at": projects.database.now(), "user": by.id, "what": MADE, "about": project.id, "detail": facts}
        connection.execute(sa.insert(events).values(row))
    return project, facts


def _answers(path: Path) -> dict[str, Answers]:
    """Answers by prompt; of a prompt that occurs twice the first."""
    found: dict[str, Answers] = {}
    for row in read(find_data(path, "answers"), Answers).rows:
        key = json.dumps([[turn.role, turn.content] for turn in row.prompt], ensure_ascii=False)
        found.setdefault(key, row)
    return found


def _names(first: Path, second: Path) -> tuple[str, str]:
    short = first.stem, second.stem
    return short if short[0] != short[1] else (f"{first.parent.name}/{short[0]}", f"{second.parent.name}/{short[1]}")


def _model(path: Path) -> str | None:
    """The model that gave the answers, as its run says."""
    run = run_of(path)
    inputs = run_json(run).get("inputs", []) if run else []
    return next((str(each.get("run") or each["path"]) for each in inputs if each.get("role") == "model"), None)


def compared(projects: Projects, by: User, project: str) -> dict[str, Any] | None:
    """What a project compares (see `make`); None if it is no blind comparison.

    Raises:
        Refused: Only the project's managers may know.
    """
    projects.managed(by, project)
    query = sa.select(events.c.detail).where(events.c.what == MADE, events.c.about == project).order_by(events.c.seq)
    with projects.database.read() as connection:
        row = connection.execute(query).first()
    return dict(row.detail) if row is not None else None


def verdicts(projects: Projects, by: User, project: str) -> list[dict[str, Any]]:
    """What people said, as the lines of a verdict file: first what is compared, then each prompt with its verdicts.

    A verdict is `first`, `second` or `same`; where a manager decided, theirs is the only one.

    Raises:
        Refused: Only the project's managers may know.
        BadInput: The project is no blind comparison.
    """
    facts = compared(projects, by, project)
    if facts is None:
        raise BadInput("this project is no blind comparison of two runs")
    with projects.database.read() as connection:
        rows = newest_labels(connection, project)
        settled = decisions(connection, project)
        known = connection.execute(sa.select(items).where(items.c.project == project).order_by(items.c.place)).all()
    said: dict[str, list[Any]] = {}
    for row in rows:
        said.setdefault(row.item, []).append(row.reply)
    lines = [{"heed": "human verdicts", **facts}]
    for item in known:
        if item.purpose == "ordinary":
            replies = [settled[item.id].reply] if item.id in settled else said.get(item.id, [])
            prompt = item.content["prompt"]
            lines.append({"id": item.id, "prompt": prompt, "verdicts": [_verdict(reply) for reply in replies]})
    return lines


def _verdict(reply: dict[str, Any]) -> str:
    return str({0: "first", 1: "second"}.get(reply["better"], "same"))


def as_lines(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """The text of a verdict file, line by line."""
    for row in rows:
        yield json.dumps(row, ensure_ascii=False) + "\n"
