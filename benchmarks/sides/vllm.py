"""vLLM's side, in an environment of its own: it wants an older transformers."""

from __future__ import annotations

import os
import time

from benchmarks import models
from benchmarks.flops import Decoder
from benchmarks.job import Job, Outcome, Pass, answered


def generation(job: Job) -> Outcome:
    """Answers to all prompts at temperature 1; the prompts come as token ids with the job."""
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    # Left to itself it keeps a core free for serving.
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", f"0-{job.threads - 1}" if job.threads > 1 else "0")
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from vllm import LLM, SamplingParams

    from benchmarks.sides.heed import prompts_of
    from heedlm.models.chat import Chat
    from heedlm.models.load import load_config
    from heedlm.models.tokenizer import load_tokenizer

    folder = models.folder(job.model)
    prompts, most = prompts_of(job, Chat(load_tokenizer(folder))), job.settings["max_new_tokens"]
    shape = Decoder.of(load_config(folder))
    held = LLM(
        str(folder), dtype=job.precision, max_num_seqs=job.options.get("max_num_seqs", 128), seed=job.seed,
        max_model_len=512, enforce_eager=job.options.get("eager", True), disable_log_stats=True,
        enable_prefix_caching=job.options.get("prefix_caching", False),
    )  # fmt: skip
    asked = [{"prompt_token_ids": prompt} for prompt in prompts]
    held.generate(asked, SamplingParams(temperature=1.0, max_tokens=min(most, 32)), use_tqdm=False)
    passes, given = [], []
    for _ in range(job.settings["passes"]):
        began = time.perf_counter()
        out = held.generate(asked, SamplingParams(temperature=1.0, max_tokens=most), use_tqdm=False)
        seconds = time.perf_counter() - began
        counts = [len(answer.outputs[0].token_ids) for answer in out]
        passes.append(Pass(seconds, sum(counts), shape.decoding(map(len, prompts), counts)))
        given += counts
    return Outcome(passes, answered([len(p) for p in prompts] * len(passes), given, most))
