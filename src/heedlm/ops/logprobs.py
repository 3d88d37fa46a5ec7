"""Log-probabilities and entropies of tokens, from logits or straight from hidden states.

`token_logps` and `entropy` are the only place that shifts logits against tokens by one; the caller of
`head_logps` says which state predicts which token.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear, pad
from torch.utils.checkpoint import checkpoint

from heedlm.ops.kernels import loops_for
from heedlm.ops.masked import widen
from heedlm.ops.shapes import Float, Int

# Numbers of a (B, T, V) tensor worked on at once. On a CPU a block should stay in the cache; on a GPU it
# should be large beside the cost of a launch and small beside the memory.
_CPU_BLOCK, _GPU_BLOCK = 2**19, 2**26
_CPU_HEAD_BLOCK, _GPU_HEAD_BLOCK = 2**20, 2**28
_KEPT = 2**25  # numbers of the (M, V) tensor that `head_logps` keeps for the gradient, at most


def token_logps(
    logits: Float[Tensor, "B T V"], tokens: Int[Tensor, "B T"], temperature: float = 1.0
) -> Float[Tensor, "B T"]:
    """Log-probability (nats) of every token given those before it: `out[:, t]` belongs to `tokens[:, t]`.

    The first token has none, so `out[:, 0]` is 0. Half-precision logits are summed in float32. Neither pass
    holds a second (B, T, V) tensor besides the logits and their gradient.

    Args:
        logits: The model's output (B, T, V); position t predicts token t + 1.
        tokens: Token ids (B, T).
        temperature: The one the tokens were sampled at; logits are divided by it.

    Raises:
        ValueError: The temperature is not positive.
    """
    _check(temperature)
    logps: Tensor = _TokenLogps.apply(logits, tokens, temperature)  # type: ignore[no-untyped-call]
    return logps


def entropy(logits: Float[Tensor, "B T V"], temperature: float = 1.0) -> Float[Tensor, "B T"]:
    """Entropy (nats) of the distribution each token was drawn from, aligned like `token_logps`.

    Excluded tokens (logit -inf) contribute nothing. Differentiable.

    Raises:
        ValueError: The temperature is not positive.
    """
    _check(temperature)
    scaled = _scaled(logits[:, :-1], temperature)
    finite = scaled.clamp(min=torch.finfo(scaled.dtype).min)  # 0 · -inf would be NaN
    mean_logit = (scaled.softmax(-1) * finite).sum(-1)
    return pad(scaled.logsumexp(-1) - mean_logit, (1, 0))


def _check(temperature: float) -> None:
    if not temperature > 0:
        raise ValueError(f"temperature must be positive to give log-probabilities, not {temperature}")


def _scaled(logits: Tensor, temperature: float) -> Tensor:
    return widen(logits) if temperature == 1 else widen(logits) / temperature


def _blocks(logits: Tensor) -> Iterator[tuple[slice, slice]]:
    """Rows and times that cover every position but each row's last, about one block of numbers at once."""
    B, T, V = logits.shape
    size = _CPU_BLOCK if logits.device.type == "cpu" else _GPU_BLOCK
    rows = max(1, size // max(T * V, 1))
    times = max(1, size // max(V, 1)) if rows == 1 else max(T, 1)
    for row in range(0, B, rows):
        for time in range(0, T - 1, times):
            yield slice(row, row + rows), slice(time, min(time + times, T - 1))


class _TokenLogps(torch.autograd.Function):
    """`token_logps`, with a gradient that is computed block by block from the logits themselves."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, tokens: Tensor, temperature: float) -> Tensor:
        logps = torch.zeros(tokens.shape, dtype=widen(logits[:0]).dtype, device=logits.device)
        total = torch.zeros_like(logps)
        for rows, times in _blocks(logits):
            block = _scaled(logits[rows, times], temperature)
            following = slice(times.start + 1, times.stop + 1)
            picked = block.gather(-1, tokens[rows, following].long().unsqueeze(-1)).squeeze(-1)
            total[rows, times] = block.logsumexp(-1)
            logps[rows, following] = picked - total[rows, times]
        ctx.save_for_backward(logits, tokens, total)
        ctx.temperature = temperature
        return logps

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        logits, tokens, total = ctx.saved_tensors
        out = torch.empty_like(logits)
        out[:, -1:] = 0
        for rows, times in _blocks(logits):
            following = slice(times.start + 1, times.stop + 1)
            share = (grad[rows, following] / ctx.temperature).unsqueeze(-1)
            # d logp / d logit = (1 for the token itself, else 0) − its probability, over the temperature.
            block = _scaled(logits[rows, times], ctx.temperature) - total[rows, times].unsqueeze(-1)
            block = block.exp_().mul_(-share)
            block.scatter_add_(-1, tokens[rows, following].long().unsqueeze(-1), share)
            out[rows, times] = block.to(out.dtype)
        return out, None, None


def head_logps(
    hidden: Float[Tensor, "M D"],
    weight: Float[Tensor, "V D"],
    targets: Int[Tensor, "M"],
    temperature: float = 1.0,
    bias: Float[Tensor, "V"] | None = None,
) -> Float[Tensor, "M"]:
    """Log-probability (nats) of each target under the hidden state that predicts it.

    The logits are made a block at a time. Few of them (2²⁵) are kept for the gradient, as probabilities; more are
    computed anew for it, so that memory does not grow with M · V.

    Args:
        hidden: Final hidden states (M, D).
        weight: The output matrix (V, D).
        targets: Token ids (M,), one for each state.
        temperature: The one the tokens were sampled at; logits are divided by it.
        bias: Added to the logits (V,).

    Raises:
        ValueError: The temperature is not positive.
    """
    _check(temperature)
    logps: Tensor = _HeadLogps.apply(hidden, weight, bias, targets, temperature)  # type: ignore[no-untyped-call]
    return logps


@torch.no_grad()
def head_statistics(
    hidden: Float[Tensor, "M D"],
    weight: Float[Tensor, "V D"],
    targets: Int[Tensor, "M"],
    temperature: float = 1.0,
    bias: Float[Tensor, "V"] | None = None,
) -> tuple[Float[Tensor, "M"], Float[Tensor, "M"]]:
    """`head_logps` and the entropy (nats) of each distribution, from one look at the logits; no gradient.

    Raises:
        ValueError: The temperature is not positive.
    """
    _check(temperature)
    logps = torch.empty(hidden.shape[0], dtype=widen(hidden[:0]).dtype, device=hidden.device)
    spread = torch.empty_like(logps)
    for rows in _head_blocks(hidden, weight):
        wide = widen(linear(hidden[rows], weight, bias))
        found = loops_for(wide)
        if found is not None:
            logps[rows], spread[rows] = found.share(wide, targets[rows], temperature, keep=False)
        else:
            logs = _scaled(wide, temperature).log_softmax(-1)
            logps[rows], spread[rows] = logs.gather(-1, targets[rows, None]).squeeze(-1), _entropy(logs)
    return logps, spread


def head_logps_and_entropy(
    hidden: Float[Tensor, "M D"],
    weight: Float[Tensor, "V D"],
    targets: Int[Tensor, "M"],
    temperature: float = 1.0,
    bias: Float[Tensor, "V"] | None = None,
) -> tuple[Float[Tensor, "M"], Float[Tensor, "M"]]:
    """`head_statistics` with a gradient: each block is computed anew for it.

    Raises:
        ValueError: The temperature is not positive.
    """
    _check(temperature)

    def block(states: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        logs = _log_shares(states, weight, bias, temperature)
        return logs.gather(-1, wanted[:, None]).squeeze(-1), _entropy(logs)

    found = [
        checkpoint(block, hidden[rows], targets[rows], use_reentrant=False) for rows in _head_blocks(hidden, weight)
    ]
    logps, spread = zip(*found, strict=True)
    return torch.cat(logps), torch.cat(spread)


class _HeadLogps(torch.autograd.Function):
    """`head_logps`, block by block in both passes."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, temperature: float
    ) -> Tensor:
        logps = torch.empty(hidden.shape[0], dtype=widen(hidden[:0]).dtype, device=hidden.device)
        few = any(ctx.needs_input_grad) and hidden.shape[0] * weight.shape[0] <= _KEPT
        kept = []
        for rows in _head_blocks(hidden, weight):
            logps[rows], block = _shares(hidden[rows], weight, bias, targets[rows], temperature, keep=few)
            if few:
                kept.append(block)
        ctx.save_for_backward(hidden, weight, bias, targets, *kept)
        ctx.temperature = temperature
        return logps

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, None, None]:
        hidden, weight, bias, targets, *kept = ctx.saved_tensors
        out_hidden = torch.empty_like(hidden)
        # A frozen head, as beside adapters, gets none: its gradient would cost as much as that of the states.
        out_weight, out_bias = (
            torch.zeros(tensor.shape, dtype=grad.dtype, device=tensor.device) if wants else None
            for wants, tensor in zip(ctx.needs_input_grad[1:3], (weight, bias), strict=True)
        )
        for number, rows in enumerate(_head_blocks(hidden, weight)):
            if kept:
                shares = kept[number]
            else:
                _, shares = _shares(hidden[rows], weight, bias, targets[rows], ctx.temperature, keep=True)
            share = (grad[rows] / ctx.temperature).unsqueeze(-1)
            # d logp / d logit = (1 for the token itself, else 0) − its probability, over the temperature.
            block = (shares * -share).scatter_add_(-1, targets[rows, None], share)
            if out_bias is not None:
                out_bias += block.sum(0)
            small = block.to(hidden.dtype)
            out_hidden[rows] = small @ weight
            if out_weight is not None:
                _add_product(out_weight, small.T, hidden[rows])
        of_weight, of_bias = (None if out is None else out.to(weight.dtype) for out in (out_weight, out_bias))
        return out_hidden, of_weight, of_bias, None, None


def _shares(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, temperature: float, *, keep: bool
) -> tuple[Tensor, Tensor]:
    """Log-probability (nats) of each target (M,), and with `keep` the probability of every token (M, V)."""
    wide = widen(linear(hidden, weight, bias))
    found = loops_for(wide)
    if found is not None:
        return found.share(wide, targets, temperature, keep=keep)[0], wide
    logs = _scaled(wide, temperature).log_softmax(-1)
    logps = logs.gather(-1, targets[:, None]).squeeze(-1)
    return logps, logs.exp_() if keep else logs


def _log_shares(hidden: Tensor, weight: Tensor, bias: Tensor | None, temperature: float) -> Tensor:
    """Log-probability (nats) of every token after each state (M, V)."""
    return _scaled(linear(hidden, weight, bias), temperature).log_softmax(-1)


def _entropy(logs: Tensor) -> Tensor:
    """Entropy (nats) of distributions given by their log-probabilities (M, V)."""
    finite = logs.clamp(min=torch.finfo(logs.dtype).min)  # 0 · -inf would be NaN
    return -(logs.exp() * finite).sum(-1)


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """Add a @ b to `total`, in one call where their precision is one."""
    if total.dtype == a.dtype:
        total.addmm_(a, b)
    else:
        total += a @ b


def _head_blocks(hidden: Tensor, weight: Tensor) -> Iterator[slice]:
    """Rows whose logits make about one block of numbers, never so few that the product is a thin one."""
    size = _CPU_HEAD_BLOCK if hidden.device.type == "cpu" else _GPU_HEAD_BLOCK
    step = max(128, size // weight.shape[0])
    for start in range(0, hidden.shape[0], step):
        yield slice(start, min(start + step, hidden.shape[0]))
