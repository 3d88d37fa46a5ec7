"""Attention over packed sequences, as one of the attention functions that transformers models choose among."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from heedlm.models.packed import Branches, Packed, Section, Table

NAME = "heed"  # of this function among those of transformers
_SHORT = 512  # keys up to which attention in bfloat16 keeps its weights


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    packed: Packed | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Causal attention of each packed sequence to itself: (1, H, N, D) in, (1, N, H, D) out.

    The tokens are laid out as padded rows for the attention product alone, which is a small part of a model's
    work; a branch attends to its prefix and to itself. Without `packed` this is transformers' own `sdpa`.

    Raises:
        ValueError: The layer wants something that this function does not know, such as soft-capped scores.
    """
    if packed is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    scale, dropout, window = options.get("scaling"), options.get("dropout", 0.0), options.get("sliding_window")
    odd = [name for name in ("softcap", "s_aux", "position_bias") if options.get(name) is not None]
    if odd or query.shape[0] != 1:
        raise ValueError(f"packed attention does not know {', '.join(odd) or 'batches of packed rows'}")
    kind = query.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else query.dtype
    # (1, H, N, D) → (N, H, D)
    q, k, v = (x[0].transpose(0, 1).to(dtype) for x in (query, key, value))
    outputs, begin = [], 0
    for section in packed.sections:
        part = slice(begin, begin + section.tokens)
        outputs += _section(section, q[part], k[part], v[part], window, scale, dropout)
        begin += section.tokens
    return (outputs[0] if len(outputs) == 1 else torch.cat(outputs))[None], None


def _section(
    section: Section, q: Tensor, k: Tensor, v: Tensor, window: int | None, scale: float | None, dropout: float
) -> list[Tensor]:
    """Attention of one section's tokens (n, H, D): that of its roots, then that of its branches."""
    split, roots, branches = section.root_tokens, section.roots, section.branches
    first, *reused = (_rows(x[:split], roots) for x in (q, k, v))
    mask = _root_mask(roots.index.shape[1], window, q.device)
    upper = _flat(_attend(first, reused[0], reused[1], mask, scale, dropout), roots)
    if branches is None:
        return [upper]
    table = branches.table
    own, *keyed = (_rows(x[split:], table) for x in (q, k, v))
    keys, values = (
        torch.cat([root.index_select(0, branches.parents), branch], dim=1)
        for root, branch in zip(reused, keyed, strict=True)
    )
    return [upper, _flat(_attend(own, keys, values, _branch_mask(branches, window, q), scale, dropout), table)]


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float | None, dropout: float) -> Tensor:
    """Attention of padded rows (S, T, H, D); keys and values may have fewer heads. No mask means causal."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    groups = q.shape[1] // k.shape[1]
    # Without copies where a kernel can: the others take no fewer heads, and the plain product holds all weights.
    shared = groups > 1 and q.device.type != "cpu" and mask is None and q.dtype in (torch.float16, torch.bfloat16)
    if groups > 1 and not shared:
        k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
    if q.device.type == "cpu" and q.dtype == torch.bfloat16 and k.shape[2] <= _SHORT and not dropout:
        out: Tensor = _ShortRows.apply(  # type: ignore[no-untyped-call]
            q, k, v, _causal(q) if mask is None else mask, q.shape[-1] ** -0.5 if scale is None else scale
        )
    else:
        out = scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=mask is None, scale=scale, dropout_p=dropout, enable_gqa=shared
        )
    return out.transpose(1, 2)


def _causal(q: Tensor) -> Tensor:
    """(T, T) additive mask."""
    return torch.full((q.shape[2], q.shape[2]), -torch.inf, dtype=q.dtype, device=q.device).triu(1)


class _ShortRows(torch.autograd.Function):
    """Attention as two batched products, the weights kept for the gradient.

    For rows of up to a few hundred tokens in bfloat16 on a processor this takes a fraction of the time of the
    flash kernel, whose backward pass there is several times slower than in float32. Softmax adds in float32.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float) -> Tensor:
        weights = ((q * scale) @ k.transpose(-1, -2)).add_(mask).softmax(-1)
        ctx.save_for_backward(q, k, v, weights)
        ctx.scale = scale
        return weights @ v

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        q, k, v, weights = ctx.saved_tensors
        scores = torch.ops.aten._softmax_backward_data(grad @ v.transpose(-1, -2), weights, -1, weights.dtype)
        grad_q = (scores @ k).mul_(ctx.scale)
        return grad_q, scores.transpose(-1, -2) @ (q * ctx.scale), weights.transpose(-1, -2) @ grad, None, None


def _root_mask(width: int, window: int | None, device: torch.device) -> Tensor | None:
    """None (plain causal) unless a sliding window is shorter than a root."""
    if window is None or width <= window:
        return None
    steps = torch.arange(width, device=device)
    back = steps[:, None] - steps[None, :]
    return (back >= 0) & (back < window)


def _branch_mask(branches: Branches, window: int | None, like: Tensor) -> Tensor:
    """(S, 1, T, P + T): a branch's token sees its whole prefix, itself and what is before it in the branch."""
    known = branches.masks.get((window, like.dtype))
    if known is not None:
        return known
    offsets = branches.offsets[:, None, None]
    steps = torch.arange(branches.table.index.shape[1], device=like.device)
    columns = torch.arange(branches.longest, device=like.device)
    own = (steps[:, None] >= steps[None, :]).expand(len(offsets), -1, -1)
    seen = (columns < offsets).expand(-1, len(steps), -1)
    if window is not None:
        own = own & (steps[:, None] - steps[None, :] < window)
        seen = seen & (offsets + steps[:, None] - columns < window)
    allowed = torch.cat([seen, own], dim=2)[:, None]
    # An additive mask once, instead of one made from the boolean in every layer.
    mask = torch.zeros(allowed.shape, dtype=like.dtype, device=like.device).masked_fill_(~allowed, -torch.inf)
    branches.masks[(window, like.dtype)] = mask
    return mask


def _rows(x: Tensor, table: Table) -> Tensor:
    """(n, H, D) tokens as padded rows (S, T, H, D)."""
    rows: Tensor = _Rows.apply(x, table)  # type: ignore[no-untyped-call]
    return rows


def _flat(rows: Tensor, table: Table) -> Tensor:
    """Padded rows (S, T, H, D) as tokens (n, H, D)."""
    flat: Tensor = _Flat.apply(rows, table)  # type: ignore[no-untyped-call]
    return flat


class _Rows(torch.autograd.Function):
    """A gather whose backward pass is a gather too: each token stands in exactly one cell."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, table: Table) -> Tensor:
        ctx.table = table
        return x.index_select(0, table.index.flatten()).view(*table.index.shape, *x.shape[1:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad.reshape(-1, *grad.shape[2:]).index_select(0, ctx.table.inverse), None


class _Flat(torch.autograd.Function):
    """The inverse of `_Rows`; padding gets no gradient."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, table: Table) -> Tensor:
        ctx.table = table
        return rows.reshape(-1, *rows.shape[2:]).index_select(0, table.inverse)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        table: Table = ctx.table
        rows = grad.index_select(0, table.index.flatten())
        if table.padding is not None:
            rows.masked_fill_(table.padding[:, None, None], 0.0)
        return rows.view(*table.index.shape, *grad.shape[1:]), None


AttentionInterface.register(NAME, packed_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
