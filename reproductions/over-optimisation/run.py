"""Over-optimisation: the reward model's score goes on rising while the true score turns.

Best of n and PPO with several β on the village, each against the KL it spends. Source: Gao et al. 2023, figures 1, 2;
the laws are fitted as in docs/methods.md §7.2.

    python reproductions/over-optimisation/run.py --jobs 2 --out runs
    python reproductions/over-optimisation/run.py --collect --out runs
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from shards import Shard, chain, gather, run_shards

from heedlm import runs
from heedlm.evals.overoptimisation import Law, fit, gold_peak
from heedlm.models.chat import Chat
from heedlm.models.load import load_with_tokenizer
from heedlm.ops.ranking import best_of_n_kl, unbiased_best_of_n
from heedlm.records import Prompt, read
from heedlm.rewards import Episodes, GoldReward, Learned
from heedlm.rollout import Native, Sampling
from heedlm.rollout.answering import answer
from heedlm.runs import Run

HERE = Path(__file__).parent
SEEDS, BETAS, STEPS = (0, 1), (0.0, 0.05, 0.1, 0.2), 300
PROMPTS, ANSWERS, SIZES = 300, 64, (1, 2, 4, 8, 16, 32, 64)
REACH = 4.0  # a fitted peak at more than so many times the largest KL is no finding
SMOOTH = 10  # steps over which the KL of an evaluation is averaged


def shards() -> list[Shard]:
    """PPO-max with a shorter and a longer leash."""
    words = (f"steps={STEPS}", "cadence.evaluate=10", "guard=off")
    return [Shard(f"leash-{b}", seed, ("ppo_max", f"kl.coef={b}", *words)) for seed in SEEDS for b in BETAS]


def best_of_n(seed: int, out: Path) -> list[dict[str, float]]:
    """Proxy and gold of the SFT model's best of n, without bias from 64 answers to each of 300 unseen prompts."""
    base = chain(seed, out)
    model, tokenizer = load_with_tokenizer(runs.find_model(str(base["sft"])))
    chat = Chat(tokenizer)
    engine, reward = Native().bind(model, tokenizer), Learned(path=str(base["reward"])).open(chat)
    prompts = read(base["village"] / "prompts_test.jsonl", Prompt, limit=PROMPTS).rows
    columns: dict[str, list[torch.Tensor]] = {"proxy": [], "gold": []}
    for number in range(ANSWERS):
        texts, rollouts = answer(engine, chat, prompts, Sampling(max_new_tokens=32), seed * 1000 + number)
        episodes = Episodes(prompts, texts, rollouts)
        columns["proxy"].append(reward.score(episodes).total)
        columns["gold"].append(GoldReward().score(episodes).total)
    proxy, gold = (torch.stack(column, 1).double() for column in columns.values())
    return [
        {
            "n": n,
            "kl": best_of_n_kl(n),
            "proxy": round(float(unbiased_best_of_n(proxy, proxy, n).mean()), 4),
            "gold": round(float(unbiased_best_of_n(proxy, gold, n).mean()), 4),
        }
        for n in SIZES
    ]


def path_of(run: Run) -> dict[str, Any]:
    """KL an answer at each evaluation, and symptoms in the text there."""
    rows = run.read_metrics()
    kl = [
        round(fmean(r["kl/mean_nats"] for r in rows[max(0, place + 1 - SMOOTH) : place + 1]), 4)
        for place, row in enumerate(rows)
        if "watch/gold" in row
    ]
    last = max(row["step"] for row in run.read_samples())
    shown = [row["answer"] for row in run.read_samples() if row["step"] == last]
    return {"kl_answer": kl, "last_answers": shown[:6]}


def law(method: str, kl: Sequence[float], gain: Sequence[float]) -> dict[str, Any]:
    """The fitted law and its peak; none where it lies far beyond what was measured."""
    found: Law = fit(method, kl, gain)  # type: ignore[arg-type]
    reached = found.peak_kl <= REACH * max(kl)
    return {
        "alpha": found.alpha,
        "beta": found.beta,
        "peak_kl": found.peak_kl if reached else None,
        "peak_gain": found.peak[1] if reached else None,
    }


def symptoms(row: Mapping[str, Any]) -> dict[str, Any]:
    """What the text was like at the best gold score and at the end."""
    curve = row["curve"]
    best = max(range(len(curve["gold"])), key=lambda place: curve["gold"][place])
    names = ("length", "truncated", "nll", "distinct_2", "repetition_4")
    return {name: [curve[name][best], curve[name][-1]] for name in names} | {"last_answers": row["last_answers"]}


def summary(rows: Sequence[Mapping[str, Any]], best: Mapping[str, Any]) -> dict[str, Any]:
    """Curves, laws, peaks, and whether proxy rose while gold fell."""
    found: dict[str, Any] = {"best_of_n": {}, "ppo": {}}
    for seed, points in best.items():
        kl, proxy, gold = ([point[name] for point in points] for name in ("kl", "proxy", "gold"))
        gains = [value - gold[0] for value in gold]
        found["best_of_n"][seed] = {
            "points": points,
            "law": law("best_of_n", kl[1:], gains[1:]),
            "peak": vars(gold_peak(kl, proxy, gold)),
        }
    for row in rows:
        curve = row["curve"]
        kl, proxy, gold = row["kl_answer"], curve["proxy"], curve["gold"]
        start = row["gold_start"]
        entry: dict[str, Any] = {"kl": kl, "proxy": proxy, "gold": gold, "gold_start": start, "symptoms": symptoms(row)}
        entry["peak"] = vars(gold_peak(kl, proxy, gold))
        entry["law"] = law("rl", kl, [value - start for value in gold])
        found["ppo"][row["shard"]] = entry
    return found


def claims(found: Mapping[str, Any]) -> dict[str, Any]:
    """Past its peak gold falls while the proxy still rises."""

    def turned(proxy: Sequence[float], gold: Sequence[float], by: float) -> bool:
        peak = max(range(len(gold)), key=lambda place: gold[place])
        return gold[peak] - gold[-1] >= by and proxy[-1] > proxy[peak]

    best = {
        seed: turned([p["proxy"] for p in entry["points"]], [p["gold"] for p in entry["points"]], 0.01)
        for seed, entry in found["best_of_n"].items()
    }
    ppo = {key: turned(entry["proxy"], entry["gold"], 0.05) for key, entry in found["ppo"].items()}
    loose = [value for key, value in ppo.items() if key.startswith("leash-0.0-")]
    tight = [value for key, value in ppo.items() if key.startswith("leash-0.2-")]
    return {
        "best of n: gold turns while the proxy rises": {"seeds": best, "holds": bool(best) and all(best.values())},
        "PPO without a leash: gold turns while the proxy rises": {"runs": ppo, "holds": bool(loose) and all(loose)},
        "PPO with β 0.2: it does not": {"holds": bool(tight) and not any(tight)},
    }


def picture(found: Mapping[str, Any], path: Path) -> None:
    """Proxy and gold against the distance from the start."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(11, 7), sharex="col")
    for seed, entry in found["best_of_n"].items():
        d = [point["kl"] ** 0.5 for point in entry["points"]]
        for line, name in enumerate(("proxy", "gold")):
            axes[line][0].plot(d, [point[name] for point in entry["points"]], marker="o", label=f"seed {seed}")
    colours = dict(zip(map(str, BETAS), ("tab:red", "tab:orange", "tab:green", "tab:blue"), strict=True))
    for key, entry in found["ppo"].items():
        beta, seed = key.removeprefix("leash-").rsplit("-", 1)
        d = [max(kl, 0.0) ** 0.5 for kl in entry["kl"]]
        for line, name in enumerate(("proxy", "gold")):
            label = f"β {beta}" if seed == "0" else None
            axes[line][1].plot(d, entry[name], marker=".", lw=0.8, color=colours[beta], label=label)
    for line, name in enumerate(("reward model", "gold, unseen prompts")):
        axes[line][0].set_ylabel(name)
    for column, name in enumerate(("best of n", "PPO")):
        axes[0][column].set_title(name)
        axes[0][column].legend()
        axes[1][column].set_xlabel("√KL to the SFT model, √nats an answer")
    figure.tight_layout()
    figure.savefig(path, dpi=80)


def main() -> None:
    """Run what is asked for, then write what is known."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--jobs", type=int, default=2, help="runs side by side, one thread each")
    parser.add_argument("--out", type=Path, default=Path("runs"))
    parser.add_argument("--collect", action="store_true", help="run nothing")
    args = parser.parse_args()
    file = HERE / "best-of-n.json"
    best = json.loads(file.read_text()) if file.exists() else {}
    if not args.collect:
        run_shards(shards(), args.out, args.jobs)
        for seed in SEEDS:
            if str(seed) not in best:
                best[str(seed)] = best_of_n(seed, args.out)
                file.write_text(json.dumps(best, indent=1) + "\n", encoding="utf-8")
    found = summary(gather(HERE, shards(), args.out, path_of), best)
    result = {"command": "python reproductions/over-optimisation/run.py", "claims": claims(found), **found}
    (HERE / "result.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    picture(found, HERE / "over-optimisation.png")
    print(json.dumps(result["claims"]))


if __name__ == "__main__":
    main()
