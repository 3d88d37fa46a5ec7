"""A constitutional round: critique and revision, fine-tuning on them, comparisons by principle, reward model, PPO.

Source: Bai et al. 2022 (constitutional AI); docs/methods.md §6.2.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import Field, PositiveInt

from heedlm import runs
from heedlm.config import Device, StageConfig
from heedlm.judges.constitution import principles
from heedlm.judges.reviewers import Reviewer, VillageReviewer
from heedlm.models.compute import find_device
from heedlm.pipelines.chain import Chain, check_settings
from heedlm.report import write_report
from heedlm.runs import Input, Run
from heedlm.stages import critique, evaluate, label, reward, rl, sample, sft
from heedlm.village.gold import WEIGHTS

STAGES = {
    "sample": sample,
    "critique": critique,
    "sft": sft,
    "label": label,
    "reward": reward,
    "ppo": rl,
    "evaluate": evaluate,
}
_EMPHASIS = 3.0  # how many times its own weight a principle's component has for the village's judges


class Config(StageConfig):
    """Settings of a constitutional round; each stage's own go under its name, as in critique.rounds=2."""

    model: str = Field(description="model to improve, usually the SFT run")
    prompts: str = Field(description="prompts: a file or a village run")
    demonstrations: str | None = Field(
        None, description="helpful answers that go beside the revisions, so that helping is not forgotten"
    )
    constitution: str | None = Field(None, description="TOML file of principles; none: those that come with Heed")
    reviewer: Reviewer = Field(
        VillageReviewer(),
        description="who criticises, revises and compares: a local model, an endpoint, or the village's truth",
    )
    limit: PositiveInt = Field(2048, description="prompts answered for critique, and again for comparisons")
    ppo_too: bool = Field(True, description="train the policy against the reward model; false: end with that model")
    preset: str | None = Field(None, description="preset that every stage starts from, such as tiny")
    device: Device = "auto"
    sample: dict[str, Any] = Field({}, description="settings of sampling, both times")
    critique: dict[str, Any] = Field({}, description="settings of critique and revision")
    sft: dict[str, Any] = Field({}, description="settings of fine-tuning on the revisions")
    label: dict[str, Any] = Field({}, description="settings of the comparisons by principle")
    reward: dict[str, Any] = Field({}, description="settings of the reward model")
    ppo: dict[str, Any] = Field({}, description="settings of PPO")
    evaluate: dict[str, Any] = Field({}, description="settings of evaluation, against the model of the start")


def run(config: Config, resume: Path | None = None) -> Run:
    """Run the round and return the chain's run; its output `model` is the last policy made.

    Raises:
        BadInput: An input or a setting of some stage cannot be used.
    """
    find_device(config.device)
    overrides = {name: getattr(config, name) for name in STAGES}
    check_settings(STAGES, config.preset, overrides)
    principles(config.constitution)
    this = Run.resume(resume) if resume else Run.create("constitution", config, _inputs(config))
    with this:
        common = {key: getattr(config, key) for key in ("threads", "device", "tensorboard")}
        chain = Chain(this, config.preset, common, overrides)
        reviews, revised = _revision(config, chain)
        measured = {"revised": _measure(config, chain, "revision", revised)}
        labels, scorer = _comparison(config, chain, revised)
        last = revised
        if config.ppo_too:
            given = {"model": str(revised.path), "reward": str(scorer.path), "prompts": config.prompts}
            last = chain.do(rl, "ppo", {**given, "seed": config.seed})
            measured["after PPO"] = _measure(config, chain, "", last)
            write_report(last.path)
        this.add_output("model", runs.find_model(str(last.path)))
        this.note(
            measured=measured,
            critique=reviews.info.results,
            labels={k: v for k, v in labels.info.results.items() if k != "usage"},
            reward_model_accuracy=scorer.info.results.get("accuracy"),
            model=str(last.path),
            reviewer=_given(config.reviewer),
        )
    write_report(this.path)
    return this


def _revision(config: Config, chain: Chain) -> tuple[Run, Run]:
    """The first half: answers, what became of them by critique and revision, and the model that imitates it."""
    seed = {"seed": config.seed * 2}
    asked = {"model": config.model, "prompts": config.prompts, "limit": config.limit, "answers": 1}
    answers = chain.do(sample, "sample", asked | seed, place="revision")
    given = {"answers": str(answers.path), "also": config.demonstrations, "constitution": config.constitution}
    reviews = chain.do(critique, "critique", {**given, "reviewer": _given(config.reviewer), **seed}, place="revision")
    return reviews, chain.do(sft, "sft", {"model": config.model, "data": str(reviews.path), **seed}, place="revision")


def _comparison(config: Config, chain: Chain, revised: Run) -> tuple[Run, Run]:
    """The second half: comparisons of the new model's answers by principle, and the reward model they train."""
    seed = {"seed": config.seed * 2 + 1}
    asked = {"model": str(revised.path), "prompts": config.prompts, "limit": config.limit}
    answers = chain.do(sample, "sample", asked | seed, place="comparison")
    who = chain.run.path / "comparison" / "judging.json"
    who.write_text(json.dumps(_labelling(config), ensure_ascii=False, indent=2), encoding="utf-8")
    given = {"answers": str(answers.path), **seed}
    labels = chain.do(label, "label", given, place="comparison", presets=[str(who)])
    trained = {"model": str(revised.path), "data": str(labels.path), **seed}
    return labels, chain.do(reward, "reward", trained, place="comparison")


def _measure(config: Config, chain: Chain, place: str, tuned: Run) -> dict[str, Any]:
    """A model against the one of the start: win rate, gold where there is one, length and KL."""
    given = {"model": str(tuned.path), "against": config.model, "prompts": config.prompts, "seed": config.seed}
    done = chain.do(evaluate, "evaluate", given, place=place)
    write_report(done.path)
    found = done.info.results
    counted = next(row for row in found["settings"] if row["counts"])
    return {
        "win_rate": found["win_rate"],
        "gold": counted["gold"],
        "gold_at_start": counted["other_gold"],
        "length": counted["length"],
        "length_at_start": counted["other_length"],
        "kl_nats": found.get("kl_nats"),
    }


def _labelling(config: Config) -> dict[str, Any]:
    """Who compares by principle: the reviewer as a judge, or the village's annotators, a group for each principle."""
    if not isinstance(config.reviewer, VillageReviewer):
        return {"judge": _given(config.reviewer), "constitution": config.constitution or "own"}
    groups = [
        {
            "name": each.id,
            "share": 1,
            "weights": {name: w * (_EMPHASIS if name == each.criterion else 1.0) for name, w in WEIGHTS.items()},
        }
        for each in principles(config.constitution)
    ]
    return {"annotators": {"groups": groups, "people": len(groups)}}


def _given(reviewer: Any) -> dict[str, Any]:
    return {**reviewer.model_dump(mode="json", exclude_defaults=True), "name": reviewer.name}


def _inputs(config: Config) -> list[Input]:
    given = {"demonstrations": config.demonstrations, "constitution": config.constitution}
    inputs = [Input("model", config.model), Input("prompts", config.prompts)]
    return inputs + [Input(role, path) for role, path in given.items() if path is not None]
