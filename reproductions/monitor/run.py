"""The collapse detector on runs it has not seen, half of them made to fail in ways not used for its calibration.

Thresholds are calibrated on two runs of seed 0 (PPO-max and plain PPO, `reproductions/stability`) and frozen; the runs
here have seeds 1 and 2. Which of them failed is decided by the gold score on unseen prompts alone, not by what was
meant to happen. The detector is judged without the win rate (S1 to S4, what anybody has) and with it (S5 by gold),
beside single signals and a rule on the loss curves.

    python reproductions/monitor/run.py --jobs 2 --out runs
    python reproductions/monitor/run.py --collect --out runs
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from shards import Shard, asked, found, gather, lost_tenth, run_shards

from heedlm.evals.winrate import wilson
from heedlm.monitor import Detector, Thresholds, calibrate
from heedlm.runs import Run

HERE = Path(__file__).parent
STEPS, CAP = 200, 32
LENGTH = ("guard=off", f"steps={STEPS}", "cadence.evaluate=10", "watch=250")
FAULTY = (sys.executable, str(HERE / "faulty.py"))
SIGNALS = {"S1": ("reward/mean", "reward/std"), "S2": ("length/mean", "length/truncated"), "S3": ("nll/policy",)}
SIGNALS |= {"S4": ("kl/token_nats",), "S5": ("watch/win_rate", "watch/drop_low")}
Row = Mapping[str, float]


def shards() -> list[Shard]:
    """Twenty runs that ought to go well, and thirty-four that ought not to."""
    made = []
    for seed in (1, 2):
        for rate in ("1e-4", "2e-4", "3e-4"):
            for beta in (0.2, 0.3, 0.4):
                words = ("ppo_max", f"optim.lr={rate}", f"kl.coef={beta}", *LENGTH)
                made.append(Shard(f"sound-lr{rate}-beta{beta}", seed, words))
        made.append(Shard("sound-64", seed, ("ppo_max", "rollouts=64", "minibatch=32", *LENGTH)))
        for fault in ("flipped", "length", "wrong_token", "sampler", "no_eos"):
            made.append(Shard(f"fault-{fault}", seed, ("ppo_max", *LENGTH), (*FAULTY, fault)))
        made.append(Shard("rate-1e-3", seed, ("ppo_max", "optim.lr=1e-3", *LENGTH)))
        made.append(Shard("rate-3e-3", seed, ("ppo_max", "optim.lr=3e-3", *LENGTH)))
        made.append(Shard("beta-0", seed, ("ppo_max", "kl.coef=0", *LENGTH)))
        made.append(Shard("beta-0-clip-none", seed, ("ppo_max", "kl.coef=0", "shaping.scale=none", *LENGTH)))
        made.append(Shard("beta-0-passes-4", seed, ("ppo_max", "kl.coef=0", "passes=4", *LENGTH)))
        # A leash of 0.2 holds the policy against most faults; with a tenth of it they do harm.
        for fault in ("flipped", "length", "wrong_token", "sampler", "no_eos"):
            words = ("ppo_max", "kl.coef=0.02", *LENGTH)
            made.append(Shard(f"loose-{fault}", seed, words, (*FAULTY, fault)))
        for rate in ("1e-4", "3e-4"):
            made.append(Shard(f"plain-lr{rate}", seed, ("plain", f"optim.lr={rate}", *LENGTH)))
    return made


def calibration(out: Path) -> Thresholds:
    """Thresholds from seed 0, kept in thresholds.json once made."""
    file = HERE / "thresholds.json"
    if file.exists():
        return Thresholds.model_validate_json(file.read_text())
    runs = {name: found(Shard(name, 0, ()), out) for name in ("ppo_max", "plain")}
    if None in runs.values():
        raise SystemExit("run reproductions/stability/run.py --shards ppo_max-0,plain-0 first")
    healthy, failing = (run.read_metrics()[:300] for run in runs.values() if run is not None)
    limits = calibrate([healthy], [failing])
    file.write_text(limits.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return limits


def verdicts(rows: Sequence[Row], limits: Thresholds) -> dict[str, list[int | None]]:
    """First warning and collapse of each rule."""
    s5 = SIGNALS["S5"]
    rules: dict[str, tuple[Sequence[Row], Thresholds]] = {
        "detector, S1 to S4": (_without(rows, s5), limits),
        "detector with S5": (_from_the_start(rows), limits),
    }
    alone = limits.model_copy(update={"together": 1})
    for name in SIGNALS:
        # S5 asks for the reward too; S1, which is made of it, is then put out of reach.
        kept = (*SIGNALS[name], *(SIGNALS["S1"] if name == "S5" else ()))
        others = [key for keys in SIGNALS.values() for key in keys if key not in kept]
        far = alone.model_copy(update={"reward_jump": 1e9}) if name == "S5" else alone
        rules[f"{name} alone"] = (_without(_from_the_start(rows), others), far)
    found = {}
    for name, (given, thresholds) in rules.items():
        detector = Detector(thresholds, CAP, start_win_rate=0.5)
        warned = fell = None
        for row in given:
            verdict = detector.observe(int(row["step"]), row)
            if verdict is not None and verdict.state != "healthy":
                warned = warned or verdict.step
                fell = fell or (verdict.step if verdict.state == "collapsed" else None)
        found[name] = [warned, fell]
    for name in ("loss/policy", "loss/value"):
        found[f"{name} alone"] = [None, loss_alarm(rows, name)]
    return found


def loss_alarm(rows: Sequence[Row], name: str, first: int = 30, window: int = 10, sigmas: float = 4.0) -> int | None:
    """First step at which a loss's window mean lies four standard errors from its first thirty steps'."""
    start = [row[name] for row in rows[:first]]
    centre, spread = fmean(start), stdev(start)
    for last in range(first + window, len(rows) + 1):
        mean = fmean(row[name] for row in rows[last - window : last])
        if abs(mean - centre) > sigmas * spread / window**0.5:
            return int(rows[last - 1]["step"])
    return None


def _from_the_start(rows: Sequence[Row]) -> list[Row]:
    """The fall of the win rate is one from the start's ½ too; runs made before that was so do not have it."""
    found = []
    for row in rows:
        if "watch/drop_low" in row:
            row = {**row, "watch/drop_low": max(row["watch/drop_low"], 0.5 - row["watch/win_rate_high"])}
        found.append(row)
    return found


def _without(rows: Sequence[Row], keys: Sequence[str]) -> list[Row]:
    return [{key: value for key, value in row.items() if key not in keys} for row in rows]


def judge(rows: Sequence[Mapping[str, Any]], rule: str) -> dict[str, Any]:
    """Detection, delay and false alarms of one rule, with Wilson's 95 % intervals."""
    failed = [row for row in rows if row["lost_tenth"] is not None]
    sound = [row for row in rows if row["lost_tenth"] is None]
    at = {row["shard"]: row["verdicts"][rule] for row in rows}
    delays = [at[row["shard"]][1] - row["lost_tenth"] for row in failed if at[row["shard"]][1] is not None]
    leads = [row["lost_tenth"] - at[row["shard"]][0] for row in failed if at[row["shard"]][0] is not None]
    in_time = [at[row["shard"]][0] is not None and at[row["shard"]][0] <= row["lost_tenth"] for row in failed]
    return {
        "failing runs that reach collapsed": _share([at[row["shard"]][1] is not None for row in failed]),
        "failing runs warned of before gold lost a tenth": _share(in_time),
        "sound runs that reach collapsed": _share([at[row["shard"]][1] is not None for row in sound]),
        "sound runs that are warned of": _share([at[row["shard"]][0] is not None for row in sound]),
        "median steps from the loss to collapsed": median(delays) if delays else None,
        "median steps from the first warning to the loss": median(leads) if leads else None,
    }


def _share(found: Sequence[bool]) -> dict[str, Any]:
    low, high = wilson(sum(found), len(found)) if found else (0.0, 1.0)
    return {"of": len(found), "are": sum(found), "low": round(low, 3), "high": round(high, 3)}


def claims(judged: Mapping[str, Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The aims, for the detector without and with the win rate."""
    aims: dict[str, Callable[[float], bool]] = {
        "failing runs that reach collapsed": lambda share: share >= 0.95,
        "failing runs warned of before gold lost a tenth": lambda share: share >= 0.90,
        "sound runs that reach collapsed": lambda share: share <= 0.05,
        "sound runs that are warned of": lambda share: share <= 0.15,
    }
    found: dict[str, Any] = {"at least 40 runs": {"runs": len(rows), "holds": len(rows) >= 40}}
    for rule in ("detector, S1 to S4", "detector with S5"):
        for aim, reached in aims.items():
            share = judged[rule][aim]
            rate = share["are"] / share["of"] if share["of"] else float("nan")
            found[f"{rule}: {aim}"] = {**share, "holds": bool(share["of"]) and reached(rate)}
    return found


def picture(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Every run as a line: when gold was lost, when the detector warned, when it said collapsed."""
    import matplotlib.pyplot as plt

    ordered = sorted(rows, key=lambda row: (row["lost_tenth"] is None, row["shard"]))
    figure, axis = plt.subplots(figsize=(10, 0.22 * len(ordered) + 1.2))
    marks = {"gold lost a tenth": ("k", "|"), "first warning": ("tab:orange", "o"), "collapsed": ("tab:red", "X")}
    for place, row in enumerate(ordered):
        warned, fell = row["verdicts"]["detector, S1 to S4"]
        axis.plot([0, row["steps"]], [place, place], color="0.85", lw=3, zorder=0)
        for (name, (colour, mark)), step in zip(marks.items(), (row["lost_tenth"], warned, fell), strict=True):
            if step is not None:
                label = name if name not in axis.get_legend_handles_labels()[1] else None
                axis.scatter(step, place, c=colour, marker=mark, s=60, label=label)
    axis.set_yticks(range(len(ordered)), [row["shard"] for row in ordered], fontsize=7)
    axis.set_xlabel("step")
    axis.set_title("Detector, S1 to S4, on unseen runs", fontsize=10)
    axis.legend(loc="lower right", fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=80)


def main() -> None:
    """Run what is asked for, then judge all that is known."""
    every = shards()
    args = asked(__doc__, every)
    run_shards(args.wanted, args.out, args.jobs)
    limits = calibration(args.out)

    def more(run: Run) -> dict[str, Any]:
        return {"verdicts": verdicts(run.read_metrics(), limits)}

    rows = [row | {"lost_tenth": lost_tenth(row)} for row in gather(HERE, every, args.out, more)]
    judged = {rule: judge(rows, rule) for rule in rows[0]["verdicts"]}
    result = {
        "command": "python reproductions/monitor/run.py",
        "thresholds": limits.model_dump(),
        "claims": claims(judged, rows),
        "rules": judged,
        "runs": {
            row["shard"]: {key: row[key] for key in ("status", "steps", "lost_tenth", "verdicts")} for row in rows
        },
    }
    (HERE / "result.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    picture(rows, HERE / "monitor.png")
    print(json.dumps(result["claims"]))


if __name__ == "__main__":
    main()
