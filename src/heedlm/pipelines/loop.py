"""The loop: sample from the newest policy, have the answers compared, refit the reward model, train; and again.

Each round's comparisons are added to those of the rounds before, so that the reward model keeps what it knew and
learns how the newest answers compare. Source: Stiennon et al. 2020, §3.1; Bai et al. 2022a, §4.5 (online training).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PositiveInt

from heedlm import runs
from heedlm.config import Device, StageConfig
from heedlm.errors import BadInput
from heedlm.models.compute import find_device
from heedlm.pipelines.chain import Chain, check_settings, check_source
from heedlm.records import Comparison, Prompt, read, write
from heedlm.report import forest, write_report
from heedlm.runs import Input, Run
from heedlm.stages import evaluate, label, prefer, reward, rl, sample

STAGES = {"sample": sample, "label": label, "reward": reward, "ppo": rl, "prefer": prefer, "evaluate": evaluate}


class Config(StageConfig):
    """Settings of the loop; each stage's own go under its name, as in ppo.steps=100."""

    model: str = Field(description="policy to start from, usually the SFT run")
    prompts: str = Field(description="a run with prompts and prompts_test, such as a village run")
    rounds: PositiveInt = Field(3, description="rounds of sampling, comparing, refitting and training")
    train: Literal["ppo", "prefer"] = Field(
        "ppo", description="how a round trains: against the reward model, or straight on the comparisons"
    )
    restart: bool = Field(
        False, description="train each round from the first model, on all comparisons, instead of from the last policy"
    )
    fresh: PositiveInt = Field(
        2048, description="prompts whose answers are compared in a round; no two rounds share one"
    )
    judge: str | None = Field(None, description="who decides the win rates: gold by default, a reward run, a rule")
    preset: str | None = Field("tiny", description="preset that every stage starts from")
    device: Device = "auto"
    sample: dict[str, Any] = Field({}, description="settings of sampling")
    label: dict[str, Any] = Field({}, description="settings of comparing: annotators, or a judge")
    reward: dict[str, Any] = Field({}, description="settings of the reward model")
    ppo: dict[str, Any] = Field({}, description="settings of PPO and its kin")
    prefer: dict[str, Any] = Field({}, description="settings of preference training")
    evaluate: dict[str, Any] = Field({}, description="settings of evaluation")


def run(config: Config, resume: Path | None = None) -> Run:
    """Go round and return the loop's run; its output `model` is the last policy, its results a row for each round.

    Raises:
        BadInput: There are too few prompts for so many rounds, or a setting is wrong.
    """
    find_device(config.device)
    runs.find_model(config.model)
    check_source(config.judge)
    prompts = _fresh_prompts(config)
    overrides = {name: getattr(config, name) for name in STAGES}
    check_settings(STAGES, config.preset, overrides)
    inputs = [Input("model", config.model), Input("prompts", config.prompts)]
    this = Run.resume(resume) if resume else Run.create("loop", config, inputs)
    with this:
        common = {key: getattr(config, key) for key in ("seed", "threads", "device", "tensorboard")}
        chain = Chain(this, config.preset, common, overrides)
        policy, rows = config.model, []
        for number in range(1, config.rounds + 1):
            asked = this.path / f"round-{number}" / "prompts.jsonl"
            if not asked.exists():
                asked.parent.mkdir(parents=True, exist_ok=True)
                write(asked, prompts[(number - 1) * config.fresh : number * config.fresh])
            policy, row = _round(config, chain, number, policy, asked)
            rows.append(row)
            this.note(rounds=rows)
        drawing = this.path / "rounds.svg"
        estimates = [forest.Row(f"round {r['round']}", r["win_rate"], r["low"], r["high"]) for r in rows]
        drawing.write_text(forest.draw(estimates, "win rate over the first model, %"), encoding="utf-8")
        this.add_output("picture", drawing)
        this.add_output("model", runs.find_model(policy))
    write_report(this.path)
    return this


def describe(done: Run) -> str:
    """The rounds for people."""
    lines = [f"{'round':<7}{'win rate, %':>20}{'gold':>8}{'reward':>9}{'accuracy':>10}{'comparisons':>13}{'KL':>7}"]
    for row in done.info.results["rounds"]:
        rate = f"{100 * row['win_rate']:.1f} [{100 * row['low']:.1f}, {100 * row['high']:.1f}]"
        gold = "" if row["gold"] is None else f"{row['gold']:.3f}"
        accuracy = "" if row["accuracy"] is None else f"{100 * row['accuracy']:.1f} %"
        proxy = "" if row["reward"] is None else f"{row['reward']:.2f}"
        lines.append(
            f"{row['round']:<7}{rate:>20}{gold:>8}{proxy:>9}{accuracy:>10}{row['comparisons']:>13,}{row['kl']:>7.2f}"
        )
    return "\n".join([*lines, str(done.path)])


def _round(config: Config, chain: Chain, number: int, policy: str, asked: Path) -> tuple[str, dict[str, Any]]:
    """One round: its policy, and what was measured."""
    place = f"round-{number}"
    answers = chain.do(sample, "sample", {"model": policy, "prompts": str(asked)}, place=place)
    labels = chain.do(label, "label", {"answers": str(answers.path)}, place=place)
    everything = _gathered(chain.run.path, number, labels)
    start = config.model if config.restart else policy
    accuracy, judge = None, None
    if config.train == "ppo":
        fitted = chain.do(reward, "reward", {"model": config.model, **everything}, place=place)
        judge = str(fitted.path)
        accuracy = fitted.info.results.get("accuracy", {}).get("accuracy", {}).get("estimate")
        given = {"model": start, "reference": config.model, "reward": judge, "prompts": config.prompts}
        trained = chain.do(rl, "ppo", given, place=place)
    else:
        trained = chain.do(prefer, "prefer", {"model": start, **everything}, place=place)
    settings: dict[str, Any] = {"model": str(trained.path), "against": config.model, "prompts": config.prompts}
    settings |= {"judge": config.judge} if config.judge else {}
    settings |= {"reward": judge} if judge else {}
    measured = chain.do(evaluate, "evaluate", settings, place=place).info.results
    counted, plain = next(row for row in measured["settings"] if row["counts"]), measured["settings"][0]
    row = {
        "round": number,
        "win_rate": counted["win_rate"]["rate"],
        "low": counted["win_rate"]["low"],
        "high": counted["win_rate"]["high"],
        "gold": plain.get("gold"),
        "gold_before": plain.get("other_gold"),
        "reward": (measured.get("reward") or {}).get("mean"),
        "accuracy": accuracy,
        "comparisons": len(read(Path(everything["data"]), Comparison).rows),
        "kl": measured["kl_nats"],
        "length": plain["length"],
        "model": str(trained.path),
    }
    return str(trained.path), row


def _gathered(home: Path, number: int, newest: Run) -> dict[str, Any]:
    """The comparisons of this round and of all before, in files of this round."""
    here = home / f"round-{number}"
    roles = {"data": "comparisons", "held_out": "comparisons_dev", "test": "comparisons_test"}
    found: dict[str, Any] = {}
    for setting, role in roles.items():
        rows = read(runs.find_data(str(newest.path), role), Comparison).rows
        before = home / f"round-{number - 1}" / f"{role}.jsonl"
        if before.exists():
            rows = [*read(before, Comparison).rows, *rows]
        write(here / f"{role}.jsonl", rows)
        found[setting] = str(here / f"{role}.jsonl")
    return found


def _fresh_prompts(config: Config) -> list[Prompt]:
    """Enough prompts that no two rounds ask about the same one."""
    path = runs.find_data(config.prompts, "prompts")
    rows = read(path, Prompt).rows
    needed = config.rounds * config.fresh
    if len(rows) < needed:
        most = len(rows) // config.rounds
        raise BadInput(
            f"{path}: {len(rows)} prompts, {config.rounds} rounds of {config.fresh} need {needed}: try fresh={most}"
        )
    return list(rows[:needed])
