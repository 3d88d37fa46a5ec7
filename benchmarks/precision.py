"""Whether training in bfloat16 learns what training in float32 does: held-out losses of three seeds, and log-probs.

    python benchmarks/precision.py runs/demo/seed-0-NAME [--seeds 3]

From the pretrained model of a demo run, fine-tuning and then a reward model, each seed in both precisions. The curves
overlap where the means differ by less than the seeds of float32 do among themselves.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from statistics import fmean
from typing import Any

from heedlm import runs
from heedlm.config import load
from heedlm.models.chat import Chat
from heedlm.models.compute import Compute
from heedlm.models.load import load_with_tokenizer
from heedlm.records import Comparison, read
from heedlm.runs import Run
from heedlm.runs.info import versions
from heedlm.stages import reward, sft
from heedlm.train.preference import answer_logps
from heedlm.train.ranking import rankings_of

RESULT = Path(__file__).parent / "results" / "precision.json"
PRECISIONS = ("float32", "bfloat16")


def made(demo: Path, stage: str) -> Path:
    """The run of a stage of the demo."""
    (path,) = (demo / stage).glob("*/run.json")
    return path.parent


def curve(run: Run) -> list[tuple[int, float]]:
    """Held-out loss at each evaluation."""
    return [(row["step"], row["loss/held_out"]) for row in run.read_metrics() if "loss/held_out" in row]


def train(demo: Path, out: Path, precision: str, seed: int) -> dict[str, list[tuple[int, float]]]:
    """The curves of one seed in one precision."""
    common = ["tiny", f"compute.precision={precision}", f"seed={seed}", "threads=1", f"out={out}"]
    village, name = made(demo, "village"), f"name={precision}-{seed}"
    words = [*common, name, f"model={made(demo, 'pretrain')}", f"data={village}", "epochs=2"]
    tuned = sft.run(load(sft.Config, [*words, "cadence.evaluate=50"], stage="sft"))
    words = [*common, name, f"model={made(demo, 'sft')}", f"data={made(demo, 'label')}"]
    judge = reward.run(load(reward.Config, [*words, "cadence.evaluate=20"], stage="reward"))
    return {"sft": curve(tuned), "reward": curve(judge)}


def compared(curves: dict[str, list[list[tuple[int, float]]]]) -> dict[str, Any]:
    """The mean of both precisions at each evaluation, and how far the seeds of float32 lie apart there."""
    steps = [step for step, _ in curves["float32"][0]]
    losses = {name: [[seed[k][1] for seed in of] for k in range(len(steps))] for name, of in curves.items()}
    means = {name: [fmean(values) for values in of] for name, of in losses.items()}
    spread = [max(values) - min(values) for values in losses["float32"]]
    gaps = [abs(a - b) for a, b in zip(*means.values(), strict=True)]
    return {
        "steps": steps,
        "mean_loss": means,
        "last_losses": {name: of[-1] for name, of in losses.items()},
        "spread_of_float32": spread,
        "largest_gap": max(gaps),
        "largest_gap_over_spread": max(gap / width for gap, width in zip(gaps, spread, strict=True)),
        "overlap": all(gap <= width for gap, width in zip(gaps, spread, strict=True)),
    }


def log_probs(demo: Path) -> dict[str, float]:
    """How far the log-probs (nats a token) of the same weights lie apart in the two precisions."""
    found = {}
    for precision in PRECISIONS:
        model, tokenizer = load_with_tokenizer(runs.find_model(str(made(demo, "sft"))))
        Compute(precision=precision).apply(model)  # type: ignore[arg-type]
        rows = read(runs.find_data(str(made(demo, "label")), "comparisons_test"), Comparison)
        _, rankings = rankings_of(Chat(tokenizer), rows, 256)
        found[precision] = answer_logps(model, rankings[:200], budget=4096)
    tokens = [[sum(row.mask) for row in ranking.rows] for ranking in rankings[:200]]
    gaps = [
        (float(b) - float(a)) / count
        for plain, rounded, counts in zip(*found.values(), tokens, strict=True)
        for a, b, count in zip(plain, rounded, counts, strict=True)
    ]
    return {
        "answers": len(gaps),
        "mean": fmean(gaps),
        "mean_absolute": fmean(map(abs, gaps)),
        "largest": max(map(abs, gaps)),
    }


def main() -> None:
    """Train, compare, and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("demo", type=Path, help="a complete demo run")
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = {
            name: [train(args.demo, Path(folder), name, seed) for seed in range(args.seeds)] for name in PRECISIONS
        }
    result = {
        "command": "python benchmarks/precision.py DEMO_RUN",
        "versions": versions(),
        "seeds": args.seeds,
        "log_probs_nats_a_token": log_probs(args.demo),
        **{
            stage: compared({name: [seed[stage] for seed in seeds] for name, seeds in found.items()})
            for stage in ("sft", "reward")
        },
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
