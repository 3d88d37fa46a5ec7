"""Attention over packed sequences, as one of the attention functions that transformers models choose among."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from heedlm.models.packed import Branches, Packed, Table
from heedlm.ops.kernels import Loops, Pieces, loops

NAME = "heed"  # of this function among those of transformers
_KEPT = 1024  # keys up to which attention on a processor is done by products that keep its weights, without loops in C
_BLOCK = 64  # queries of one such product
_WIDE = 64  # from here on a head is wide


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

    Tokens beyond those of `packed` attend to nothing, and nothing attends to them.

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
    q, k, v = (x[0].to(dtype) for x in (query, key, value))
    if kind == "cpu" and not dropout:
        scale = q.shape[-1] ** -0.5 if scale is None else scale
        found = _loops(dtype, q.shape[-1])
        if found is not None:
            heads = (x.transpose(0, 1) for x in (q, k, v))
            out: Tensor = _Loops.apply(*heads, packed.pieces, window, scale, found)  # type: ignore[no-untyped-call]
            return out[None], None
        if max(section.columns for section in packed.sections) <= _KEPT:
            out = _Products.apply(q, k, v, packed, window, scale)  # type: ignore[no-untyped-call]
            return out[None], None
    pieces = (piece for pieces in _pieces(q, k, v, packed, window) for piece in pieces)
    outputs = [_flat(_attend(x.q, x.k, x.v, x.mask, scale, dropout), x.table) for x in pieces]
    outputs.append(q.new_zeros((q.shape[0], q.shape[1] - len(packed), q.shape[2])))  # what was added for nothing
    return torch.cat(outputs, dim=1).transpose(0, 1)[None], None


def _loops(dtype: torch.dtype, head_dim: int) -> Loops | None:
    """The loops in C, unless a processor's own products of bfloat16 are faster: those of wide heads."""
    if dtype == torch.bfloat16:
        return loops(torch.float32) if head_dim < _WIDE else None
    return loops(dtype)


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float | None, dropout: float) -> Tensor:
    """Torch's attention of padded rows (H, S, T, D); keys and values may have fewer heads. No mask means causal."""
    groups = len(q) // len(k)
    # Without copies where a kernel can: the others take no fewer heads, and the plain product holds all weights.
    shared = groups > 1 and q.device.type != "cpu" and mask is None and q.dtype in (torch.float16, torch.bfloat16)
    if not shared:
        k, v = _repeated(k, len(q)), _repeated(v, len(q))
    q, k, v = (x.transpose(0, 1) for x in (q, k, v))
    return scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=mask is None, scale=scale, dropout_p=dropout, enable_gqa=shared
    ).transpose(0, 1)


def _root_mask(width: int, window: int | None, like: Tensor) -> Tensor | None:
    """(T, T); None (plain causal) unless a sliding window is shorter than a root."""
    if window is None or width <= window:
        return None
    steps = torch.arange(width, device=like.device)
    back = steps[:, None] - steps[None, :]
    return _additive((back >= 0) & (back < window), like.dtype)


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
    # Once, instead of from the boolean in every layer.
    mask = _additive(allowed, like.dtype)
    branches.masks[(window, like.dtype)] = mask
    return mask


def _additive(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    """What is added to scores: 0, or -inf where a query must not look."""
    return torch.zeros(allowed.shape, dtype=dtype, device=allowed.device).masked_fill_(~allowed, -torch.inf)


def _rows(x: Tensor, table: Table) -> Tensor:
    """(H, n, D) tokens as padded rows (H, S, T, D)."""
    rows: Tensor = _Rows.apply(x, table)  # type: ignore[no-untyped-call]
    return rows


def _flat(rows: Tensor, table: Table) -> Tensor:
    """Padded rows (H, S, T, D) as tokens (H, n, D)."""
    flat: Tensor = _Flat.apply(rows, table)  # type: ignore[no-untyped-call]
    return flat


class _Rows(torch.autograd.Function):
    """A gather whose backward pass is a gather too: each token stands in exactly one cell."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, table: Table) -> Tensor:
        ctx.table = table
        return x.index_select(1, table.index.flatten()).view(len(x), *table.index.shape, -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad.flatten(1, 2).index_select(1, ctx.table.inverse), None


class _Flat(torch.autograd.Function):
    """The inverse of `_Rows`; padding gets no gradient."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, table: Table) -> Tensor:
        ctx.table = table
        return rows.flatten(1, 2).index_select(1, table.inverse)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _unflattened(grad, ctx.table), None


def _unflattened(grad: Tensor, table: Table) -> Tensor:
    """(H, n, D) as padded rows, zero at padding."""
    rows = grad.index_select(1, table.index.flatten())
    if table.padding is not None:
        rows.masked_fill_(table.padding[:, None], 0.0)
    return rows.view(len(grad), *table.index.shape, -1)


@dataclass
class _Piece:
    """Rows of one section that attend together: its roots, or its branches.

    Attributes:
        span: Where their tokens stand among all.
        table: How they lie in rows.
        q: Queries (H, S, T, D).
        k: Keys (H/G, S, K, D); the first K − T are those of shared prefixes.
        v: Values (H/G, S, K, D).
        mask: What is added to the scores, (T, T) or (S, 1, T, K); None: plain causal.
        parents: Which of the section's roots holds each row's prefix, if these are branches.
    """

    span: slice
    table: Table
    q: Tensor
    k: Tensor
    v: Tensor
    mask: Tensor | None
    parents: Tensor | None = None

    @property
    def ahead(self) -> int:
        """Keys before the first query's own."""
        return self.k.shape[2] - self.q.shape[2]

    @property
    def blocks(self) -> list[slice]:
        """Queries that share their products; more of them where the keys ahead of all make up the work."""
        length, size = self.q.shape[2], max(_BLOCK, self.ahead)
        return [slice(begin, min(begin + size, length)) for begin in range(0, length, size)]


class _Loops(torch.autograd.Function):
    """Attention of packed sequences, (N, H, D) in and out, by the loops in C."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, pieces: Pieces, window: int | None, scale: float, found: Loops
    ) -> Tensor:
        out, logsum = found.attend_packed(q, k, v, pieces, window, scale)
        ctx.save_for_backward(q, k, v, out, logsum)
        ctx.rest, ctx.found = (pieces, window, scale), found
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        gradients = ctx.found.attend_packed_backward(*ctx.saved_tensors, grad, *ctx.rest)
        return (*gradients, None, None, None, None)


class _Products(torch.autograd.Function):
    """Attention of packed sequences, (H, N, D) in, (N, H, D) out, by batched products that keep the weights.

    For rows of up to a thousand tokens on a processor this is faster than the flash kernel, whose backward pass there
    is far from the speed of plain products, in bfloat16 above all. One function for all sections, because autograd
    would fill and add a tensor of all tokens for each slice of them.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, packed: Packed, window: int | None, scale: float) -> Tensor:
        out = q.new_empty((q.shape[1], q.shape[0], q.shape[2]))
        out[len(packed) :] = 0.0  # there may be tokens beyond the last sequence
        kept = []
        for pieces in _pieces(q, k, v, packed, window):
            for piece in pieces:
                rows, weights = _products(piece, scale)
                out[piece.span] = _flat(rows, piece.table).transpose(0, 1)
                kept += weights if any(ctx.needs_input_grad) else []
        ctx.save_for_backward(q, k, v, *kept)
        ctx.packed, ctx.window, ctx.scale = packed, window, scale
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None, None]:
        q, k, v, *kept = ctx.saved_tensors
        grad = grad.transpose(0, 1)
        of_q, of_k, of_v = (torch.empty_like(x.transpose(0, 1)).transpose(0, 1) for x in (q, k, v))
        for target in (of_q, of_k, of_v):
            target[:, len(ctx.packed) :] = 0.0
        for pieces in _pieces(q, k, v, ctx.packed, ctx.window):
            above = []
            for piece in pieces:
                count = len(piece.blocks)
                weights, kept = kept[:count], kept[count:]
                rows = _unflattened(grad[:, piece.span], piece.table)
                own, *keyed = _products_backward(piece, weights, rows, ctx.scale)
                of_q[:, piece.span] = _flat(own, piece.table)
                above.append(keyed)
            for piece, keyed in zip(pieces, above, strict=True):
                if piece.parents is None:
                    continue
                for of_root, of_branch, target in zip(above[0], keyed, (of_k, of_v), strict=True):
                    of_root.index_add_(1, piece.parents, of_branch[:, :, : piece.ahead])
                    target[:, piece.span] = _flat(of_branch[:, :, piece.ahead :], piece.table)
            for of_root, target in zip(above[0], (of_k, of_v), strict=True):
                target[:, pieces[0].span] = _flat(of_root, pieces[0].table)
        return of_q, of_k, of_v, None, None, None


def _pieces(q: Tensor, k: Tensor, v: Tensor, packed: Packed, window: int | None) -> Iterator[list[_Piece]]:
    """Of each section its roots and, where it has any, its branches; (H, N, D) in."""
    begin = 0
    for section in packed.sections:
        middle, end = begin + section.root_tokens, begin + section.tokens
        span, table = slice(begin, middle), section.roots
        first, *reused = (_rows(x[:, span], table) for x in (q, k, v))
        pieces = [_Piece(span, table, first, reused[0], reused[1], _root_mask(table.index.shape[1], window, q))]
        if section.branches is not None:
            span, table, parents = slice(middle, end), section.branches.table, section.branches.parents
            own, *keyed = (_rows(x[:, span], table) for x in (q, k, v))
            keys, values = (
                torch.cat([root.index_select(1, parents), branch], dim=2)
                for root, branch in zip(reused, keyed, strict=True)
            )
            pieces.append(_Piece(span, table, own, keys, values, _branch_mask(section.branches, window, q), parents))
        yield pieces
        begin = end


def _repeated(x: Tensor, heads: int) -> Tensor:
    """Key-value heads (H/G, S, K, D) as many as there are of queries (H, S, K, D)."""
    return x if len(x) == heads else x.repeat_interleave(heads // len(x), 0)


def _summed(x: Tensor, heads: int) -> Tensor:
    """The gradient of `_repeated`."""
    return x if len(x) == heads else x.view(heads, -1, *x.shape[1:]).sum(1)


def _products(piece: _Piece, scale: float) -> tuple[Tensor, list[Tensor]]:
    """Attention (H, S, T, D) of rows, and the weights of each block of queries.

    The last query sees all keys and every query one more than that before it; a block's products leave out the keys
    that none of its queries sees.
    """
    shape = piece.q.shape
    q, k, v = (_repeated(x, len(piece.q)).flatten(0, 1) for x in (piece.q, piece.k, piece.v))
    unused, out, kept = q.new_empty((1, 1, 1)), [], []
    for block in piece.blocks:
        seen = piece.ahead + block.stop
        scores = torch.baddbmm(unused, q[:, block], k[:, :seen].transpose(1, 2), beta=0, alpha=scale)
        if piece.mask is None:
            scores[:, :, piece.ahead + block.start :] += _triangle(block.stop - block.start, q.dtype)
        else:
            # Rows first, as torch's attention has them.
            scores.view(*shape[:2], *scores.shape[1:]).transpose(0, 1).add_(piece.mask[..., block, :seen])
        weights = scores.softmax(-1)
        out.append(weights @ v[:, :seen])
        kept.append(weights)
    return _joined(out).view(shape), kept


def _products_backward(piece: _Piece, kept: list[Tensor], grad: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of queries, keys and values from that of `_products`."""
    shape = piece.q.shape
    q, k, v, grad = (_repeated(x, len(piece.q)).flatten(0, 1) for x in (piece.q, piece.k, piece.v, grad))
    backwards: list[Tensor] = []
    of_k, of_v = k, v
    for block, weights in reversed(list(zip(piece.blocks, kept, strict=True))):
        seen, own = piece.ahead + block.stop, grad[:, block]
        of_weights = own @ v[:, :seen].transpose(1, 2)
        scores = torch.ops.aten._softmax_backward_data(of_weights, weights, -1, weights.dtype)
        backwards.append(scores @ k[:, :seen])
        to_k, to_v = scores.transpose(1, 2) @ q[:, block], weights.transpose(1, 2) @ own
        if block.stop == q.shape[1]:  # the last block, which sees all keys, comes first
            of_k, of_v = to_k, to_v
        else:
            of_k[:, :seen] += to_k
            of_v[:, :seen] += to_v
    of_q = _joined(backwards[::-1]).mul_(scale)
    of_k, of_v = (_summed(x.view(*shape[:2], *x.shape[1:]), len(piece.k)) for x in (of_k.mul_(scale), of_v))
    return of_q.view(shape), of_k, of_v


def _joined(blocks: list[Tensor]) -> Tensor:
    return blocks[0] if len(blocks) == 1 else torch.cat(blocks, dim=1)


@lru_cache(maxsize=256)
def _triangle(size: int, dtype: torch.dtype) -> Tensor:
    """-inf above the diagonal (size, size)."""
    return torch.full((size, size), -torch.inf, dtype=dtype).triu(1)


AttentionInterface.register(NAME, packed_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
