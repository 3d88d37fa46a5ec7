"""TRL's side: its trainers, given the same rows already tokenised, without checkpoints, reports or evaluation.

The first optimiser steps run on rows of their own; what is timed starts with a step and ends with one.
"""

from __future__ import annotations

import tempfile
import time
from typing import Any

import torch
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback
from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer, RLOOConfig, RLOOTrainer, SFTConfig, SFTTrainer

from benchmarks import data, models
from benchmarks.flops import Decoder, training
from benchmarks.job import Job, Outcome, Pass, answered
from benchmarks.sides.heed import mean, pair_work
from heedlm.models.chat import Chat
from heedlm.models.load import load_with_tokenizer
from heedlm.models.scalar import new_reward


class Clock(TrainerCallback):
    """Seconds from the start of step `after` + 1 to the end of the last one."""

    def __init__(self, after: int = 0) -> None:
        self.after, self.began, self.ended = after, 0.0, 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **known: Any) -> None:
        """Note the first timed step's start."""
        if state.global_step == self.after:
            self.began = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **known: Any) -> None:
        """Note the end of the newest step."""
        self.ended = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Time of the counted steps."""
        return self.ended - self.began


def arguments(job: Job, **more: Any) -> dict[str, Any]:
    """What all trainers are told; precision is autocast unless `options["weights"]` puts the weights in it."""
    mixed = job.precision == "bfloat16" and job.options.get("weights", "float32") == "float32"
    return {
        "output_dir": tempfile.mkdtemp(prefix="bench-"),
        "use_cpu": True,
        "bf16": mixed,
        "report_to": "none",
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
        "gradient_checkpointing": False,
        "learning_rate": 1e-4,
        "lr_scheduler_type": "constant",
        "num_train_epochs": 1,
        "seed": job.seed,
        "dataloader_pin_memory": False,
        "optim": "adamw_torch_fused",
        "torch_compile": job.options.get("torch_compile", False),
        **more,
    }


def load(job: Job) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The job's model, in bfloat16 weights only where the options ask for it, and its tokenizer."""
    return load_with_tokenizer(models.folder(job.model), dtype=job.options.get("weights", "float32"))


def sampler(job: Job) -> dict[str, Any]:
    """Rows in random order, or those of similar length together, by a column that must then not be dropped."""
    if not job.options.get("group_by_length", False):
        return {}
    return {
        "train_sampling_strategy": "group_by_length",
        "length_column_name": "length",
        "remove_unused_columns": False,
    }


def split(job: Job, rows: int) -> dict[str, int]:
    """An optimiser step over `rows` in microbatches of `options["microbatch"]`."""
    micro = min(job.options.get("microbatch", rows), rows)
    return {"per_device_train_batch_size": micro, "gradient_accumulation_steps": max(1, rows // micro)}


def sft(job: Job) -> Outcome:
    """SFTTrainer, padded or packed; the tokens of a step are about `length` · `batch` in both."""
    model, tokenizer = load(job)
    shape, known, chat = Decoder.of(model.config), job.settings, Chat(tokenizer)
    rows = data.demonstrations(chat, known["warm"] + known["rows"], known["longest"], toy=job.model == "toy")
    timed = rows[known["warm"] :]
    packed = job.options.get("packing", False)
    if packed:
        length = job.options.get("length", known["length"])
        extra = {"packing": True, "packing_strategy": "bfd", "max_length": length}
        per_step = max(1, known["length"] * known["batch"] // length)
    else:
        extra = {"max_length": None}
        per_step = round(known["length"] * known["batch"] / mean(data.lengths(timed)))

    def trained(part: list[Any]) -> tuple[Clock, int]:
        clock = Clock()
        config = SFTConfig(**arguments(job, **split(job, per_step), **(sampler(job) if not packed else {}), **extra))
        SFTTrainer(
            model=model, args=config, processing_class=tokenizer, callbacks=[clock], train_dataset=sft_rows(part)
        ).train()
        return clock, sum(data.lengths(part))

    trained(rows[: known["warm"]])
    clock, tokens = trained(timed)
    flops = training(shape.rows(data.lengths(timed), sum(sum(row.mask[1:]) for row in timed)))
    return Outcome([Pass(clock.seconds, tokens, flops)], {"row_tokens_mean": mean(data.lengths(timed))})


def sft_rows(rows: list[Any]) -> Dataset:
    """Token ids with labels: -100 where the loss does not count."""
    labels = [[i if m else -100 for i, m in zip(r.ids, r.mask, strict=True)] for r in rows]
    return Dataset.from_dict({"input_ids": [r.ids for r in rows], "labels": labels, "length": data.lengths(rows)})


def reward(job: Job) -> Outcome:
    """RewardTrainer."""
    policy, tokenizer = load(job)
    shape, known = Decoder.of(policy.config), job.settings
    model = new_reward(policy, seed=0)
    pairs = data.pairs(Chat(tokenizer), known["warm"] + known["rows"], known["longest"], toy=job.model == "toy")

    def trained(part: list[data.Pair]) -> float:
        clock = Clock()
        config = RewardConfig(
            **arguments(job, **split(job, min(known["batch"], len(part))), **sampler(job), max_length=None)
        )
        rows = {
            "chosen_ids": [p.prompt + p.chosen for p in part],
            "rejected_ids": [p.prompt + p.rejected for p in part],
            "length": [max(p.lengths) for p in part],
        }
        held = RewardTrainer(
            model=model,
            args=config,
            processing_class=tokenizer,
            callbacks=[clock],
            train_dataset=Dataset.from_dict(rows),
        )
        held.train()
        return clock.seconds

    trained(pairs[: known["warm"]])
    timed = pairs[known["warm"] :]
    return Outcome([Pass(trained(timed), *pair_work(shape, timed, logits=False))])


def pair(job: Job) -> Outcome:
    """DPOTrainer with the starting model as reference."""
    model, tokenizer = load(job)
    reference, _ = load(job)
    shape, known = Decoder.of(model.config), job.settings
    pairs = data.pairs(Chat(tokenizer), known["warm"] + known["rows"], known["longest"], toy=job.model == "toy")

    def trained(part: list[data.Pair]) -> float:
        clock = Clock()
        config = DPOConfig(
            **arguments(job, **split(job, min(known["batch"], len(part))), **sampler(job), max_length=None)
        )
        held = _Tokenised(
            model=model, ref_model=reference, args=config, processing_class=tokenizer, callbacks=[clock],
            train_dataset=Dataset.from_dict({
                "prompt_ids": [p.prompt for p in part],
                "chosen_ids": [p.chosen for p in part],
                "rejected_ids": [p.rejected for p in part],
                "length": [max(p.lengths) for p in part],
            }),
        )  # fmt: skip
        held.train()
        return clock.seconds

    trained(pairs[: known["warm"]])
    timed = pairs[known["warm"] :]
    tokens, flops = pair_work(shape, timed, logits=True)
    # The reference reads what the policy reads, forward only: a third of what training costs.
    return Outcome([Pass(trained(timed), tokens, flops + flops // 3)])


class _Tokenised(DPOTrainer):
    """Takes rows that are token ids already: tokenising is no part of what is timed."""

    def _prepare_dataset(self, dataset: Dataset, *known: Any, **more: Any) -> Dataset:
        return dataset


class _Counted(RLOOTrainer):
    """Counts the tokens of the completions."""

    def _generate_single_turn(self, *known: Any, **more: Any) -> Any:
        completions = super()._generate_single_turn(*known, **more)
        self.lengths.append(([len(ids) for ids in known[0]], [len(ids) for ids in completions]))
        return completions

    lengths: list[tuple[list[int], list[int]]]


def rl_step(job: Job) -> Outcome:
    """RLOOTrainer: K answers to each prompt, a reward model, KL to a reference, one update."""
    model, tokenizer = load(job)
    shape, known, chat = Decoder.of(model.config), job.settings, Chat(tokenizer)
    scorer = new_reward(model, seed=0)
    warm, steps = 1, known["passes"]
    each = known["rollouts"] // known["answers"]
    asked = data.questions(chat, each * (warm + steps), known["longest_prompt"], toy=job.model == "toy")
    clock = Clock(after=warm)
    more = {k: v for k, v in job.options.items() if k.startswith(("use_", "cache_", "transformers_"))}
    config = RLOOConfig(**arguments(
        job, **split(job, known["rollouts"]), num_generations=known["answers"], temperature=1.0, top_k=0,
        max_completion_length=known["max_new_tokens"], beta=0.05, num_iterations=1, max_steps=warm + steps, **more,
    ))  # fmt: skip
    rows = [{"prompt": [{"role": m.role, "content": m.content} for m in messages]} for messages in asked]
    trainer = _Counted(
        model=model, reward_funcs=scorer, reward_processing_classes=tokenizer, args=config,
        processing_class=tokenizer, callbacks=[clock], train_dataset=Dataset.from_list(rows),
    )  # fmt: skip
    trainer.lengths = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(job.seed)
        trainer.train()
    counted = trainer.lengths[warm:]
    prompts, answers = [n for a, _ in counted for n in a], [n for _, a in counted for n in a]
    detail = answered(prompts, answers, known["max_new_tokens"]) | {"steps": steps, "critic": False}
    flops = shape.rl_step(prompts, answers, critic=False)
    return Outcome([Pass(clock.seconds, sum(answers), flops)], detail)
