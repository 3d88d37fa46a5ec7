"""Align a model of one's own: whichever of fine-tuning, reward model, PPO and evaluation there is input for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from heedlm import runs
from heedlm.config import Device, StageConfig
from heedlm.errors import BadInput
from heedlm.feedback.source import from_feedback
from heedlm.models.compute import find_device
from heedlm.pipelines.chain import Chain, check_settings
from heedlm.records import Prompt, read, write
from heedlm.report import write_report
from heedlm.runs import Input, Run
from heedlm.stages import evaluate, reward, rl, sft


class Config(StageConfig):
    """Settings of alignment; each stage's own go under its name, as in ppo.steps=400."""

    model: str = Field(description="model to align: a run or a Hugging Face folder")
    demonstrations: str | None = Field(
        None, description="conversations to imitate; without any, fine-tuning is skipped"
    )
    comparisons: str | None = Field(None, description="ranked answers; a reward model is trained from them")
    reward: str | None = Field(None, description="a reward run or a rule, in place of comparisons")
    prompts: str | None = Field(None, description="prompts for PPO; without any it is skipped")
    test_share: float = Field(0.1, gt=0, lt=1, description="share of the prompts kept for evaluation")
    preset: str | None = Field(None, description="preset that every stage starts from, such as tiny or small")
    device: Device = "auto"
    sft: dict[str, Any] = Field({}, description="settings of fine-tuning")
    reward_model: dict[str, Any] = Field({}, description="settings of the reward model")
    ppo: dict[str, Any] = Field({}, description="settings of PPO")
    evaluate: dict[str, Any] = Field({}, description="settings of evaluation")


def run(config: Config, resume: Path | None = None) -> Run:
    """Run the stages that have input and return the chain's run; its output `model` is the last model made.

    Raises:
        BadInput: There is nothing to do, or PPO has prompts but no reward.
    """
    config = from_feedback(config, "demonstrations", "comparisons")
    _check(config)
    find_device(config.device)
    overrides = {"sft": config.sft, "reward": config.reward_model, "ppo": config.ppo, "evaluate": config.evaluate}
    check_settings({"sft": sft, "reward": reward, "ppo": rl, "evaluate": evaluate}, config.preset, overrides)
    inputs = [Input("model", config.model)]
    given = {
        "demonstrations": config.demonstrations,
        "comparisons": config.comparisons,
        "prompts": config.prompts,
    }
    inputs += [Input(role, path) for role, path in given.items() if path]
    this = Run.resume(resume) if resume else Run.create("align", config, inputs)
    with this:
        common = {key: getattr(config, key) for key in ("seed", "threads", "device", "tensorboard")}
        chain = Chain(this, config.preset, common, overrides)
        start = last = config.model
        done: dict[str, str] = {}
        if config.demonstrations:
            start = last = done["sft"] = str(
                chain.do(sft, "sft", {"model": config.model, "data": config.demonstrations}).path
            )
        scorer = config.reward
        if config.comparisons:
            scorer = done["reward"] = str(chain.do(reward, "reward", {"model": start, "data": config.comparisons}).path)
        if config.prompts and scorer:
            train, test = _split(config, this)
            last = done["ppo"] = str(chain.do(rl, "ppo", {"model": start, "reward": scorer, "prompts": train}).path)
            settings = {
                "model": last,
                "against": start,
                "prompts": test,
                "prompts_dev": train,
                "judge": scorer,
            }
            measured = chain.do(evaluate, "evaluate", settings)
            done["evaluate"] = str(measured.path)
            this.note(win_rate=measured.info.results["win_rate"], decided_by=measured.info.results["decided_by"])
        for path in done.values():
            write_report(Path(path))
        if last != config.model:
            this.add_output("model", runs.find_model(last))
        this.note(
            stages=done,
            skipped=[s for s in ("sft", "reward", "ppo", "evaluate") if s not in done],
            model=last,
        )
    write_report(this.path)
    return this


def _check(config: Config) -> None:
    if config.comparisons and config.reward:
        raise BadInput("give either comparisons= (a reward model is trained) or reward= (one is used), not both")
    if not config.demonstrations and not config.comparisons and not config.prompts:
        raise BadInput("nothing to do: give demonstrations=, comparisons= or prompts= with a reward=")
    if config.prompts and not (config.comparisons or config.reward):
        raise BadInput("prompts= are given but nothing to score answers with: add comparisons= or reward=")


def _split(config: Config, this: Run) -> tuple[str, str]:
    """The user's prompts in two files of the run: every so-manieth goes to evaluation."""
    rows = read(runs.find_data(str(config.prompts), "prompts"), Prompt).rows
    every = max(2, round(1 / config.test_share))
    if len(rows) < every:
        raise BadInput(
            f"{config.prompts}: {len(rows)} prompts are too few to keep {config.test_share:.0%} for evaluation"
        )
    parts = {
        "prompts": [r for i, r in enumerate(rows) if (i + 1) % every],
        "prompts_test": rows[every - 1 :: every],
    }
    for role, part in parts.items():
        write(this.path / f"{role}.jsonl", part)
        this.add_output(role, this.path / f"{role}.jsonl", rows=len(part))
    return str(this.path / "prompts.jsonl"), str(this.path / "prompts_test.jsonl")
