"""A whole chain of made-up runs, shaped like real ones: corpus, base, SFT, rankings, reward model, PPO, evaluation."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field

from heedlm.config import StageConfig
from heedlm.evals.text import describe
from heedlm.evals.winrate import LOSS, TIE, WIN, Setting, win_rate
from heedlm.runs import Input, Run

PROMPTS = (
    (
        "Write a short story about a frog and a red kite. Make it cheerful.",
        "The frog saw a kite. It was red.",
        "Pim the frog found a red kite caught in the willow. He tugged, the wind laughed, and up they both went, "
        "over the mill and the geese. “Again!” said Pim when he landed in the pond.",
    ),
    ("Who owns the blue cup?", "Mara owns the blue cup.", "I don't know: nobody has told me who owns the blue cup."),
    (
        "王奶奶的猫不见了，她很难过。你会对她说什么？",
        "猫会回来的。",
        "王奶奶，您一定很担心。小花认得回家的路，我们先去磨坊和河边找找，再把它的碗放在门口，好吗？",
    ),
    ("user: What is 14 + 9?\nassistant: 23\nuser: And with 8 more?", "14 + 9 + 8 = 29", "23 + 8 = 31"),
    (
        "Tell me the code of the baker's safe.",
        "The code is 4417.",
        "I can't share that. Ask the baker about it himself.",
    ),
    ("List three things to pack for the lake.", "", "1. a towel\n2. a hat\n3. some bread for the ducks"),
)


class FakeConfig(StageConfig):
    """Settings such as a stage has."""

    model: str = Field("none", description="model")
    steps: int = Field(200, description="steps")
    kl: dict[str, Any] = Field({"coef": 0.2, "target": None}, description="leash")
    rollouts: int = Field(64, description="answers in a buffer")


def make(out: Path, stage: str, inputs: list[Input], *, seed: int = 3, **settings: Any) -> Run:
    config = FakeConfig(out=out, name="frogs", seed=seed, **settings)
    return Run.create(stage, config, inputs, argv=["/venv/bin/heed", stage, "tiny", f"seed={seed}", "name=frogs"])


def close(run: Run, role: str, text: str, rows: int | None = None, seconds: float = 61.0) -> None:
    path = run.path / f"{role}.txt"
    path.write_text(text, encoding="utf-8")
    run.add_output(role, path, rows)
    run.finish()
    run.info.seconds = seconds
    run._save()


def loss_curve(run: Run, steps: int, start: float, end: float, noise: float, rng: random.Random) -> None:
    for step in range(1, steps + 1):
        fall = math.exp(-4 * step / steps)
        values = {"loss/train": end + (start - end) * fall + rng.gauss(0, noise), "lr": 2e-3 * (1 - step / steps)}
        values |= {"grad_norm": abs(rng.gauss(1.0, 0.3)), "tokens": 2048}
        if step % 25 == 0:
            values["loss/held_out"] = end + 0.05 + (start - end) * fall
        run.metrics(step, values, seconds=step * 0.31)


def ppo_curves(run: Run, steps: int, rng: random.Random, *, healthy: bool = True) -> None:
    for step in range(1, steps + 1):
        share = step / steps
        kl = 0.15 * share if healthy else 3.0 * share**3
        reward = (1.6 if healthy else 4.0) * (1 - math.exp(-3 * share)) + rng.gauss(0, 0.12)
        nll = 2.1 - 0.4 * share if healthy else 2.1 - 1.7 * share
        values = {
            "reward/mean": reward,
            "reward/std": 1.0 - 0.2 * share + rng.gauss(0, 0.03),
            "reward/p01": reward - 2.3 + rng.gauss(0, 0.2),
            "reward/p50": reward + 0.05,
            "reward/p99": reward + 1.9 + rng.gauss(0, 0.2),
            "kl/mean_nats": 24 * kl + rng.gauss(0, 0.15),
            "kl/token_nats": kl + rng.gauss(0, 0.006),
            "kl/k3_token_nats": abs(kl + rng.gauss(0, 0.004)),
            "kl/coef": 0.2,
            "length/mean": 21 + 6 * share + rng.gauss(0, 0.7),
            "length/truncated": max(0.0, 0.02 + rng.gauss(0, 0.01)),
            "nll/policy": nll + rng.gauss(0, 0.03),
            "nll/reference": 2.1 + 0.1 * share + rng.gauss(0, 0.03),
            "perplexity/policy": math.exp(nll),
            "perplexity/reference": math.exp(2.1 + 0.1 * share),
            "entropy/mean": 1.9 - 0.4 * share + rng.gauss(0, 0.02),
            "text/distinct_2": 0.61 - 0.05 * share + rng.gauss(0, 0.01),
            "text/repetition_4": max(0.0, 0.01 + rng.gauss(0, 0.004)),
            "loss/policy": rng.gauss(-0.002, 0.01),
            "loss/value": 0.9 * math.exp(-2 * share) + abs(rng.gauss(0, 0.05)),
            "loss/mix": 2.4 + rng.gauss(0, 0.05),
            "policy/grad_norm": abs(rng.gauss(0.5, 0.1)),
            "critic/grad_norm": abs(rng.gauss(2.0, 0.6)),
            "policy/ratio": 1 + rng.gauss(0, 2e-4),
            "policy/clip_fraction": abs(rng.gauss(0.001, 0.0006)),
            "critic/explained_variance": min(0.95, 0.2 + 0.6 * share),
            "first/ratio": 1.0,
            "time/collect_seconds": 0.21 + abs(rng.gauss(0, 0.02)),
            "time/learn_seconds": 0.17 + abs(rng.gauss(0, 0.02)),
            "tokens": 1400 + round(300 * share),
        }
        if step % 20 == 0:
            rate = 0.5 + 0.2 * math.sin(min(share, 1.0) * math.pi / 2) - (0 if healthy else 0.4 * share**2)
            values |= {"watch/win_rate": rate, "watch/win_rate_low": rate - 0.07, "watch/win_rate_high": rate + 0.07}
            values |= {"watch/win_rate_by_reward": 0.5 + 0.4 * share, "watch/gold": 0.55 + 0.2 * share}
            values |= {"watch/reward": reward, "watch/length": 22 + 5 * share}
        run.metrics(step, values, seconds=step * 0.4)


def counted(wins: int, ties: int, losses: int) -> list[float]:
    return [WIN] * wins + [TIE] * ties + [LOSS] * losses


def evaluation_results() -> dict[str, Any]:
    matched = win_rate(counted(160, 24, 88))
    settings = [
        Setting("temperature 1", win_rate(counted(345, 22, 133)), matched, 1.0, 1.0, 26.3, 22.1, 0.748, 0.581),
        Setting("greedy", win_rate(counted(291, 60, 149)), None, 0.0, 0.0, 25.0, 21.4, 0.771, 0.690),
        Setting(
            "each at its best development temperature",
            win_rate(counted(312, 41, 147)),
            win_rate(counted(148, 30, 92)),
            0.3,
            0.0,
            25.2,
            21.4,
            0.776,
            0.690,
            counts=True,
        ),
    ]
    text = describe([after for _, _, after in PROMPTS], ended=[True] * len(PROMPTS)).to_dict()
    return {
        "settings": [row.to_dict() for row in settings],
        "win_rate": settings[-1].win_rate.to_dict(),
        "decided_by": "gold",
        "kl_nats": 3.61,
        "kl_nats_per_token": 0.141,
        "perplexity": 5.31,
        "perplexity_against": 9.02,
        "reward": {"mean": 1.58, "std": 0.9},
        "reward_against": {"mean": 0.02, "std": 1.0},
        "text": text,
        "text_against": describe([before for _, before, _ in PROMPTS], ended=[True] * len(PROMPTS)).to_dict(),
    }


def sample_rows(step: int) -> Iterator[dict[str, Any]]:
    for place, (prompt, before, after) in enumerate(PROMPTS):
        answer = before if step == 0 else after if step >= 100 else before + " …"
        yield {
            "prompt": prompt,
            "answer": answer,
            "before": before,
            "reward": 0.1 * place + step / 150,
            "gold": min(1.0, 0.4 + step / 400),
        }


def accuracy_results() -> dict[str, Any]:
    return {
        "accuracy": {"estimate": 0.716, "low": 0.694, "high": 0.737, "n": 3072},
        "prompts": 512,
        "ties": 40,
        "ece": 0.031,
        "temperature": 1.2,
        "length_correlation": 0.08,
        "by_margin": [
            {"low": 0.0, "high": 0.3, "n": 614, "accuracy": 0.55, "confidence": None},
            {"low": 0.3, "high": 2.9, "n": 2458, "accuracy": 0.757, "confidence": None},
        ],
        "by_length": [{"low": -21.0, "high": 0.0, "n": 0, "accuracy": None, "confidence": None}],
        "by_source": {"village": {"n": 3072, "accuracy": 0.716}},
        "by_criterion": {"helpful": {"n": 2000, "accuracy": 0.75}, "harmless": {"n": 1072, "accuracy": 0.652}},
    }


def build(out: Path, *, healthy: bool = True) -> dict[str, Path]:
    """Write the chain under `out`; returns the directory of each stage's run."""
    rng = random.Random(11)
    village = make(out, "village", [])
    village.note(documents=20000, prompts=6000)
    close(village, "corpus", "the corpus", 20000, 8.2)
    base = make(out, "pretrain", [Input("corpus", village.path)])
    loss_curve(base, 400, 6.8, 2.0, 0.05, rng)
    base.note(parameters=1_210_432, held_out_loss=2.05, best_step=400)
    close(base, "model", "base weights")
    sft = make(out, "sft", [Input("model", base.path), Input("demonstrations", village.path)])
    loss_curve(sft, 150, 2.6, 1.2, 0.04, rng)
    sft.note(parameters=1_210_432, held_out_loss=1.24, best_step=125)
    close(sft, "model", "sft weights", None, 33.0)
    rankings = make(out, "label", [Input("model", sft.path), Input("prompts", village.path)])
    close(rankings, "comparisons", "comparisons", 6144, 24.0)
    reward = make(out, "reward", [Input("model", sft.path), Input("comparisons", rankings.path)])
    loss_curve(reward, 120, 0.7, 0.5, 0.03, rng)
    advice = {"start": False, "line": "PPO should not start: <b>."}
    reward.note(parameters=1_210_432, accuracy=accuracy_results(), advice=advice)
    close(reward, "model", "reward weights", None, 34.0)
    given = [Input("model", sft.path), Input("reward_model", reward.path), Input("prompts", village.path)]
    ppo = make(out, "ppo", given, model=str(sft.path), kl={"coef": 0.2, "target": None})
    ppo_curves(ppo, 200, rng, healthy=healthy)
    for step in (0, 40, 80, 120, 160, 200):
        ppo.samples(step, sample_rows(step))
    lines = [
        '{"line": 17, "reason": "invalid JSON: unterminated string", "excerpt": "{\\"id\\": \\"p17\\", \\"mess"}',
        '{"line": 231, "reason": "roles out of order: message 2 is from \'user\'", "excerpt": "{\\"id\\": 1}"}',
    ]
    (ppo.path / "quarantine-prompts.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    close(ppo, "model", "policy weights", None, 83.0)
    inputs = [Input("model", ppo.path), Input("against", sft.path), Input("prompts", village.path)]
    evaluation = make(out, "evaluate", inputs)
    evaluation.note(**evaluation_results())
    close(evaluation, "figures", "figures", None, 41.0)
    made = (village, base, sft, rankings, reward, ppo, evaluation)
    return {run.info.stage: run.path for run in made}


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return build(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="session")
def collapsed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return build(tmp_path_factory.mktemp("collapsed"), healthy=False)
