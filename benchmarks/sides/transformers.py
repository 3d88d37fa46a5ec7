"""transformers' side: `generate` and `generate_batch`, set up as its documentation advises for throughput."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from benchmarks import models
from benchmarks.flops import Decoder
from benchmarks.job import Absent, Job, Outcome, Pass, answered
from benchmarks.sides.heed import prompts_of
from heedlm.models.chat import Chat
from heedlm.models.load import load_with_tokenizer


def generation(job: Job) -> Outcome:
    """Answers to all prompts at temperature 1; `options["how"]` is "generate" or "generate_batch"."""
    model, tokenizer = load_with_tokenizer(models.folder(job.model), dtype=job.precision)
    prompts, most = prompts_of(job, Chat(tokenizer)), job.settings["max_new_tokens"]
    if job.options.get("compile"):
        model.forward = torch.compile(model.forward)
    generate = batched(model, job.options) if job.options["how"] == "generate" else continuous(model, job.options)
    stop = tokenizer.eos_token_id
    generate(prompts, settings(tokenizer, min(most, 32)))
    shape, passes, given = Decoder.of(model.config), [], []
    for number in range(job.options.get("passes", job.settings["passes"])):
        torch.manual_seed(1000 * job.seed + number + 1)
        began = time.perf_counter()
        answers = generate(prompts, settings(tokenizer, most))
        seconds = time.perf_counter() - began
        counts = [ended(ids, stop) for ids in answers]
        passes.append(Pass(seconds, sum(counts), shape.decoding(map(len, prompts), counts)))
        given += counts
    return Outcome(passes, answered([len(p) for p in prompts] * len(passes), given, most))


def settings(tokenizer: PreTrainedTokenizerBase, most: int) -> GenerationConfig:
    """Plain sampling from the model's own distribution."""
    stop = tokenizer.eos_token_id
    pad = stop if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    return GenerationConfig(
        max_new_tokens=most, do_sample=True, temperature=1.0, top_k=0, top_p=1.0,
        eos_token_id=stop, pad_token_id=pad, bos_token_id=tokenizer.bos_token_id,
    )  # fmt: skip


def batched(model: PreTrainedModel, options: Any) -> Callable[[list[list[int]], GenerationConfig], list[list[int]]]:
    """`generate` over left-padded batches, prompts of similar length together."""
    size, cache = options.get("batch", 128), options.get("cache")

    @torch.inference_mode()
    def run(prompts: list[list[int]], config: GenerationConfig) -> list[list[int]]:
        config.cache_implementation = cache
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        answers: list[list[int]] = [[] for _ in prompts]
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            width = max(len(prompts[i]) for i in rows)
            ids = torch.full((len(rows), width), config.pad_token_id)
            mask = torch.zeros((len(rows), width), dtype=torch.long)
            for place, i in enumerate(rows):
                ids[place, width - len(prompts[i]) :] = torch.tensor(prompts[i])
                mask[place, width - len(prompts[i]) :] = 1
            out = model.generate(input_ids=ids, attention_mask=mask, generation_config=config)
            for i, answer in zip(rows, out[:, width:].tolist(), strict=True):
                answers[i] = answer
        return answers

    return run


def continuous(model: PreTrainedModel, options: Any) -> Callable[[list[list[int]], GenerationConfig], list[list[int]]]:
    """`generate_batch`: continuous batching over a paged cache."""
    try:
        from transformers import ContinuousBatchingConfig
    except ImportError as error:
        raise Absent(f"this version of transformers has no generate_batch: {error}") from error
    known = {name: options[name] for name in ("page_size", "num_blocks", "max_batch_tokens") if name in options}

    def run(prompts: list[list[int]], config: GenerationConfig) -> list[list[int]]:
        with contextlib.redirect_stdout(None):
            out = model.generate_batch(
                prompts, generation_config=config, continuous_batching_config=ContinuousBatchingConfig(**known)
            )
        return [answer.generated_tokens for answer in out.values()]

    return run


def ended(ids: list[int], stop: int) -> int:
    """Tokens up to and including the first that ends the answer."""
    return ids.index(stop) + 1 if stop in ids else len(ids)
