"""The forward pass of the native engine: Llama, its kin and GPT-2 written out for decoding.

Shapes: B rows, N tokens of several prompts in one line, D width of a head, H heads, G = H / key-value heads,
E width of the model. Queries and keys hold each rotary pair side by side (so one complex product
turns them); their inner product does not know the difference.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import embedding, layer_norm, linear, rms_norm, scaled_dot_product_attention

from heedlm.ops.kernels import Block, Loops, Pieces


@dataclass(frozen=True)
class Linear:
    """A weight (out, in) and bias (out,) or None."""

    weight: Tensor
    bias: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """The product with `x` (N, in), in the weight's precision: (N, out)."""
        return linear(x if x.dtype == self.weight.dtype else x.to(self.weight.dtype), self.weight, self.bias)

    def add_to(self, total: Tensor, x: Tensor) -> None:
        """Add the product with `x` (N, in) to `total` (N, out), in place."""
        if self.bias is None and x.dtype == total.dtype == self.weight.dtype:
            total.addmm_(x, self.weight.t())
        else:
            total += self(x)


@dataclass(frozen=True)
class Norm:
    """RMS norm, or layer norm where there is a bias, over the last dimension; by `loops` where there are any."""

    weight: Tensor
    bias: Tensor | None
    eps: float
    loops: Loops | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """`x` normalised, in its own precision."""
        if self.loops is not None and x.ndim == 2:
            return self.loops.rms_norm(x, self.weight, self.eps)[0]
        if self.bias is not None:
            return layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)
        if x.dtype == torch.float64:
            # transformers' models compute this part in float32 even then; rounding must be theirs.
            narrow = x.float()
            narrow = narrow * torch.rsqrt(narrow.pow(2).mean(-1, keepdim=True) + self.eps)
            return self.weight * narrow.to(x.dtype)
        return rms_norm(x, self.weight.shape, self.weight, self.eps)


@dataclass(frozen=True)
class Layer:
    """One block.

    Attributes:
        before: Norms before attention and before the feed-forward part.
        qkv: Queries, keys and values of all heads in one product.
        paired: Whether `qkv` gives rotary pairs side by side already.
        qk_norms: Norms of each query and key head, or None.
        out: Attention's output.
        up: Feed-forward input: one matrix, or gate and up, separate or in one product.
        act: Its activation.
        down: Its output.
        gated: Whether `up` has a gate.
        gate: What makes the gated numbers of a joined `up` at once, or None.
        scale: What scores are multiplied by.
    """

    before: tuple[Norm, Norm]
    qkv: Linear
    paired: bool
    qk_norms: tuple[Norm, Norm] | None
    out: Linear
    up: tuple[Linear, ...]
    act: Callable[[Tensor], Tensor]
    down: Linear
    gated: bool
    gate: Callable[[Tensor], Tensor] | None
    scale: float

    def feed_forward(self, x: Tensor) -> None:
        """The second half of the block, added to the residual stream (N, E) in place."""
        h = self.before[1](x)
        if self.gate is not None:
            self.down.add_to(x, self.gate(self.up[0](h)))
        elif self.gated:
            gate, up = self.up[0](h).chunk(2, dim=-1) if len(self.up) == 1 else (self.up[0](h), self.up[1](h))
            self.down.add_to(x, self.act(gate).mul_(up))
        else:
            self.down.add_to(x, self.act(self.up[0](h)))


class Seen:
    """The columns of the cache that each row attends to: from a first one of its own to the newest.

    Args:
        first: (B,).
        column: The newest.
    """

    def __init__(self, first: Tensor, column: int) -> None:
        self.first, self.column = first, column
        self._bias: Tensor | None = None

    def go_on(self) -> None:
        """One more."""
        self.column += 1
        if self._bias is not None:
            self._bias[:, :, self.column] = 0.0

    def bias(self, columns: int, dtype: torch.dtype) -> Tensor:
        """What is added to scores (B, 1, columns): 0 where a row looks, -inf elsewhere."""
        if self._bias is None:
            every = torch.arange(columns, device=self.first.device)
            seen = (every >= self.first[:, None]) & (every <= self.column)
            self._bias = torch.where(seen, 0.0, -torch.inf).to(dtype)[:, None]
        return self._bias


@dataclass(frozen=True)
class _Prompts:
    """Prompts that lie end to end.

    Attributes:
        shape: How many they are, and the length of the longest.
        row: Whose each token is (N,).
        place: Its place in its prompt (N,).
        last: Index of each prompt's last token.
        pieces: The same for the loops.
    """

    shape: tuple[int, int]
    row: Tensor
    place: Tensor
    last: Tensor
    pieces: Pieces

    @staticmethod
    def of(starts: list[int], lengths: list[int], device: torch.device) -> _Prompts:
        """Prompts that begin and are as long as said."""
        first, size = torch.tensor(starts, device=device), torch.tensor(lengths, device=device)
        row = torch.repeat_interleave(torch.arange(len(lengths), device=device), size)
        place = torch.arange(len(row), device=device) - first[row]
        spans = torch.tensor([(start, 0, start, length) for start, length in zip(starts, lengths, strict=True)])
        pieces = Pieces(spans, torch.arange(len(lengths) + 1))
        return _Prompts((len(lengths), max(lengths)), row, place, first + size - 1, pieces)


@dataclass(frozen=True)
class Network:
    """A causal model as the engine runs it.

    The residual stream is kept in float32 where weights are of half precision.

    Attributes:
        embedding: Token embeddings (V, E).
        places: Learned position embeddings (T, E), or None.
        turns: Rotary factors (T, D/2), complex, or None.
        layers: The blocks.
        norm: The last norm.
        head: From width to vocabulary.
        heads: Query heads.
        kv_heads: Key-value heads.
        head_dim: Width of a head.
        dtype: Precision of queries, keys and values. On a CPU it is never half: its small products are slow there.
        loops: What attends to the cache instead of tensor operators, or None.
    """

    embedding: Tensor
    places: Tensor | None
    turns: Tensor | None
    layers: tuple[Layer, ...]
    norm: Norm
    head: Linear
    heads: int
    kv_heads: int
    head_dim: int
    dtype: torch.dtype
    loops: Loops | None = None

    def prefill(
        self, tokens: Tensor, starts: list[int], lengths: list[int]
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Read prompts that lie end to end.

        Args:
            tokens: Ids of all prompts (N,).
            starts: Where each prompt begins.
            lengths: How long each is.

        Returns:
            Logits after each prompt's last token (prompts, V); each layer's keys and values (N, H/G, D).
        """
        prompts = _Prompts.of(starts, lengths, tokens.device)
        x, turns = self._enter(tokens, prompts.place)
        kept = []
        for number, layer in enumerate(self.layers):
            q, k, v = self._qkv(layer, x, turns)
            kept.append((k, v))
            attended = self._attend_prompts(layer, q, k, v, prompts)
            if number == len(self.layers) - 1:  # beyond here only the last tokens matter
                x, attended = x[prompts.last], attended[prompts.last]
            layer.out.add_to(x, attended.flatten(1))
            layer.feed_forward(x)
        return self.head(self.norm(x)), kept

    def _attend_prompts(self, layer: Layer, q: Tensor, k: Tensor, v: Tensor, prompts: _Prompts) -> Tensor:
        """Causal attention within each prompt (N, H, D)."""
        if self.loops is not None:
            return self.loops.attend_packed(q, k, v, prompts.pieces, None, layer.scale)[0]
        # Attention alone is computed in padded rows. Padding follows the tokens, so causality hides it.
        rows = [part.new_zeros((*prompts.shape, *part.shape[1:])) for part in (q, k, v)]
        for padded, part in zip(rows, (q, k, v), strict=True):
            padded[prompts.row, prompts.place] = part
        queries, keys, values = (padded.transpose(1, 2) for padded in rows)
        grouped = self.heads != self.kv_heads
        attended = scaled_dot_product_attention(
            queries, keys, values, is_causal=True, scale=layer.scale, enable_gqa=grouped
        )
        return attended.transpose(1, 2)[prompts.row, prompts.place]

    def step(self, tokens: Tensor, places: Tensor, cache: list[list[Block]], seen: Seen) -> Tensor:
        """Read one more token of each row and return logits (B, V).

        Args:
            tokens: Ids (B,).
            places: Positions (B,).
            cache: Each layer's blocks of columns; the token's keys and values are written to them.
            seen: The columns that rows attend to, of which the last is the token's.
        """
        x, turns = self._enter(tokens, places)
        attend = self._attend if self.loops is None else self._attend_by_loops
        for layer, blocks in zip(self.layers, cache, strict=True):
            layer.out.add_to(x, attend(layer, x, turns, blocks, seen).view(len(x), -1))
            layer.feed_forward(x)
        return self.head(self.norm(x))

    def _attend(self, layer: Layer, x: Tensor, turns: Tensor | None, blocks: list[Block], seen: Seen) -> Tensor:
        """Attention of one new token a row to its columns (B · H/G, G, D), by products over all blocks."""
        q, k, v = self._qkv(layer, x, turns)
        width = blocks[0][0].shape[2]
        keys, values = blocks[seen.column // width]
        keys.select(2, seen.column % width).view(k.shape).copy_(k)
        values.select(1, seen.column % width).view(v.shape).copy_(v)
        q = q.reshape(len(x) * self.kv_heads, -1, self.head_dim)
        unused = q.new_empty((1, 1, 1))
        parts = [torch.baddbmm(unused, q, keys, beta=0, alpha=layer.scale) for keys, _ in blocks]
        scores = parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
        scores.view(len(x), self.heads, -1).add_(seen.bias(scores.shape[-1], q.dtype))
        shares = scores.softmax(-1).split_with_sizes([part.shape[-1] for part in parts], dim=-1)
        mixed = torch.bmm(shares[0], blocks[0][1])
        for share, (_, values) in zip(shares[1:], blocks[1:], strict=True):
            mixed.baddbmm_(share, values)
        return mixed

    def _attend_by_loops(
        self, layer: Layer, x: Tensor, turns: Tensor | None, blocks: list[Block], seen: Seen
    ) -> Tensor:
        """The same, each row its own columns only (B, H, D)."""
        assert self.loops is not None
        if layer.paired:
            heads = self._heads(layer, x)
            q, k, v = heads.split_with_sizes([self.heads, self.kv_heads, self.kv_heads], dim=1)
            turn = None if turns is None else torch.view_as_real(turns).flatten(-2)
        else:
            (q, k, v), turn = self._qkv(layer, x, turns), None
        return self.loops.attend(q, k, v, turn, blocks, seen.first, seen.column, layer.scale)

    def _enter(self, tokens: Tensor, places: Tensor) -> tuple[Tensor, Tensor | None]:
        """The residual stream (N, E) before the first layer, and the rotary factors (N, 1, D/2)."""
        x = embedding(tokens, self.embedding)
        if self.places is not None:
            x = x + embedding(places, self.places)
        return _wide(x), None if self.turns is None else self.turns.index_select(0, places)[:, None]

    def _qkv(self, layer: Layer, x: Tensor, turns: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (N, H, D), keys and values (N, H/G, D), turned by their positions."""
        heads = self._heads(layer, x)
        turning = self.heads + self.kv_heads
        v = heads[:, turning:]
        if layer.qk_norms is not None:
            q, k = heads[:, : self.heads], heads[:, self.heads : turning]
            heads = torch.cat((layer.qk_norms[0](_wide(q)), layer.qk_norms[1](_wide(k))), dim=1)
        if turns is not None:
            heads = self._turned(heads[:, :turning], turns, layer.paired)
        return heads[:, : self.heads], heads[:, self.heads : turning], v

    def _heads(self, layer: Layer, x: Tensor) -> Tensor:
        """Heads of queries, keys and values as they come from their product (N, H + 2 H/G, D)."""
        return layer.qkv(layer.before[0](x)).to(self.dtype).view(len(x), -1, self.head_dim)

    def _turned(self, x: Tensor, turns: Tensor, paired: bool) -> Tensor:
        """Heads (N, H, D) turned by their positions, rotary pairs side by side."""
        wide = _wide(x)
        if not paired:
            wide = wide.view(*x.shape[:-1], 2, -1).transpose(-1, -2).contiguous()
        pairs = torch.view_as_complex(wide.view(*x.shape[:-1], -1, 2))
        turned = torch.view_as_real(pairs * turns).flatten(-2)
        return turned.to(self.dtype)


def _wide(x: Tensor) -> Tensor:
    """`x` in the precision of the residual stream."""
    return x if x.dtype == torch.float64 else x.float()
