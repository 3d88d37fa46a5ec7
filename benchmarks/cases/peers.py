"""Heed beside its peers: generation, fine-tuning, reward models, pair losses, one step of reinforcement learning.

What a peer is set up with is the fastest of what `python benchmarks/run.py --tune` tried on the processor that the
results name (results/tuning.json); what works on GPUs alone is said in README.md.
"""

from __future__ import annotations

from benchmarks.cases.base import Case, Contestant, Goal, Workload

HEED = {"fp32": "float32", "bf16": "bfloat16"}
TINY = {"warm": 4, "rows": 8, "longest": 64, "length": 64, "batch": 2, "prompts": 6, "max_new_tokens": 8, "passes": 1,
        "longest_prompt": 48, "rollouts": 6, "answers": 2}  # fmt: skip


def precisions(side: str, group: str, what: str, **more: object) -> dict[str, Contestant]:
    """The same contestant in float32 and in bfloat16."""
    return {f"{group}-{name}": Contestant(group, side, kind, f"{what}, {kind}", **more) for name, kind in HEED.items()}


def beside(workload: str, peer: str, same: float, best: float, of: str = "heed") -> tuple[Goal, ...]:
    """Goals in each precision, and each side at its best."""
    both = tuple(
        Goal(f"same precision ({name})", workload, (f"{of}-{name}",), (f"{peer}-{name}",), same) for name in HEED
    )
    ours, theirs = tuple(f"{of}-{name}" for name in HEED), tuple(f"{peer}-{name}" for name in HEED)
    return (*both, Goal("each at its best precision", workload, ours, theirs, best))


# Heed runs with its stages' defaults; these show what other microbatches would do.
BUDGETS = {f"{n} tokens a microbatch": {"budget": n} for n in (512, 1024, 2048, 4096)}
GENERATE = {"how": "generate"}
CONTINUOUS = {"how": "generate_batch", "page_size": 16, "num_blocks": 2048, "max_batch_tokens": 256, "passes": 1}
_TRIED = {
    "dynamic cache, batch 128": {"how": "generate"},
    "static cache, batch 128": {"how": "generate", "cache": "static"},
    "dynamic cache, batch 64": {"how": "generate", "batch": 64},
    "dynamic cache, batch 32": {"how": "generate", "batch": 32},
    "generate_batch, its own defaults": {"how": "generate_batch"},
    "generate_batch, pages of 16, 256 tokens": CONTINUOUS,
    "generate_batch, pages of 32, 512 tokens": {**CONTINUOUS, "page_size": 32, "max_batch_tokens": 512},
}

GENERATION = Case(
    name="generation",
    what="Sampling at temperature 1 from 128 prompts of real text, answers of natural length up to 128 tokens.",
    unit="answer tokens/s",
    workloads=(
        Workload(
            "3m",
            "3m",
            {"prompts": 128, "longest_prompt": 96, "max_new_tokens": 128, "passes": 2},
            quick={"prompts": 32, "max_new_tokens": 48, "passes": 1},
            toy=TINY,
        ),
        Workload(
            "260k",
            "260k",
            {"prompts": 128, "max_new_tokens": 128, "passes": 2},
            quick={"prompts": 32, "max_new_tokens": 48, "passes": 1},
            toy=TINY,
        ),
    ),
    contestants={
        **precisions("heed", "heed", "Heed, engine native"),
        "heed-transformers-fp32": Contestant(
            "heed", "heed", "float32", "Heed, engine transformers, float32", {"engine": "transformers"}
        ),
        **precisions("transformers", "transformers", "generate of transformers", options=GENERATE, tried=_TRIED),
        "continuous-fp32": Contestant(
            "transformers", "transformers", "float32", "generate_batch of transformers, float32", CONTINUOUS, rounds=1
        ),
        **precisions(
            "vllm",
            "vllm",
            "vLLM's CPU build",
            tried={
                "eager": {},
                "compiled": {"eager": False},
                "prefixes kept": {"prefix_caching": True},
                "256 rows": {"max_num_seqs": 256},
            },
        ),
    },
    goals=(
        *beside("3m", "transformers", 2.5, 4.0),
        *beside("260k", "transformers", 6.0, 8.0),
        *(
            Goal("ahead of vLLM", w, ("heed-fp32", "heed-bf16"), ("vllm-fp32", "vllm-bf16"), 1.0)
            for w in ("3m", "260k")
        ),
    ),
)

_MICRO = {f"microbatches of {n}": {"microbatch": n} for n in (4, 8)}
_BY_LENGTH = {f"by length, microbatches of {n}": {"microbatch": n, "group_by_length": True} for n in (2, 4, 8, 16)}

SFT = Case(
    name="sft",
    what="Fine-tuning on alpaca, loss on the answers; about 2,048 real tokens a step on both sides.",
    unit="real tokens/s",
    workloads=(
        Workload(
            "3m",
            "3m",
            {"warm": 40, "rows": 240, "longest": 256, "length": 256, "batch": 8},
            quick={"warm": 40, "rows": 60},
            toy=TINY,
        ),
    ),
    contestants={
        **precisions("heed", "heed", "Heed", tried=BUDGETS),
        **precisions(
            "trl",
            "trl",
            "SFTTrainer",
            options={"packing": True, "length": 512, "microbatch": 1},
            tried={
                "padded, random order": {},
                "padded, by length": {"group_by_length": True},
                **_MICRO,
                **_BY_LENGTH,
                **{f"packed into {n}": {"packing": True, "length": n, "microbatch": 1} for n in (256, 512, 1024, 2048)},
                "weights in bfloat16": {"packing": True, "length": 512, "microbatch": 1, "weights": "bfloat16"},
                "torch.compile": {"packing": True, "length": 512, "microbatch": 1, "torch_compile": True},
            },
        ),
    },
    goals=beside("3m", "trl", 2.0, 3.0),
)

_PAIRS = {"warm": 8, "rows": 64, "longest": 512, "batch": 16}
_PAIR_TRIES = {
    "random order": {}, "by length": {"group_by_length": True}, **_MICRO, **_BY_LENGTH,
    "weights in bfloat16": {"microbatch": 4, "group_by_length": True, "weights": "bfloat16"},
    "torch.compile": {"microbatch": 4, "group_by_length": True, "torch_compile": True},
}  # fmt: skip

REWARD = Case(
    name="reward",
    what="A reward model on hh-rlhf's pairs, 16 pairs a step; both rows of a pair count, prompt included.",
    unit="real tokens/s",
    workloads=(Workload("3m", "3m", _PAIRS, quick={"rows": 32}, toy=TINY),),
    contestants={
        **precisions("heed", "heed", "Heed", tried=BUDGETS),
        **precisions(
            "trl", "trl", "RewardTrainer", options={"microbatch": 4, "group_by_length": True}, tried=_PAIR_TRIES
        ),
    },
    goals=beside("3m", "trl", 2.0, 3.0),
)

PAIR = Case(
    name="pair",
    what="DPO on hh-rlhf's pairs with a reference, 16 pairs a step; both rows of a pair count, prompt included.",
    unit="real tokens/s",
    workloads=(Workload("3m", "3m", _PAIRS, quick={"rows": 32}, toy=TINY),),
    contestants={
        **precisions("heed", "heed", "Heed", tried=BUDGETS),
        **precisions("trl", "trl", "DPOTrainer", options={"microbatch": 4, "group_by_length": True}, tried=_PAIR_TRIES),
    },
    goals=beside("3m", "trl", 2.0, 3.0),
)

RL_STEP = Case(
    name="rl_step",
    what="One step of reinforcement learning: 64 answers (4 to each of 16 prompts, up to 128 tokens), scored by a "
    "reward model, held to a reference by KL, one pass over them in one optimiser step. TRL's RLOO has no critic; "
    "Heed's PPO reads and trains one too, and its time with it is what counts (critic_seconds: the critic's update).",
    unit="completion tokens/s",
    workloads=(
        Workload(
            "3m",
            "3m",
            {"rollouts": 64, "answers": 4, "longest_prompt": 96, "max_new_tokens": 128, "passes": 2},
            quick={"rollouts": 16, "max_new_tokens": 48, "passes": 1},
            toy=TINY,
        ),
    ),
    contestants={
        **precisions("heed_rl", "heed", "Heed's PPO", tried=BUDGETS),
        **precisions(
            "trl",
            "trl",
            "RLOOTrainer",
            options={"microbatch": 16},
            tried={
                "one batch": {},
                "microbatches of 32": {"microbatch": 32},
                "microbatches of 16": {"microbatch": 16},
                "microbatches of 8": {"microbatch": 8},
                "static cache": {"microbatch": 16, "cache_implementation": "static"},
                "continuous batching": {
                    "microbatch": 16,
                    "use_transformers_continuous_batching": True,
                    "transformers_continuous_batching_config": {
                        "page_size": 32,
                        "num_blocks": 1024,
                        "max_batch_tokens": 512,
                    },
                },
            },
        ),
        # Autocast casts every weight again for every token that generate samples; weights kept in bfloat16 avoid
        # that, at the price of AdamW losing updates that are small beside the weight.
        "trl-bf16-weights": Contestant(
            "trl", "trl", "bfloat16", "RLOOTrainer, weights in bfloat16", {"microbatch": 16, "weights": "bfloat16"}
        ),
    },
    goals=(
        *beside("3m", "trl", 2.5, 4.0)[:2],
        Goal(
            "each at its best precision",
            "3m",
            ("heed-fp32", "heed-bf16"),
            ("trl-fp32", "trl-bf16", "trl-bf16-weights"),
            4.0,
        ),
    ),
)
