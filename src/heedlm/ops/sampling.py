"""Drawing the next token, with the log-probability of the very distribution it was drawn from."""

from __future__ import annotations

import torch
from torch import Tensor

from heedlm.errors import NotFinite
from heedlm.ops.kernels import loops_for
from heedlm.ops.masked import widen
from heedlm.ops.shapes import Float, Int

# Below this temperature logits of any size are divided with care; so many tokens settle top-p as a rule.
_COLD, _LIKELIEST = 1e-3, 256
# Vocabularies up to `_SHORT` are searched at once, longer ones in blocks.
_SHORT, _BLOCK = 128, 64


def warp(
    logits: Float[Tensor, "*B V"], temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0
) -> Float[Tensor, "*B V"]:
    """Logits (nats, up to a constant) of the distribution left by temperature, then top-k, then top-p.

    Tokens cut away become -inf. Top-k keeps the k likeliest, and any that tie with the k-th (0: all);
    top-p keeps the smallest set of likeliest tokens that holds at least `top_p` of the probability left
    (Holtzman et al. 2020), so always one.

    Raises:
        ValueError: temperature not positive, top_k negative, or top_p outside (0, 1].
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be positive here, not {temperature}; `sample` takes 0 as greedy")
    if top_k < 0:
        raise ValueError(f"top_k must be 0 (off) or more, not {top_k}")
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p must be in (0, 1], not {top_p}")
    warped = widen(logits)
    if temperature < _COLD:  # the maximum goes first: dividing large logits by so little would overflow
        warped = warped - warped.amax(-1, keepdim=True)
    if temperature != 1:
        warped = warped / temperature
    if 0 < top_k < warped.shape[-1]:
        kth = warped.topk(top_k, dim=-1).values[..., -1:]
        warped = warped.masked_fill(warped < kth, -torch.inf)
    return warped if top_p == 1 else _nucleus(warped, top_p)


def _nucleus(logits: Float[Tensor, "*B V"], top_p: float) -> Float[Tensor, "*B V"]:
    """Top-p alone. Where the likeliest tokens settle it, the others are not sorted."""
    probs = logits.softmax(-1)
    likeliest = probs.topk(min(_LIKELIEST, probs.shape[-1]), dim=-1).values
    beyond = likeliest.cumsum(-1) - likeliest >= top_p  # what comes before a token already holds top_p
    last = likeliest.masked_fill(beyond, torch.inf).amin(-1, keepdim=True)
    first_cut = likeliest.masked_fill(~beyond, 0.0).amax(-1, keepdim=True)
    kept = logits.masked_fill(probs < last, -torch.inf)
    # Elsewhere the set goes on beyond these, or its last token ties with one that is out: order decides.
    unsettled = ((first_cut == last) | ~beyond[..., -1:]).squeeze(-1)
    if bool(unsettled.any()):
        rest = logits[unsettled]
        ordered, order = rest.sort(dim=-1, descending=True, stable=True)
        share = ordered.softmax(-1)
        enough = share.cumsum(-1) - share >= top_p
        kept[unsettled] = rest.masked_fill(enough.scatter(-1, order, enough), -torch.inf)
    return kept


def draw(
    logits: Float[Tensor, "B V"],
    uniform: Float[Tensor, "B"],
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
) -> tuple[Int[Tensor, "B"], Float[Tensor, "B"]]:
    """The token that each row's random number falls on (B,), and its log-probability (nats) as warped (B,).

    The numbers may come from any stream of their own; each is looked up in the cumulative distribution.
    Temperature 0 is greedy: the likeliest token, whose distribution is a point, hence log-probability 0; it
    makes no use of the numbers.

    Args:
        logits: The model's output for the next token (B, V).
        uniform: A number in [0, 1) for each row, in float64 if the vocabulary is large.
        temperature: As `warp`, or 0.
        top_k: As `warp`.
        top_p: As `warp`.

    Raises:
        NotFinite: A row's logits contain NaN or +inf, or are all -inf.
        ValueError: As `warp`, and for a negative temperature.
    """
    tokens, logps = pick(logits, uniform, temperature, top_k, top_p)
    if not bool(logps.isfinite().all()):
        raise NotFinite("the model's logits are NaN or infinite, so no token can be sampled from them")
    return tokens, logps


def pick(
    logits: Float[Tensor, "B V"],
    uniform: Float[Tensor, "B"],
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
) -> tuple[Int[Tensor, "B"], Float[Tensor, "B"]]:
    """`draw` without its check, for loops that look at the outcome anyway.

    Where a row's logits are broken (NaN, +inf, all -inf), its log-probability is NaN and its token, though in
    range, means nothing.
    """
    if temperature == 0:
        best, tokens = widen(logits).max(-1)
        return tokens, best - best  # 0, and NaN where the best is infinite
    whole = top_k == 0 and top_p == 1 and temperature >= _COLD
    found = loops_for(widen(logits)) if whole else None
    if found is not None:
        return found.draw(widen(logits), uniform.double(), temperature)
    plain = whole and temperature == 1
    probs = (widen(logits) if plain else warp(logits, temperature, top_k, top_p)).softmax(-1)
    tokens = _find(probs, uniform.double()[:, None])
    return tokens.squeeze(-1), probs.gather(-1, tokens).squeeze(-1).log()


def _find(probs: Float[Tensor, "B V"], uniform: Float[Tensor, "B 1"]) -> Int[Tensor, "B 1"]:
    """Where each number falls in the cumulative distribution.

    First among the sums of blocks, then within one block, which spares the cumulative sum over the whole
    vocabulary. Either is summed in float64, because the rounding of a long float32 sum would favour tokens.
    """
    B, V = probs.shape
    if V <= _SHORT:
        return _fall(probs, uniform)[0]
    size = _BLOCK
    even = V - V % size
    masses = probs[:, :even].view(B, -1, size).sum(-1)
    if even < V:
        masses = torch.cat((masses, probs[:, even:].sum(-1, keepdim=True)), dim=1)
    block, inside = _fall(masses, uniform)
    index = block * size + torch.arange(size, device=probs.device)
    members = probs.gather(1, index.clamp(max=V - 1))
    if even < V:
        members = members.masked_fill(index >= V, 0.0)
    return (block * size + _fall(members, inside)[0]).clamp(max=V - 1)


def _fall(masses: Float[Tensor, "B N"], uniform: Float[Tensor, "B 1"]) -> tuple[Tensor, Tensor]:
    """The entry on whose stretch of the whole each number falls (B, 1), and how far along that stretch (B, 1)."""
    ends = masses.cumsum(-1, dtype=torch.float64)
    total = ends[:, -1:]
    # Strictly under the total, so that nothing falls on an excluded entry at the end.
    point = torch.minimum(uniform * total, torch.nextafter(total, torch.zeros_like(total)))
    entry = torch.searchsorted(ends, point, right=True).clamp(max=masses.shape[1] - 1)
    mass = masses.gather(1, entry).double()
    along = (point - (ends.gather(1, entry) - mass)) / mass
    return entry, along.clamp(min=0.0)


def sample(
    logits: Float[Tensor, "B V"],
    generator: torch.Generator,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
) -> tuple[Int[Tensor, "B"], Float[Tensor, "B"]]:
    """`draw` with one random number for each row from `generator`, whatever the vocabulary; none if greedy.

    Raises:
        NotFinite: As `draw`.
        ValueError: As `draw`.
    """
    if temperature == 0:
        return draw(logits, torch.zeros(len(logits), device=logits.device), 0.0)
    uniform = torch.rand(len(logits), generator=generator, device=generator.device, dtype=torch.float64)
    return draw(logits, uniform.to(logits.device), temperature, top_k, top_p)
