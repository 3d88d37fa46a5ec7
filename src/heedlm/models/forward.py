"""Forward passes: the one place that asks a model for log-probabilities, logits or scores.

Training and scoring go over packed sequences (`models/packed.py`): `hidden_states`, `sequence_logps`,
`sequence_scores`. `logits` and `token_scores` take padded rows; padding is described by masks and lengths only,
never by comparing token ids, so a tokenizer without a padding token (or one whose padding token is its EOS)
behaves like any other.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from heedlm.models import attention
from heedlm.models.norms import quicken
from heedlm.models.packed import Packed, pack_sequences, round_up
from heedlm.ops.logprobs import entropy as token_entropy
from heedlm.ops.logprobs import head_logps, head_logps_and_entropy, head_statistics, token_logps
from heedlm.ops.shapes import Bool, Float, Int

_log = logging.getLogger(__name__)
_told: set[str] = set()
_ROUND = 64  # see `_filling`
_PACKS, _COMPUTES = "_heed_packs", "_heed_computes_in"


def hidden_states(model: nn.Module, packed: Packed) -> Float[Tensor, "N D"]:
    """Final hidden states of packed sequences, equal to those of each sequence alone.

    A model whose attention cannot be told about packing (ALiBi, soft-capped scores, attention of its own) is
    given padded rows instead.
    """
    held: Any = model
    able = packs(model)  # tried in the weights' own precision, so before the context
    with computing(model):
        if able:
            more = _filling(packed)
            # The 4-dimensional mask stops transformers from making one of its own; it is not looked at.
            states = held.base_model(
                input_ids=pad(packed.tokens, (0, more))[None],
                position_ids=pad(packed.positions, (0, more))[None],
                attention_mask=packed.tokens.new_zeros((1, 1, 1, 1)),
                use_cache=False,
                packed=packed,
            ).last_hidden_state[0, : len(packed)]
        else:
            rows, places = packed.rows
            states = held.base_model(input_ids=rows, use_cache=False).last_hidden_state[places[:, 0], places[:, 1]]
    found: Tensor = states
    return found


def _filling(packed: Packed) -> int:
    """Tokens that are added at the end for nothing.

    In bfloat16 on a processor kernels are made for each shape of a product, which takes longer than the product.
    """
    narrow = torch.is_autocast_enabled("cpu") and packed.tokens.device.type == "cpu"
    return round_up(len(packed), _ROUND) - len(packed) if narrow else 0


def sequence_logps(
    model: nn.Module, packed: Packed, targets: Int[Tensor, "M"], temperature: float = 1.0
) -> Float[Tensor, "M"]:
    """Log-probability (nats) of the tokens at `targets`, each given those before it in its own sequence.

    Only the states that predict a target pass through the output matrix, and the logits never all exist.

    Args:
        model: A causal model.
        packed: Sequences.
        targets: Index (M,) of tokens of `packed`, none of them the first of its sequence.
        temperature: The one the tokens were sampled at.
    """
    head = output_head(model)
    if head is None:
        rows, places = packed.rows
        place = places[targets]
        with computing(model):
            return token_logps(logits(model, rows), rows, temperature)[place[:, 0], place[:, 1]]
    states = hidden_states(model, packed).index_select(0, packed.before[targets])
    with computing(model):
        hidden, weight, bias = _operands(states, head)
        return head_logps(hidden, weight, packed.tokens[targets], temperature, bias)


@torch.no_grad()
def sequence_statistics(
    model: nn.Module, packed: Packed, targets: Int[Tensor, "M"], temperature: float = 1.0
) -> tuple[Float[Tensor, "M"], Float[Tensor, "M"]]:
    """`sequence_logps` and the entropy (nats) of the distribution that each token is drawn from; no gradient."""
    head = output_head(model)
    if head is None:
        return _row_logps(model, packed, targets, temperature)
    states = hidden_states(model, packed).index_select(0, packed.before[targets])
    with computing(model):
        hidden, weight, bias = _operands(states, head)
        return head_statistics(hidden, weight, packed.tokens[targets], temperature, bias)


def sequence_logps_and_entropy(
    model: nn.Module, packed: Packed, targets: Int[Tensor, "M"], temperature: float = 1.0
) -> tuple[Float[Tensor, "M"], Float[Tensor, "M"]]:
    """`sequence_statistics` with a gradient, for an entropy bonus."""
    head = output_head(model)
    if head is None:
        return _row_logps(model, packed, targets, temperature)
    states = hidden_states(model, packed).index_select(0, packed.before[targets])
    with computing(model):
        hidden, weight, bias = _operands(states, head)
        return head_logps_and_entropy(hidden, weight, packed.tokens[targets], temperature, bias)


def sequence_scores(model: nn.Module, packed: Packed, at: Int[Tensor, "M"]) -> Float[Tensor, "M"]:
    """The scalar head's output at the tokens `at`, in reward units (`gain · head + bias`, see `calibrate`).

    A reward model's reward is the value at a sequence's last token, `packed.last`; a critic's value of the state
    before token t is that at `packed.before[t]`.
    """
    held: Any = model
    states = hidden_states(model, packed).index_select(0, at)
    return _calibrated(model, held.score(states).squeeze(-1))


def output_head(model: nn.Module) -> nn.Linear | None:
    """The matrix that makes logits out of `hidden_states`, or None where logits are made in another way too.

    Tried once per model on a few tokens, because some models scale or cap their logits.
    """
    if not hasattr(model, "_heed_plain_head"):
        held: Any = model
        head = held.get_output_embeddings()
        plain = type(head) is nn.Linear
        if plain:
            with torch.no_grad(), _quietly(model):
                tokens = torch.tensor([[1, 2, 0]], device=tensor_device(model))
                states = held.base_model(input_ids=tokens, use_cache=False).last_hidden_state
                plain = bool(torch.allclose(head(states), held(input_ids=tokens, use_cache=False).logits))
        held._heed_plain_head = plain
    held = model
    return held.get_output_embeddings() if held._heed_plain_head else None


def packs(model: nn.Module) -> bool:
    """Whether this model's attention can be told about packing; tried once per model, on three short sequences.

    Afterwards such a model calls `models/attention.py`, which is transformers' `sdpa` for rows of other kinds.
    """
    known = getattr(model, _PACKS, None)
    if known is None:
        held: Any = model
        known = held.config._attn_implementation in ("sdpa", attention.NAME)
        if known:
            with torch.no_grad(), _quietly(model):
                known = _tries_packing(held)
        setattr(model, _PACKS, known)
        if known:
            quicken(model)
        else:
            _tell(type(model).__name__)
    return bool(known)


def _tries_packing(model: Any) -> bool:
    """Switch the attention function and compare: two answers to one prompt beside a third sequence."""
    packed = pack_sequences([[0, 1], [2, 1, 0], [1, 1]], [[1, 2], [1, 2], []], tensor_device(model))
    rows, places = packed.rows
    plain = model.base_model(input_ids=rows, use_cache=False).last_hidden_state[places[:, 0], places[:, 1]]
    before = model.config._attn_implementation
    model.config._attn_implementation = attention.NAME
    setattr(model, _PACKS, True)
    close = 1e-3 if torch.finfo(plain.dtype).eps < 1e-5 else 5e-2
    try:
        # Not number by number: in half precision rounding alone makes some of a deep model's differ by more.
        apart = (hidden_states(model, packed) - plain).float().norm()
        works = bool(apart <= close * plain.float().norm())
    except (TypeError, ValueError, RuntimeError, AttributeError, KeyError):
        works = False  # whatever a model of an unknown kind does with what it was given, it does not pack
    if not works:
        model.config._attn_implementation = before
    return works


def _tell(kind: str) -> None:
    """Say once that models of this kind are slow."""
    if kind not in _told:
        _told.add(kind)
        _log.warning("%s cannot compute packed rows: it is given padded ones, which takes longer", kind)


def compute_in(model: nn.Module, dtype: torch.dtype | None) -> None:
    """Have this model's matrix products done in another precision; the weights keep theirs. None: as the weights.

    bfloat16 halves the time of large products where the processor has instructions for it; norms, losses and
    what is summed over tokens stay in the weights' precision.
    """
    setattr(model, _COMPUTES, dtype)


def computing(model: nn.Module) -> contextlib.AbstractContextManager[Any]:
    """The context in which this model's passes run; see `compute_in`."""
    dtype = getattr(model, _COMPUTES, None)
    if dtype is None:
        return contextlib.nullcontext()
    return torch.autocast(tensor_device(model).type, dtype=dtype)


def _operands(states: Tensor, head: nn.Linear) -> tuple[Tensor, Tensor, Tensor | None]:
    """What the blockwise output product takes, cast once and not in every block."""
    kind = states.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else states.dtype
    bias: Tensor | None = head.bias
    return states.to(dtype), head.weight.to(dtype), None if bias is None else bias.to(dtype)


def _row_logps(model: nn.Module, packed: Packed, targets: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """The plain path: padded rows, all logits, log-probs and entropies picked from them."""
    rows, places = packed.rows
    place = places[targets]
    with computing(model):
        out = logits(model, rows)
    logps = token_logps(out, rows, temperature)[place[:, 0], place[:, 1]]
    return logps, token_entropy(out, temperature)[place[:, 0], place[:, 1]]


@contextlib.contextmanager
def _quietly(model: nn.Module) -> Iterator[None]:
    """Without dropout and in the weights' own precision, for a trial."""
    training, dtype = model.training, getattr(model, _COMPUTES, None)
    model.train(False)
    compute_in(model, None)
    try:
        yield
    finally:
        model.train(training)
        compute_in(model, dtype)


def logits(
    model: nn.Module,
    tokens: Int[Tensor, "B T"],
    mask: Bool[Tensor, "B T"] | None = None,
) -> Float[Tensor, "B T V"]:
    """Next-token logits of a causal model: `[:, t]` predicts token t + 1.

    Args:
        model: A causal language model.
        tokens: Token ids; any valid id serves as padding.
        mask: True at real tokens. Right-padded rows need none: causal attention never looks at what follows.
            Padding on the left, or anywhere else, is moved to the right and back again, so that positions
            count real tokens only (PITFALLS 2).

    Values at padding are finite but mean nothing.
    """

    def run(rows: Tensor) -> Tensor:
        out: Tensor = model(input_ids=rows, use_cache=False).logits
        return out

    return _aligned(run, tokens, mask)


def token_scores(
    model: nn.Module, tokens: Int[Tensor, "B T"], mask: Bool[Tensor, "B T"] | None = None
) -> Float[Tensor, "B T"]:
    """The scalar head's output at every token, in reward units (`gain · head + bias`, see `calibrate`).

    A reward model's reward is the value at the last real token; a critic's value at t is that of the state
    after token t, which predicts token t + 1. Padding is treated as in `logits`.
    """
    held: Any = model

    def run(rows: Tensor) -> Tensor:
        out: Tensor = held.score(held.base_model(input_ids=rows, use_cache=False).last_hidden_state)
        return out

    return _calibrated(model, _aligned(run, tokens, mask).squeeze(-1))


def reward_scores(model: nn.Module, tokens: Int[Tensor, "B T"], lengths: Int[Tensor, "B"]) -> Float[Tensor, "B"]:
    """One reward per right-padded row: the score at its last real token, `tokens[b, lengths[b] - 1]`.

    Never at the padding after it (PITFALLS 1): the row is found by its length, not by its ids.
    """
    scores = token_scores(model, tokens)
    return scores.gather(1, (lengths - 1).clamp(min=0)[:, None]).squeeze(1)


def _calibrated(model: nn.Module, scores: Tensor) -> Tensor:
    gain, bias = calibration(model)
    return scores if (gain, bias) == (1.0, 0.0) else scores * gain + bias


def calibration(model: nn.Module) -> tuple[float, float]:
    """The (gain, bias) that `token_scores` applies: reward = gain · head + bias."""
    heed = getattr(model.config, "heed", None) or {}
    return float(heed.get("gain", 1.0)), float(heed.get("bias", 0.0))


def calibrate(model: nn.Module, *, gain: float = 1.0, bias: float = 0.0) -> None:
    """Set the affine map from head output to reward (docs/methods.md §3.3); it is saved in the model's config."""
    config: Any = model.config
    config.heed = {**(getattr(config, "heed", None) or {}), "gain": float(gain), "bias": float(bias)}


def positions_of(mask: Bool[Tensor, "B T"]) -> Int[Tensor, "B T"]:
    """Position ids that count real tokens only, from 0 at each row's first; padding before it has 0 too."""
    return (mask.long().cumsum(1) - 1).clamp(min=0)


def tensor_device(model: nn.Module) -> torch.device:
    """Where token ids must lie for this model."""
    return next(model.parameters()).device


def takes(model: nn.Module, argument: str) -> bool:
    """Whether the model's forward names this argument (models with ALiBi take no position_ids, for one)."""
    return argument in inspect.signature(model.forward).parameters


def context_limit(model: nn.Module) -> int | None:
    """The most tokens that one row may hold, or None where the model sets no limit."""
    config: Any = model.config
    limit = getattr(config.get_text_config(), "max_position_embeddings", None)
    return int(limit) if limit else None


def _aligned(run: Callable[[Tensor], Tensor], tokens: Tensor, mask: Tensor | None) -> Tensor:
    """`run` on rows whose real tokens come first, with its output (B, T, …) put back where they were."""
    if mask is None or not bool((mask[:, 1:] & ~mask[:, :-1]).any()):
        return run(tokens)
    order = (~mask).long().argsort(dim=1, stable=True)
    out = run(tokens.gather(1, order))
    back = order.argsort(dim=1)
    return out.gather(1, back[..., None].expand(-1, -1, out.shape[-1]))
