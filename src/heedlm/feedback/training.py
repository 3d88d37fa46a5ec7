"""What a project's labels can train, and the commands that do it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from heedlm.errors import BadInput
from heedlm.feedback.accounts import User
from heedlm.feedback.database import Database
from heedlm.feedback.export import CHAT, Config, export_run, find_project, slug
from heedlm.feedback.jobs import Job, Jobs
from heedlm.feedback.projects import Projects
from heedlm.feedback.uploads import items_from
from heedlm.runs import Run, find_data

Way = Literal["sft", "reward", "prefer", "ppo", "align"]
# By kind of question; a score from 1 to 7 for each answer trains nothing directly.
WAYS: dict[str, tuple[Way, ...]] = {
    "rank": ("reward", "prefer", "align", "ppo"),
    "pair": ("reward", "prefer", "align", "ppo"),
    "rate": ("ppo",),
    "thumb": ("prefer", "ppo"),
    "write": ("sft", "ppo"),
    "steps": ("reward",),
    CHAT: ("reward", "prefer"),
}
FEW = 640  # labels below which steps are made smaller, so that there are at least about twenty
FEWEST_PROMPTS = 10  # of which a chain can keep a tenth to measure on


@dataclass(frozen=True)
class Plan:
    """What to train: the way, and the runs it starts from.

    Attributes:
        way: A stage, or the chain of reward model, PPO and evaluation (align).
        model: Folder of the run whose model is trained on.
        reward: Folder of the reward run that PPO learns from.
        preset: Settings to start from: tiny for models of some million parameters, none for larger ones.
    """

    way: Way
    model: Path
    reward: Path | None = None
    preset: Literal["tiny"] | None = "tiny"


def train(jobs: Jobs, by: User, project: str, plan: Plan) -> Job:
    """Export a project's labels as they are now and ask for the training.

    Args:
        jobs: Where commands are asked for.
        by: Who asks.
        project: Key of the project, or chat.
        plan: What to train.

    Raises:
        BadInput: Its labels cannot train that, or there are none yet.
    """
    database = jobs.database
    kind = CHAT if project == CHAT else find_project(database, project).kind.name
    if plan.way not in WAYS[kind]:
        raise BadInput(f"way={plan.way}: labels of this kind cannot train that; choose from {', '.join(WAYS[kind])}")
    made = _material(database, project, plan.way, jobs.runs)
    labels = made.info.results["labels"]
    words = command(plan, kind, made, jobs.runs)
    of = None if project == CHAT else project
    return jobs.add(by, words, project=of, upto=labels["upto"], name=slug(labels["name"]))


def _material(database: Database, project: str, way: Way, runs: Path) -> Run:
    """The project as a run; what PPO alone needs of it are its questions, so that there may be no labels yet."""
    return export_run(database, Config(project=project, out=runs), allow_empty=way == "ppo")


def command(plan: Plan, kind: str, made: Run, runs: Path) -> list[str]:
    """The words of the command, without the name of the run.

    Raises:
        BadInput: Something that it needs was not given, or there is too little of it.
    """
    words: list[str] = [plan.way, *([plan.preset] if plan.preset and plan.way != "align" else [])]
    words += [f"model={plan.model}", f"out={runs}"]
    labels = made.info.results["labels"]
    if plan.way in ("ppo", "align"):
        if plan.way == "align" and labels["questions"] < FEWEST_PROMPTS:
            raise BadInput(f"the project has {labels['questions']} different questions, a chain needs {FEWEST_PROMPTS}")
        words.append(f"prompts={made.path}")
    if plan.way == "ppo":
        if plan.reward is None:
            raise BadInput("reward: PPO needs a reward model: train one first, and choose it")
        return [*words, f"reward={plan.reward}"]
    if plan.way == "align":
        return [*words, f"comparisons={made.path}", *([f"preset={plan.preset}"] if plan.preset else [])]
    words.append(f"data={made.path}")
    if plan.way == "prefer" and kind == "thumb":
        words += ["labels=thumbs", "objective.name=kto"]
    if plan.way == "reward" and kind == "steps":
        words.append("objective.name=process")
    if labels["count"] < FEW and plan.way != "sft":
        words.append(f"batch={max(2, labels['count'] // 20)}")
    return words


def next_round(
    jobs: Jobs, by: User, project: str, model: Path, *, answers: int = 4, limit: int = 100, preset: str | None = "tiny"
) -> Job:
    """Ask a model for new answers to a project's questions; they become items of it (`add_answers`).

    Raises:
        BadInput: The project asks for another number of answers.
    """
    kind = find_project(jobs.database, project).kind
    answers = min(max(answers, kind.fewest, 1), kind.most)
    made = export_run(jobs.database, Config(project=project, out=jobs.runs), allow_empty=True)
    words = ["sample", *([preset] if preset else []), f"model={model}", f"prompts={made.path}", f"out={jobs.runs}"]
    words += [f"answers={answers}", f"limit={limit}"]
    return jobs.add(by, words, project=project, name=slug(made.info.results["labels"]["name"]))


def add_answers(database: Database, people: Sequence[User], runs: Path, job: Job) -> str | None:
    """What follows a job: answers that were sampled for a project become items of it; returns a note on that."""
    by = next((user for user in people if user.id == job.by), None)
    if job.words[0] != "sample" or job.project is None or job.run is None or by is None:
        return None
    project = Projects(database).managed(by, job.project)
    found = items_from(find_data(runs / job.run, "answers"), project.kind)
    fresh, known = Projects(database).add_items(by, project.id, found.contents)
    return f"{fresh} new items" + (f", {known} were there already" if known else "")
