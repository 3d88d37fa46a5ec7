"""Reading a model of transformers as the native engine's `Network`, from its live weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    GPT2LMHeadModel,
    LlamaForCausalLM,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2ForCausalLM,
    Qwen3ForCausalLM,
)
from transformers.pytorch_utils import Conv1D

from heedlm.models.forward import tensor_device
from heedlm.models.norms import behind
from heedlm.ops.kernels import fits, loops
from heedlm.rollout.network import Layer, Linear, Network, Norm

_LLAMAS = (LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM)
_FIXED_ROPE = frozenset({"default", "linear", "llama3", "yarn"})  # factors that depend on the position alone
_PRECISIONS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
# Gate and up matrices up to this size are copied side by side: then a call costs more than a copy.
_FUSED = 2**21


def why_not(model: PreTrainedModel) -> str | None:
    """Why this model cannot be read, in a few words; None if it can."""
    if type(model) not in (*_LLAMAS, GPT2LMHeadModel):
        return f"{type(model).__name__} is not one of the models it knows"
    if {p.device for p in model.parameters()} != {tensor_device(model)}:
        return "its weights lie on several devices"
    dtypes = {p.dtype for p in model.parameters()}
    if len(dtypes) != 1 or not dtypes <= set(_PRECISIONS):
        return "its weights are of mixed or unusual precision"
    core = _core(model)
    odd = [name for name, module in core.named_modules() if not _plain(module)]
    if odd or not _plain(getattr(model, "lm_head", None)):
        return f"{odd[0] if odd else 'its head'} is not a plain layer of transformers"
    if isinstance(model, GPT2LMHeadModel):
        return "it has cross-attention" if model.config.add_cross_attention else None
    rope = core.rotary_emb.rope_type
    return None if rope in _FIXED_ROPE else f"its rotary positions ({rope}) depend on more than the position"


def window(model: PreTrainedModel) -> int | None:
    """The longest row that every layer sees all of; None where there is no such limit."""
    config: Any = model.config
    if isinstance(model, MistralForCausalLM) or "sliding_attention" in (getattr(config, "layer_types", None) or ()):
        size = getattr(config, "sliding_window", None)
        return None if size is None else int(size)
    return None


def read(model: PreTrainedModel, dtype: torch.dtype, longest: int) -> Network:
    """The model as it is now, for rows of up to `longest` tokens.

    Weights are used in place, but for queries, keys and values, which are copied into one matrix, and what a change
    of precision copies.

    Args:
        model: One for which `why_not` is None.
        dtype: Precision of products.
        longest: The longest row, in tokens.
    """
    return _gpt2(model, dtype) if isinstance(model, GPT2LMHeadModel) else _llama(model, dtype, longest)


def _core(model: PreTrainedModel) -> Any:
    return model.transformer if isinstance(model, GPT2LMHeadModel) else model.model


def _plain(module: Any) -> bool:
    """Whether a module computes what its class does, and its class is one that is known here."""
    kind = behind(module)
    source = kind.__module__
    if "forward" in vars(module) or not source.startswith(("torch.nn.modules.", "transformers.")):
        return False
    if kind in (nn.Linear, Conv1D, nn.LayerNorm) or kind.__name__.endswith("RMSNorm"):
        return True
    if kind is nn.Embedding:
        return module.max_norm is None
    # The rest holds others, or computes without weights; only rotary positions have numbers of their own.
    bare = not any(True for _ in module.parameters(recurse=False))
    bufferless = not any(True for _ in module.buffers(recurse=False))
    return bare and (bufferless or kind.__name__.endswith("RotaryEmbedding"))


def _wide(dtype: torch.dtype) -> torch.dtype:
    return dtype if dtype == torch.float64 else torch.float32


def _attention(device: torch.device, dtype: torch.dtype, head_dim: int) -> dict[str, Any]:
    """Precision of queries, keys and values, and what attends to a cache of them."""
    if device.type != "cpu":
        return {"dtype": dtype}
    return {"dtype": _wide(dtype), "loops": loops(_wide(dtype)) if fits(head_dim) else None}


def _norm(module: Any, dtype: torch.dtype) -> Norm:
    wide = _wide(dtype)
    eps = module.eps if isinstance(module, nn.LayerNorm) else module.variance_epsilon
    bias = getattr(module, "bias", None)
    weight = module.weight.to(wide)
    quick = bias is None and wide == torch.float32 and weight.device.type == "cpu"  # in float64 rounding must be theirs
    return Norm(weight, None if bias is None else bias.to(wide), float(eps), loops(wide) if quick else None)


def _gate(model: Any, dtype: torch.dtype) -> Callable[[Tensor], Tensor] | None:
    """What applies SiLU gates by loops, if these are what the model has, in this precision."""
    found = loops(dtype) if model.config.hidden_act == "silu" and tensor_device(model).type == "cpu" else None
    return None if found is None else found.gate


def _linear(module: Any, dtype: torch.dtype) -> Linear:
    weight = module.weight.t() if isinstance(module, Conv1D) else module.weight
    return Linear(weight.to(dtype), None if module.bias is None else module.bias.to(dtype))


def _joined(parts: list[Linear]) -> Linear:
    """Several products of one input as one."""
    biases = [part.bias for part in parts if part.bias is not None]
    return Linear(torch.cat([part.weight for part in parts]), torch.cat(biases) if biases else None)


def _paired(linear: Linear, head_dim: int) -> Linear:
    """The same outputs, with those that rotary positions turn together side by side."""

    def paired(x: Tensor) -> Tensor:
        halves = x.reshape(-1, 2, head_dim // 2, *x.shape[1:])
        return halves.transpose(1, 2).reshape(x.shape)

    return Linear(paired(linear.weight), None if linear.bias is None else paired(linear.bias))


def _llama(model: Any, dtype: torch.dtype, longest: int) -> Network:
    core, attention = model.model, model.model.layers[0].self_attn
    weight = core.embed_tokens.weight
    places = torch.arange(longest, device=weight.device)[None, :]
    cos, sin = (
        part[0, :, : attention.head_dim // 2]
        for part in core.rotary_emb(weight.new_empty(0, dtype=_wide(dtype)), places)
    )
    layers = []
    for block in core.layers:
        part = block.self_attn
        normed = hasattr(part, "q_norm")
        q, k, v = (_linear(x, dtype) for x in (part.q_proj, part.k_proj, part.v_proj))
        if not normed:
            q, k = (_paired(x, part.head_dim) for x in (q, k))
        up = [_linear(x, dtype) for x in (block.mlp.gate_proj, block.mlp.up_proj)]
        layers.append(
            Layer(
                before=(_norm(block.input_layernorm, dtype), _norm(block.post_attention_layernorm, dtype)),
                qkv=_joined([q, k, v]),
                paired=not normed,
                qk_norms=(_norm(part.q_norm, dtype), _norm(part.k_norm, dtype)) if normed else None,
                out=_linear(part.o_proj, dtype),
                up=(_joined(up),) if up[0].weight.numel() <= _FUSED else tuple(up),
                act=block.mlp.act_fn,
                down=_linear(block.mlp.down_proj, dtype),
                gated=True,
                gate=_gate(model, dtype) if up[0].weight.numel() <= _FUSED else None,
                scale=float(part.scaling),
            )
        )
    return Network(
        embedding=weight,
        places=None,
        turns=torch.complex(cos.contiguous(), sin.contiguous()),
        layers=tuple(layers),
        norm=_norm(core.norm, dtype),
        head=_linear(model.lm_head, dtype),
        heads=model.config.num_attention_heads,
        kv_heads=model.config.num_key_value_heads,
        head_dim=attention.head_dim,
        **_attention(weight.device, dtype, attention.head_dim),
    )


def _gpt2(model: Any, dtype: torch.dtype) -> Network:
    core, config, weight = model.transformer, model.config, model.transformer.wte.weight
    layers = tuple(
        Layer(
            before=(_norm(block.ln_1, dtype), _norm(block.ln_2, dtype)),
            qkv=_linear(block.attn.c_attn, dtype),
            paired=True,
            qk_norms=None,
            out=_linear(block.attn.c_proj, dtype),
            up=(_linear(block.mlp.c_fc, dtype),),
            act=block.mlp.act,
            down=_linear(block.mlp.c_proj, dtype),
            gated=False,
            gate=None,
            scale=float(block.attn.scaling),
        )
        for block in core.h
    )
    return Network(
        embedding=weight,
        places=core.wpe.weight,
        turns=None,
        layers=layers,
        norm=_norm(core.ln_f, dtype),
        head=_linear(model.lm_head, dtype),
        heads=config.n_head,
        kv_heads=config.n_head,
        head_dim=config.n_embd // config.n_head,
        **_attention(weight.device, dtype, config.n_embd // config.n_head),
    )
