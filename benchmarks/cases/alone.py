"""Heed by itself: K answers of one prompt, training beside the arithmetic limit, and how costs grow."""

from __future__ import annotations

from benchmarks.cases.base import Case, Contestant, Workload

# Allowed above the ideal (P + K·R) ÷ K·(P + R), and share of a large matrix product that training must reach.
SHARED_WITHIN = 1.2
TRAINING_SHARE = 0.6

SHARED = Case(
    name="shared",
    what="A reward-model step on K answers of R tokens to a prompt of P tokens, beside the same step on K rows that "
    "have nothing in common: the ratio of their times, in one process and in turns.",
    unit="seconds of separate rows",
    workloads=(
        Workload(
            "3m",
            "3m",
            {"answers": [4, 9], "grid": [[64, 32], [128, 64], [256, 64], [256, 128]], "tokens": 6000, "passes": 3},
            quick={"grid": [[128, 64]], "tokens": 2000, "passes": 1},
            toy={"grid": [[6, 3]], "tokens": 60, "passes": 1},
        ),
    ),
    contestants={
        "heed-fp32": Contestant("heed", "heed_alone", "float32", "Heed, float32"),
        "heed-bf16": Contestant("heed", "heed_alone", "bfloat16", "Heed, bfloat16"),
    },
    rounds=2,
)

TRAINING_MFU = Case(
    name="training_mfu",
    what="Next-token training on packed alpaca: operations a second as a share of what a large matrix product "
    "reaches in the same process and precision.",
    unit="share of the matrix product",
    workloads=tuple(
        Workload(
            name,
            name,
            {"rows": 120, "longest": 256, "length": 256, "batch": 8, "passes": 2},
            quick={"rows": 40, "passes": 1},
            toy={"rows": 8, "longest": 64, "length": 64, "batch": 2, "passes": 1, "matmul_seconds": 0.1},
        )
        for name in ("3m", "30m")
    ),
    contestants={
        "heed-fp32": Contestant("heed", "heed_alone", "float32", "Heed, float32"),
        "heed-bf16": Contestant("heed", "heed_alone", "bfloat16", "Heed, bfloat16"),
    },
    rounds=2,
)

_GROWTH = {
    "generation": {
        "prompts": [8, 32, 128, 256], "answer": [16, 32, 64, 128], "answers": [1, 4, 16],
        "width": [64, 128, 256, 512], "vocabulary": [512, 2048, 8192, 32768],
    },
    "training": {
        "rows": [4, 16, 64], "length": [64, 128, 256, 512], "answers": [2, 4, 8],
        "width": [64, 128, 256, 512], "vocabulary": [512, 2048, 8192, 32768],
    },
    "base": {"prompts": 32, "prompt": 24, "answer": 48, "rows": 16, "length": 128}, "passes": 3,
}  # fmt: skip

GROWTH = Case(
    name="growth",
    what="Time of sampling and of a training step against one size after the other, the rest as in the 3 M model "
    "(random weights, float32), with exponents fitted to logarithms.",
    unit="seconds",
    workloads=(
        Workload(
            "3m",
            "3m",
            _GROWTH,
            quick={
                "generation": {"prompts": [8, 16, 32], "width": [64, 128, 256]},
                "training": {"rows": [4, 8, 16], "width": [64, 128, 256]},
                "passes": 1,
            },
            toy={
                "generation": {"prompts": [2, 4], "answers": [1, 2], "vocabulary": [310, 620]},
                "training": {"rows": [2, 4], "length": [8, 16], "answers": [2, 3]},
                "base": {"prompts": 2, "prompt": 3, "answer": 3, "rows": 2, "length": 8},
                "passes": 1,
            },
        ),
    ),
    contestants={"heed-fp32": Contestant("heed", "heed_alone", "float32", "Heed, float32")},
    rounds=1,
)
