"""Plain PPO collapses, PPO-max goes on: the same start, reward model, rates and sizes, another preset.

Source: Zheng et al. 2023, figures 4, 9 and 13 (7 B; plain PPO collapses within about 500 steps, PPO-max trains 10,000).
A collapse is a fall of the gold score on unseen prompts, not what the detector says.

    python reproductions/stability/run.py --shards ppo_max-0 --jobs 1
    python reproductions/stability/run.py --jobs 2 --out runs
    python reproductions/stability/run.py --collect
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from shards import Shard, asked, gather, lost_tenth, run_shards

from heedlm.evals.winrate import Z95

HERE = Path(__file__).parent
PROMPTS = 500
OFF = ("guard=off",)
LONG, SHORT = 10_000, 1_000


def shards() -> list[Shard]:
    """Both presets at the village's rate on three seeds; plain PPO at other rates and λ on one, to be fair to it."""
    made = [Shard("ppo_max", 0, ("ppo_max", f"steps={LONG}", "cadence.evaluate=100", *OFF))]
    made += [Shard("ppo_max", seed, ("ppo_max", f"steps={SHORT}", "cadence.evaluate=50", *OFF)) for seed in (1, 2)]
    made += [Shard("plain", seed, ("plain", "steps=300", "cadence.evaluate=10", *OFF)) for seed in (0, 1, 2)]
    for rate, steps, every in (("3e-4", 300, 10), ("1e-4", 500, 20), ("3e-5", 1200, 40)):
        for lam in (0.9, 0.95, 1.0) if rate != "3e-5" else (0.95,):
            if (rate, lam) != ("3e-4", 0.95):
                words = ("plain", f"lam={lam}", f"optim.lr={rate}", f"steps={steps}", f"cadence.evaluate={every}", *OFF)
                made.append(Shard(f"plain-lr{rate}-lam{lam}", 0, words))
    return made


def figures(row: dict[str, Any]) -> dict[str, Any]:
    """A shard in a few numbers; rates are over the SFT model, with 95 % intervals."""
    curve = row["curve"]
    best = max(range(len(curve["step"])), key=lambda i: curve["win_rate"][i])
    return {
        "shard": row["shard"],
        "steps": row["steps"],
        "collapsed_at": lost_tenth(row),
        "best_win_rate": _interval(curve["win_rate"][best]) | {"step": curve["step"][best]},
        "last_win_rate": _interval(curve["win_rate"][-1]),
        "gold": [row["gold_start"], max(curve["gold"]), curve["gold"][-1]],
        "proxy": [curve["proxy"][0], curve["proxy"][-1]],
        "kl_token": curve["kl"][-1],
        "seconds": row["seconds"],
    }


def _interval(rate: float) -> dict[str, float]:
    """Normal approximation; ties make it a little too wide."""
    half = Z95 * (rate * (1 - rate) / PROMPTS) ** 0.5
    return {"rate": rate, "low": round(rate - half, 4), "high": round(rate + half, 4)}


def claims(rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What the experiment is to show, each with what was found."""
    plain = {seed: rows.get(f"plain-{seed}") for seed in (0, 1, 2)}
    maxi = {seed: rows.get(f"ppo_max-{seed}") for seed in (0, 1, 2)}
    seeds = [seed for seed in (0, 1, 2) if plain[seed] and maxi[seed]]
    fell = {seed: plain[seed]["collapsed_at"] for seed in seeds}
    held = {seed: maxi[seed]["collapsed_at"] is None for seed in seeds}
    ratio = {seed: maxi[seed]["steps"] / fell[seed] for seed in seeds if fell[seed]}
    rates = {seed: maxi[seed]["last_win_rate"]["rate"] for seed in seeds}
    above = {seed: rates[seed] > plain[seed]["best_win_rate"]["rate"] for seed in seeds}
    tuned = [row["collapsed_at"] for key, row in rows.items() if key.startswith("plain-")]
    every = len(seeds) == 3
    return {
        "plain PPO collapses on every seed": {"at": fell, "holds": every and all(fell.values())},
        "plain PPO collapses at every rate and λ tried": {"at": tuned, "holds": bool(tuned) and all(tuned)},
        "PPO-max does not collapse, on every seed": {"held": held, "holds": every and all(held.values())},
        f"PPO-max runs {LONG:,} steps on one seed": {
            "steps": {seed: maxi[seed]["steps"] for seed in seeds},
            "holds": any(maxi[seed]["steps"] >= LONG and held[seed] for seed in seeds),
        },
        "PPO-max runs at least five times as long as plain PPO survived": {
            "ratio": ratio, "holds": every and len(ratio) == 3 and min(ratio.values()) >= 5,
        },
        "PPO-max ends with a gold win rate over SFT of at least 65 %": {
            "rates": rates, "holds": every and min(rates.values()) >= 0.65,
        },
        "PPO-max ends above plain PPO's best checkpoint": {"above": above, "holds": every and all(above.values())},
    }  # fmt: skip


def picture(rows: list[dict[str, Any]], path: Path) -> None:
    """Gold, proxy reward, KL and length of plain PPO and PPO-max, and plain PPO's beginning enlarged."""
    import matplotlib.pyplot as plt

    kinds = {"plain": "tab:red", "ppo_max": "tab:blue"}
    names = {
        "gold": "gold score, unseen prompts",
        "proxy": "reward model",
        "kl": "KL, nats a token",
        "length": "tokens",
    }
    figure, axes = plt.subplots(2, 4, figsize=(15, 6))
    for row in rows:
        kind = row["shard"].rsplit("-", 1)[0]
        if kind not in kinds:
            continue
        for column, (name, title) in enumerate(names.items()):
            for line, last in ((0, 300), (1, LONG)):
                steps = [step for step in row["curve"]["step"] if step <= last]
                label = kind if row["seed"] == 0 else None
                axes[line][column].plot(
                    steps, row["curve"][name][: len(steps)], kinds[kind], lw=1, alpha=0.8, label=label
                )
                axes[line][column].set_title(title if line == 0 else "", fontsize=10)
                axes[line][column].set_xlabel("step")
    axes[0][0].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=90)


def main() -> None:
    """Run what is asked for, then write result.json and the picture from all that is known."""
    every = shards()
    args = asked(__doc__, every)
    run_shards(args.wanted, args.out, args.jobs)
    rows = gather(HERE, every, args.out)
    table = {row["shard"]: figures(row) for row in rows}
    result = {
        "command": "python reproductions/stability/run.py",
        "prompts": PROMPTS,
        "claims": claims(table),
        "shards": table,
    }
    (HERE / "result.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    picture(rows, HERE / "stability.png")
    print(json.dumps(result["claims"]))


if __name__ == "__main__":
    main()
