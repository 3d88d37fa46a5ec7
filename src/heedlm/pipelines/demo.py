"""The whole path in one command: village, pretraining, fine-tuning, feedback, reward model, PPO, evaluation, report."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from pydantic import Field

from heedlm import runs
from heedlm.config import Device, StageConfig
from heedlm.models.compute import find_device
from heedlm.pipelines.chain import Chain, check_settings
from heedlm.report import write_report
from heedlm.runs import Run
from heedlm.stages import evaluate, label, pretrain, reward, rl, sample, sft, village


class Config(StageConfig):
    """Settings of the demonstration; each stage's own go under its name, as in ppo.steps=400."""

    preset: str = Field("tiny", description="preset that every stage starts from")
    device: Device = "auto"
    village: dict[str, Any] = Field({}, description="settings of the village stage that differ from the preset")
    pretrain: dict[str, Any] = Field({}, description="settings of pretraining that differ from the preset")
    sft: dict[str, Any] = Field({}, description="settings of fine-tuning that differ from the preset")
    sample: dict[str, Any] = Field({}, description="settings of sampling that differ from the preset")
    label: dict[str, Any] = Field({}, description="settings of labelling that differ from the preset")
    reward: dict[str, Any] = Field({}, description="settings of the reward model that differ from the preset")
    ppo: dict[str, Any] = Field({}, description="settings of PPO that differ from the preset")
    evaluate: dict[str, Any] = Field({}, description="settings of evaluation that differ from the preset")


STAGES = {
    "village": village,
    "pretrain": pretrain,
    "sft": sft,
    "sample": sample,
    "label": label,
    "reward": reward,
    "ppo": rl,
    "evaluate": evaluate,
}


def run(config: Config, resume: Path | None = None) -> Run:
    """Run every stage and return the chain's run, whose results are the figures `make demo` prints."""
    started = time.monotonic()
    find_device(config.device)
    overrides = {stage: getattr(config, stage) for stage in STAGES}
    check_settings(STAGES, config.preset, overrides)
    name = config.name or runs.unused_name(config.out, "demo", f"seed-{config.seed}")
    named = config.model_copy(update={"name": name})
    this = Run.resume(resume) if resume else Run.create("demo", named)
    with this:
        common = {key: getattr(config, key) for key in ("seed", "threads", "device", "tensorboard")}
        chain = Chain(this, config.preset, common, overrides)
        world = str(chain.do(village, "village", {}).path)
        base = chain.do(pretrain, "pretrain", {"data": world})
        tuned = chain.do(sft, "sft", {"model": str(base.path), "data": world})
        answers = chain.do(sample, "sample", {"model": str(tuned.path), "prompts": world})
        labels = chain.do(label, "label", {"answers": str(answers.path)})
        judge = chain.do(reward, "reward", {"model": str(tuned.path), "data": str(labels.path)})
        policy = chain.do(
            rl,
            "ppo",
            {"model": str(tuned.path), "reward": str(judge.path), "prompts": world, "mix": {"data": world}},
        )
        measured = chain.do(
            evaluate,
            "evaluate",
            {
                "model": str(policy.path),
                "against": str(tuned.path),
                "prompts": world,
                "reward": str(judge.path),
            },
        )
        for finished in (policy, measured):
            write_report(finished.path)
        figures = headline(measured, judge, labels)
        page = this.path / "report.html"
        this.note(
            **figures,
            stage_seconds=chain.seconds,
            seconds=round(
                max(time.monotonic() - started, sum(chain.seconds.values())), 1
            ),  # a resumed demo counts whole stages
            peak_mib=runs.peak_mib(),
            report=str(page),
        )
    write_report(this.path)
    return this


def headline(measured: Run, judge: Run, labels: Run) -> dict[str, Any]:
    """The figures a reader looks for first, from the runs that measured them."""
    results = measured.info.results
    counted = next(row for row in results["settings"] if row["counts"])
    matched = results["length_matched"] or {}
    accuracy = judge.info.results["accuracy"]["accuracy"]
    return {
        "win_rate": counted["win_rate"]["rate"],
        "win_rate_low": counted["win_rate"]["low"],
        "win_rate_high": counted["win_rate"]["high"],
        "win_rate_length_matched": matched.get("rate"),
        "length_matched_prompts": matched.get("n"),
        "settings": results["settings"],
        "kl_nats": results["kl_nats"],
        "gold_sft": counted["other_gold"],
        "gold_policy": counted["gold"],
        "reward": results["reward"]["mean"],
        "reward_sft": results["reward_against"]["mean"],
        "reward_model_accuracy": accuracy["estimate"],
        "reward_model_ceiling": labels.info.results["ceiling"],
    }


_LAST_LINE = (
    "win_rate", "win_rate_low", "win_rate_high", "win_rate_length_matched", "kl_nats", "gold_sft", "gold_policy",
    "reward_model_accuracy", "seconds", "peak_mib", "report",
)  # fmt: skip


def describe(run: Run) -> str:
    """The figures for people, and as the last line the same as one JSON object."""
    found = run.info.results
    rows = [_setting(row) for row in found["settings"]]
    lines = [
        f"win rate over the SFT model, {_percent(found['win_rate'])} "
        f"[{_percent(found['win_rate_low'])}, {_percent(found['win_rate_high'])}] on unseen prompts, decided by gold",
        "",
        *rows,
        "",
        f"gold score      {found['gold_sft']:.3f} → {found['gold_policy']:.3f}   (0 to 1, the village's ground truth)",
        f"reward          {found['reward_sft']:.2f} → {found['reward']:.2f}   (reward model, at temperature 1)",
        f"KL to SFT       {found['kl_nats']:.2f} nats an answer",
        f"reward model    {_percent(found['reward_model_accuracy'])} right on held-out comparisons; "
        f"noise allows {_percent(found['reward_model_ceiling'])}",
        f"time            {found['seconds']:.0f} s, {found['peak_mib']:.0f} MiB at most",
        f"report          {found['report']}",
        json.dumps({key: found[key] for key in _LAST_LINE}),
    ]
    return "\n".join(lines)


def _setting(row: dict[str, Any]) -> str:
    rate, matched = row["win_rate"], row["length_matched"]
    name = row["name"]
    if row["counts"]:
        name += f" ({row['temperature']:g} against {row['other_temperature']:g})"
    equal = f"   of equal length {_percent(matched['rate'])} (n {matched['n']})" if matched else ""
    return f"  {_percent(rate['rate'])} [{_percent(rate['low'])}, {_percent(rate['high'])}]{equal}   {name}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
