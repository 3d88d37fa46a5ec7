"""Where the time of rollouts goes, function by function, and how fast attention alone reads its cache.

    PYTHONPATH=.:src .venv/bin/python benchmarks/profile_generation.py [260k|3m] [--threads 2]

The prompts of the `generation` case; needs the models that `make bench` caches.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import time
from statistics import median

import torch

from benchmarks import data, models
from heedlm.models.chat import Chat
from heedlm.models.compute import keep_freed_memory
from heedlm.models.load import load_with_tokenizer
from heedlm.ops.kernels import loops
from heedlm.rollout import Native, Sampling

ROWS, COLUMNS, REPEATS = 128, 140, 40


def bandwidth(layers: int, heads: int, kv_heads: int, dim: int) -> str:
    """One step's attention of all layers by the loops in C, alone."""
    found = loops(torch.float32)
    if found is None:
        return "no loops in C here"
    width = max(32, 512 // dim)
    shapes = ((ROWS * kv_heads, dim, width), (ROWS * kv_heads, width, dim))
    cache = [
        [(torch.randn(shapes[0]), torch.randn(shapes[1])) for _ in range(-(-COLUMNS // width))] for _ in range(layers)
    ]
    q, k, v = torch.randn(ROWS, heads + 2 * kv_heads, dim).split([heads, kv_heads, kv_heads], dim=1)
    first, taken = torch.zeros(ROWS, dtype=torch.long), []
    for _ in range(REPEATS):
        start = time.perf_counter()
        for blocks in cache:
            found.attend(q, k, v, None, blocks, first, COLUMNS - 1, dim**-0.5)
        taken.append(time.perf_counter() - start)
    read = layers * ROWS * kv_heads * COLUMNS * dim * 8
    typical = median(taken)
    return f"attention alone: {1e3 * typical:.2f} ms a step, {read / 1e6:.0f} MB, {read / typical / 1e9:.0f} GB/s"


def main() -> None:
    """A round to warm up, one timed, one profiled."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", nargs="?", default="260k", choices=["260k", "3m"])
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    model, tokenizer = load_with_tokenizer(models.folder(args.model))
    chat = Chat(tokenizer)
    if args.model == "3m":
        prompts = [chat.prompt_ids(turns) for turns in data.questions(chat, ROWS, 96)]
    else:
        prompts = data.story_starts(chat, ROWS, seed=0)
    engine, sampling = Native().bind(model, tokenizer), Sampling(max_new_tokens=128)
    engine.generate(prompts, sampling, 0)
    start = time.perf_counter()
    rollouts = engine.generate(prompts, sampling, 1)
    count = int(rollouts.response_lengths.sum())
    print(f"{count / (time.perf_counter() - start):,.0f} tokens/s")
    with cProfile.Profile() as watched:
        engine.generate(prompts, sampling, 2)
    pstats.Stats(watched).sort_stats("tottime").print_stats(14)
    config = model.config
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    print(bandwidth(config.num_hidden_layers, heads, kv_heads, config.hidden_size // heads))


if __name__ == "__main__":
    main()
