"""Decoding: Heed's own engine and transformers' `generate`, the same prompts, no answer ends early."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import GenerationConfig

from benchmarks.gpu.bench import Bench, Cell, figures, shape_of
from benchmarks.gpu.clock import Clock, repeated
from benchmarks.gpu.limits import decode_seconds
from benchmarks.gpu.sizes import Size, Work, make, prompts
from heedlm.rollout import Sampling
from heedlm.rollout.native import NativeEngine

HEED, GRAPH = "Heed native", "Heed native, captured graph"
PLAIN, COMPILED = "transformers generate", "transformers generate, static cache, compiled"
_WARM = 8  # tokens of the answers that warm up


def graph_option() -> str | None:
    """The engine's parameter that captures a decode step as a CUDA graph; None where it has none."""
    return next((name for name in inspect.signature(NativeEngine).parameters if "graph" in name), None)


def cells(size: Size, work: Work) -> list[Cell]:
    """What is measured at this size."""
    who = (HEED, GRAPH, PLAIN) if graph_option() else (HEED, PLAIN)
    return [Cell("decode", size.name, name, batch) for batch in work.batches for name in who]


def compiled_cells(sizes: Sequence[Size], work: Work) -> list[tuple[Size, Cell]]:
    """What is measured in the time that all else leaves: every size at the middle batch, then the others."""
    middle = work.batches[len(work.batches) // 2]
    order = [middle, *(batch for batch in work.batches if batch != middle)]
    return [(size, Cell("decode", size.name, COMPILED, batch)) for batch in order for size in sizes]


def measure(bench: Bench, size: Size, cell: Cell, clock: Clock) -> dict[str, Any]:
    """Tokens a second of one way of decoding at one batch size."""
    compiled = cell.who == COMPILED
    if compiled:
        clock.outer.need(bench.work.compile_seconds)
        torch.compiler.reset()
    key = ("decode", size.name, compiled)
    model = bench.once(key, lambda: make(size, bench.device, torch.bfloat16, bench.seed))
    asked = prompts(size, cell.batch, bench.work.prompt, bench.seed + 1)
    answer = bench.work.answer
    run = _generate(model, bench, asked, compiled) if cell.who in (PLAIN, COMPILED) else _native(model, asked, cell)
    short = min(_WARM, answer)
    bench.begin_peak()
    spent = repeated(
        lambda: run(answer),
        clock,
        bench.device,
        repeats=bench.work.repeats,
        # A compiled step belongs to one length of the cache, and its first run is the compiler's.
        warm=[lambda: run(answer if compiled else short)] * 2,
        scale=1.0 if compiled else answer / short,
    )
    bound = decode_seconds(shape_of(size), cell.batch, bench.work.prompt, answer, bench.limits)
    return figures(spent, cell.batch * answer, bound)


def _native(model: Any, asked: list[list[int]], cell: Cell) -> Callable[[int], None]:
    option = graph_option()
    options = {} if option is None else {option: cell.who == GRAPH}
    engine = NativeEngine(model, frozenset(), max_batch=len(asked), **options)

    def run(answer: int) -> None:
        rollouts = engine.generate(asked, Sampling(max_new_tokens=answer), seed=0)
        assert bool((rollouts.response_lengths == answer).all()), "an answer ended early"

    return run


def _generate(model: Any, bench: Bench, asked: list[list[int]], compiled: bool) -> Callable[[int], None]:
    ids = torch.tensor(asked, device=bench.device)
    mask = torch.ones_like(ids)

    # Compiled code may not keep tensors of inference mode between runs.
    @(torch.no_grad() if compiled else torch.inference_mode())
    def run(answer: int) -> None:
        settings = GenerationConfig(
            max_new_tokens=answer, do_sample=True, temperature=1.0, top_k=0, top_p=1.0, pad_token_id=0,
            eos_token_id=None, cache_implementation="static" if compiled else None,
        )  # fmt: skip
        out = model.generate(input_ids=ids, attention_mask=mask, generation_config=settings)
        assert out.shape[1] == ids.shape[1] + answer, "an answer ended early"

    return run
