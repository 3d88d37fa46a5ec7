"""Next-token training: Heed's packed sequences, and transformers' own forward pass over the same rows, padded."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.bench import Bench, Cell, figures, shape_of
from benchmarks.gpu.clock import Clock, repeated
from benchmarks.gpu.limits import training_flops
from benchmarks.gpu.sizes import Size, lengths, make
from heedlm.models.compute import Compute
from heedlm.train.batching import Row
from heedlm.train.language import language_terms
from heedlm.train.learner import Learner
from heedlm.train.optim import Optim

HEED, RECOMPUTE, PLAIN = "Heed packed", "Heed packed, recompute", "transformers padded"


class Descent(Optim):
    """Gradient descent without moments, where AdamW's would not fit."""

    def build(self, parameters: Any) -> Any:
        """Plain gradient descent over the parameters."""
        return torch.optim.SGD([p for p in parameters if p.requires_grad], lr=self.lr)


def optim_of(size: Size) -> Optim:
    """AdamW where weights are wide; else gradient descent, for want of memory."""
    kind = Optim if size.wide else Descent
    return kind(lr=1e-6, schedule="constant", warmup=0.0)


def weights_of(size: Size) -> torch.dtype:
    """Precision that training keeps weights in; products are in bfloat16 all the same."""
    return torch.float32 if size.wide else torch.bfloat16


def compute_of(size: Size, recompute: bool) -> Compute:
    """How passes are computed: in bfloat16, which narrow weights are by themselves."""
    return Compute(precision="bfloat16" if size.wide else "float32", recompute=recompute)


def cells(size: Size) -> list[Cell]:
    """What is measured at this size."""
    return [Cell("training", size.name, who) for who in (HEED, RECOMPUTE, PLAIN)]


def measure(bench: Bench, size: Size, cell: Cell, clock: Clock) -> dict[str, Any]:
    """Real tokens a second of an optimiser step, and the share of a large product's rate that it reaches."""
    bench.forget()
    counts = lengths(size.tokens, *bench.work.rows, bench.seed + 2)
    generator = torch.Generator().manual_seed(bench.seed + 3)
    rows = [torch.randint(0, size.vocabulary, (n,), generator=generator).tolist() for n in counts]
    bench.begin_peak()
    model = make(size, bench.device, weights_of(size), bench.seed).train()
    step = _padded(model, size, rows, bench) if cell.who == PLAIN else _packed(model, size, rows, cell)
    spent = repeated(step, clock, bench.device, repeats=bench.work.repeats, warm=[step])
    flops, limits = training_flops(shape_of(size), counts), bench.limits
    found = figures(spent, sum(counts), flops / limits.flops)
    rate = flops / found["seconds"]
    found |= {
        "tflops": rate / 1e12,
        "share_of_data_sheet": rate / limits.sheet_flops if limits.sheet_flops else None,
        "optimiser": "AdamW" if size.wide else "SGD",
        "weights": str(weights_of(size)).removeprefix("torch."),
        "rows": len(counts),
        "packed": getattr(model, "_heed_packs", None) if cell.who != PLAIN else False,
    }
    return found


def _packed(model: Any, size: Size, rows: list[list[int]], cell: Cell) -> Callable[[], object]:
    """Heed's own optimiser step."""
    compute_of(size, cell.who == RECOMPUTE).apply(model)
    learner = Learner(model, optim_of(size), 100)
    groups = [[Row(ids, [True] * len(ids))] for ids in rows]
    return lambda: learner.update(language_terms(model, groups, budget=size.budget))


def _padded(model: Any, size: Size, rows: list[list[int]], bench: Bench) -> Callable[[], object]:
    """transformers' model as it is: padded rows in the order given, its own loss, the same optimiser."""
    settings = optim_of(size)
    optimizer = settings.build(model.parameters())
    batches = [
        _pad([rows[i] for i in part], bench.device) for part in padded_batches(list(map(len, rows)), size.budget)
    ]
    total = sum(int((labels[:, 1:] >= 0).sum()) for _, _, labels in batches)
    narrow = torch.autocast(bench.device.type, torch.bfloat16) if size.wide else contextlib.nullcontext()

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        for ids, mask, labels in batches:
            count = int((labels[:, 1:] >= 0).sum())
            with narrow:
                loss = model(input_ids=ids, attention_mask=mask, labels=labels, use_cache=False).loss
            (loss * count / total).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.grad_clip or 1.0)
        optimizer.step()

    return step


def padded_batches(counts: list[int], budget: int) -> list[list[int]]:
    """Row numbers in the order given, as many to a batch as fit in `budget` tokens, padding included."""
    found: list[list[int]] = []
    for i in range(len(counts)):
        group = [*found[-1], i] if found else [i]
        if found and len(group) * max(counts[j] for j in group) <= budget:
            found[-1] = group
        else:
            found.append([i])
    return found


def _pad(rows: list[list[int]], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, mask and labels of right-padded rows."""
    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows], device=device)
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=device)
    return ids, mask, ids.masked_fill(mask == 0, -100)
