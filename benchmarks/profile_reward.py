"""Where the time of a reward-model step goes, operator by operator: what stands behind a share of the bound.

    PYTHONPATH=.:src .venv/bin/python benchmarks/profile_reward.py [float32|bfloat16] [--threads 1]

hh-rlhf pairs and the 3 M model of the `reward` case; needs the models that `make bench` caches.
"""

from __future__ import annotations

import argparse
import time

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks import data, models
from benchmarks.sides.heed import OPTIM, ranking
from heedlm.models.chat import Chat
from heedlm.models.forward import compute_in
from heedlm.models.load import load_with_tokenizer
from heedlm.models.scalar import new_reward
from heedlm.objectives import BradleyTerry
from heedlm.stages.reward import Config
from heedlm.train.learner import Learner
from heedlm.train.ranking import RankingTraining


def main() -> None:
    """Two steps to warm up, one timed, one profiled."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("precision", nargs="?", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    policy, tokenizer = load_with_tokenizer(models.folder("3m"))
    pairs = data.pairs(Chat(tokenizer), 64, 512, toy=False)
    model = new_reward(policy, seed=0).requires_grad_(True)
    compute_in(model, torch.bfloat16 if args.precision == "bfloat16" else None)
    rankings = [ranking(pair.prompt, [pair.chosen, pair.rejected]) for pair in pairs]
    learner, budget = Learner(model, OPTIM, 100), Config.model_fields["budget"].default
    method = RankingTraining(learner, rankings, [], BradleyTerry(), batch=16, budget=budget, seed=0)
    for step in range(2):
        method.step(step)
    began = time.perf_counter()
    tokens = method.step(2)["tokens"]
    print(f"{tokens / (time.perf_counter() - began):,.0f} tokens/s")
    with profile(activities=[ProfilerActivity.CPU]) as found:
        method.step(3)
    print(found.key_averages().table(sort_by="self_cpu_time_total", row_limit=12, max_name_column_width=50))


if __name__ == "__main__":
    main()
