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

Block = tuple[Tensor, Tensor]  # keys and values of one layer in one block of columns (rows · H/G, columns, D)


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
    """RMS norm, or layer norm where there is a bias, over the last dimension."""

    weight: Tensor
    bias: Tensor | None
    eps: float

    def __call__(self, x: Tensor) -> Tensor:
        """`x` normalised, in its own precision."""
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
    scale: float

    def feed_forward(self, x: Tensor) -> None:
        """The second half of the block, added to the residual stream (N, E) in place."""
        h = self.before[1](x)
        if self.gated:
            gate, up = self.up[0](h).chunk(2, dim=-1) if len(self.up) == 1 else (self.up[0](h), self.up[1](h))
            self.down.add_to(x, self.act(gate).mul_(up))
        else:
            self.down.add_to(x, self.act(self.up[0](h)))


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
        device, count, width = tokens.device, len(lengths), max(lengths)
        size = torch.tensor(lengths, device=device)
        row = torch.repeat_interleave(torch.arange(count, device=device), size)
        place = torch.arange(len(tokens), device=device) - torch.tensor(starts, device=device)[row]
        last = torch.tensor(starts, device=device) + size - 1
        x, turns = self._enter(tokens, place)
        kept = []
        for number, layer in enumerate(self.layers):
            q, k, v = self._qkv(layer, x, turns)
            kept.append((k, v))
            # Attention alone is computed in padded rows. Padding follows the tokens, so causality hides it.
            rows = [part.new_zeros((count, width, *part.shape[1:])) for part in (q, k, v)]
            for padded, part in zip(rows, (q, k, v), strict=True):
                padded[row, place] = part
            queries, keys, values = (padded.transpose(1, 2) for padded in rows)
            grouped = self.heads != self.kv_heads
            attended = scaled_dot_product_attention(
                queries, keys, values, is_causal=True, scale=layer.scale, enable_gqa=grouped
            ).transpose(1, 2)
            if number == len(self.layers) - 1:  # beyond here only the last tokens matter
                x, row, place = x[last], row[last], place[last]
            layer.out.add_to(x, attended[row, place].flatten(1))
            layer.feed_forward(x)
        return self.head(self.norm(x)), kept

    def step(self, tokens: Tensor, places: Tensor, cache: list[list[Block]], column: int, bias: Tensor) -> Tensor:
        """Read one more token of each row and return logits (B, V).

        Args:
            tokens: Ids (B,).
            places: Positions (B,).
            cache: Each layer's blocks of columns; the token's keys and values are written to the last.
            column: The column of the last block that the token takes.
            bias: 0 at the columns that a row attends to, -inf elsewhere (B, 1, columns).
        """
        x, turns = self._enter(tokens, places)
        size = len(tokens)
        shape = (size * self.kv_heads, self.heads // self.kv_heads, self.head_dim)
        for layer, blocks in zip(self.layers, cache, strict=True):
            q, k, v = self._qkv(layer, x, turns)
            blocks[-1][0].select(1, column).view(k.shape).copy_(k)
            blocks[-1][1].select(1, column).view(v.shape).copy_(v)
            layer.out.add_to(x, self._attend(q.reshape(shape), blocks, bias, layer.scale).view(size, -1))
            layer.feed_forward(x)
        return self.head(self.norm(x))

    def _attend(self, q: Tensor, blocks: list[Block], bias: Tensor, scale: float) -> Tensor:
        """Attention of one query a head (B · H/G, G, D) to all columns of all blocks."""
        unused = q.new_empty((1, 1, 1))
        parts = [torch.baddbmm(unused, q, keys.transpose(1, 2), beta=0, alpha=scale) for keys, _ in blocks]
        scores = parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
        scores.view(len(bias), self.heads, -1).add_(bias)
        shares = scores.softmax(-1).split_with_sizes([part.shape[-1] for part in parts], dim=-1)
        mixed = torch.bmm(shares[0], blocks[0][1])
        for share, (_, values) in zip(shares[1:], blocks[1:], strict=True):
            mixed.baddbmm_(share, values)
        return mixed

    def _enter(self, tokens: Tensor, places: Tensor) -> tuple[Tensor, Tensor | None]:
        """The residual stream (N, E) before the first layer, and the rotary factors (N, 1, D/2)."""
        x = embedding(tokens, self.embedding)
        if self.places is not None:
            x = x + embedding(places, self.places)
        return _wide(x), None if self.turns is None else self.turns.index_select(0, places)[:, None]

    def _qkv(self, layer: Layer, x: Tensor, turns: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (N, H, D), keys and values (N, H/G, D), turned by their positions."""
        heads = layer.qkv(layer.before[0](x)).to(self.dtype).view(len(x), -1, self.head_dim)
        turning = self.heads + self.kv_heads
        v = heads[:, turning:]
        if layer.qk_norms is not None:
            q, k = heads[:, : self.heads], heads[:, self.heads : turning]
            heads = torch.cat((layer.qk_norms[0](_wide(q)), layer.qk_norms[1](_wide(k))), dim=1)
        if turns is not None:
            heads = self._turned(heads[:, :turning], turns, layer.paired)
        return heads[:, : self.heads], heads[:, self.heads : turning], v

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
