"""What watching costs: the share of a PPO step's time that goes to signals, detector and log.

    PYTHONPATH=.:src .venv/bin/python benchmarks/signals.py runs/demo/seed-0-NAME [--steps 100]

Every function that computes or writes what is logged is timed within a real run of the village; entropies come out of
the same pass as the log-probs that PPO needs and are not counted.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from heedlm.config import load
from heedlm.monitor.guard import Guard
from heedlm.runs import Run
from heedlm.stages import rl
from heedlm.stages.rl import learning
from heedlm.train import loop

COUNTED = (
    (learning, "rollout_facts"),
    (learning, "reward_facts"),
    (learning, "distinct_n"),
    (learning, "repetition"),
    (learning, "explained_variance"),
    (Guard, "observe"),
    (Run, "metrics"),
    (loop, "resident_mib"),
)


def main() -> None:
    """Run, and print milliseconds a step and their share."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("demo", type=Path, help="a complete demo run")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    spent: dict[str, float] = defaultdict(float)

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def run(*given: Any, **named: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*given, **named)
            finally:
                spent[name] += time.perf_counter() - began

        return run

    for owner, name in COUNTED:
        setattr(owner, name, timed(name, getattr(owner, name)))
    setattr(rl.Reinforcement, "step", timed("step", rl.Reinforcement.step))  # noqa: B010
    base = {stage: next((args.demo / stage).iterdir()) for stage in ("village", "sft", "reward")}
    words = [f"model={base['sft']}", f"reward={base['reward']}", f"prompts={base['village']}", f"steps={args.steps}"]
    words += [f"mix.data={base['village']}", "cadence.evaluate=0", f"threads={args.threads}", "critic.pretrain=0"]
    with tempfile.TemporaryDirectory() as folder:
        rl.run(load(rl.Config, ["tiny", *words, f"out={folder}"], stage="ppo"))
    total = spent.pop("step") + spent["observe"] + spent["metrics"] + spent["resident_mib"]
    each = {name: round(1000 * seconds / args.steps, 3) for name, seconds in spent.items()}
    share = sum(spent.values()) / total
    print(json.dumps({"ms_a_step": each, "step_ms": round(1000 * total / args.steps, 1), "share": round(share, 4)}))


if __name__ == "__main__":
    main()
