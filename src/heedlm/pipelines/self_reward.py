"""Self-rewarding rounds: sample, grade, train on the best against the worst, and again with the model that came of it.

Source: Yuan et al. 2024 (self-rewarding language models); docs/methods.md §6.3.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from pydantic import Field, PositiveFloat, PositiveInt

from heedlm import runs
from heedlm.config import Device, StageConfig
from heedlm.errors import BadInput
from heedlm.judges.reviewers import Local, Reviewer
from heedlm.models.compute import find_device
from heedlm.pipelines.chain import Chain, check_settings
from heedlm.records import Prompt, read, write
from heedlm.report import write_report
from heedlm.runs import Input, Run
from heedlm.stages import evaluate, label, prefer, sample

STAGES = {"sample": sample, "label": label, "prefer": prefer, "evaluate": evaluate}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "sample": {"answers": 4},
    "label": {"judgements": 3, "test_share": 0.0},
    "prefer": {"objective": {"name": "dpo", "beta": 0.1}, "pairs": "extremes"},
}


class Config(StageConfig):
    """Settings of self-rewarding; each stage's own go under its name, as in prefer.epochs=2."""

    model: str = Field(description="model to start from, usually the SFT run")
    prompts: str = Field(description="prompts: a file or a village run; each round answers others of them")
    grader: Reviewer = Field(
        Local(path="self"),
        description="who gives points; grader.path=self: the round's own model; village: the ground truth with errors",
    )
    rounds: PositiveInt = Field(2, description="rounds of sampling, grading and training")
    prompts_each: PositiveInt = Field(1024, description="prompts a round")
    longer: PositiveFloat = Field(1.25, description="a round whose answers grow by more than this factor is warned of")
    preset: str | None = Field(None, description="preset that every stage starts from, such as tiny")
    device: Device = "auto"
    sample: dict[str, Any] = Field({}, description="settings of sampling; 4 answers a prompt unless set")
    label: dict[str, Any] = Field({}, description="settings of grading; 3 judgements an answer unless set")
    prefer: dict[str, Any] = Field({}, description="settings of preference training; DPO with β 0.1 unless set")
    evaluate: dict[str, Any] = Field({}, description="settings of evaluation, against the model of the start")


def run(config: Config, resume: Path | None = None) -> Run:
    """Run all rounds and return the chain's run; its output `model` is the last model made.

    Raises:
        BadInput: There are too few prompts for the rounds, or a stage cannot be run.
    """
    find_device(config.device)
    overrides = {name: _DEFAULTS.get(name, {}) | getattr(config, name) for name in STAGES}
    check_settings(STAGES, config.preset, overrides)
    prompts = _prompts(config)
    inputs = [Input("model", config.model), Input("prompts", config.prompts)]
    this = Run.resume(resume) if resume else Run.create("self-reward", config, inputs)
    with this:
        common = {key: getattr(config, key) for key in ("threads", "device", "tensorboard")}
        chain = Chain(this, config.preset, common, overrides)
        model, rounds = config.model, []
        for number in range(1, config.rounds + 1):
            part = prompts[(number - 1) * config.prompts_each : number * config.prompts_each]
            rounds.append(_round(config, chain, number, model, part))
            model = str(rounds[-1]["model"])
            this.note(rounds=rounds)
        this.add_output("model", runs.find_model(model))
        this.note(model=model, grader=_grader(config, "its own model"), **_before_and_after(rounds))
    write_report(this.path)
    return this


def _round(config: Config, chain: Chain, number: int, model: str, prompts: list[Prompt]) -> dict[str, Any]:
    """One round, in a folder of its own: what it measured and the model it made."""
    place, seed = f"round-{number}", config.seed * 1_009 + number
    asked = chain.run.path / place / "prompts.jsonl"
    if not asked.exists():
        asked.parent.mkdir(exist_ok=True)
        write(asked, prompts)
    sampling = {"model": model, "prompts": str(asked), "seed": seed}
    answers = chain.do(sample, "sample", sampling, place=place)
    grading = {"answers": str(answers.path), "grader": _grader(config, model), "seed": seed}
    labels = chain.do(label, "label", grading, place=place)
    training = {"model": model, "data": str(labels.path), "seed": seed}
    tuned = chain.do(prefer, "prefer", training, place=place)
    comparing = {"model": str(tuned.path), "against": config.model, "prompts": config.prompts, "seed": config.seed}
    measured = chain.do(evaluate, "evaluate", comparing, place=place)
    for each in (tuned, measured):
        write_report(each.path)
    found, graded = measured.info.results, labels.info.results
    counted = next(row for row in found["settings"] if row["counts"])
    growth = counted["length"] / max(counted["other_length"], 1e-9)
    if growth > config.longer:
        print(f"self-reward: round {number}: answers are {growth:.2f} times as long as at the start", file=sys.stderr)
    return {
        "model": str(tuned.path),
        "pairs": tuned.info.results["pairs"],
        "ties_dropped": tuned.info.results["rows"] - tuned.info.results["prompts"],
        "unread_grades": graded["unread_grades"],
        "mean_grade": graded["mean_grade"],
        "grades_agree_with_gold": graded.get("gold_accuracy"),
        "win_rate": found["win_rate"],
        "gold": counted["gold"],
        "gold_at_start": counted["other_gold"],
        "length": counted["length"],
        "length_at_start": counted["other_length"],
        "kl_nats": found.get("kl_nats"),
    }


def _grader(config: Config, model: str) -> dict[str, Any]:
    """The grader's settings, the round's own model in place of "self"."""
    given = config.grader.model_dump(mode="json", exclude_defaults=True) | {"name": config.grader.name}
    return given | ({"path": model} if given.get("path") == "self" else {})


def _prompts(config: Config) -> list[Prompt]:
    wanted = config.rounds * config.prompts_each
    rows = read(runs.find_data(config.prompts, "prompts"), Prompt, limit=wanted).rows
    if len(rows) < wanted:
        raise BadInput(
            f"{config.prompts}: {len(rows)} prompts are too few for {config.rounds} rounds of {config.prompts_each}; "
            f"lower prompts_each to {len(rows) // config.rounds}"
        )
    return list(rows)


def _before_and_after(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Gold, length and win rate of the last round beside the start."""
    last = rounds[-1]
    names = ("gold", "gold_at_start", "length", "length_at_start")
    return {**{name: last[name] for name in names}, "win_rate": last["win_rate"]}
