"""The norms before a decoder's linear layers, in one walk over the rows where a processor has loops for it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers import LlamaModel, MistralModel, Qwen2Model, Qwen3Model
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.mistral.modeling_mistral import MistralRMSNorm
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

from heedlm.ops.kernels import Loops, loops

_CORES = (LlamaModel, MistralModel, Qwen2Model, Qwen3Model)
_NORMS = (LlamaRMSNorm, MistralRMSNorm, Qwen2RMSNorm, Qwen3RMSNorm)


class Quick:
    """In front of one of transformers' norms: the same in float32 on a processor, but in one walk.

    Under autocast what comes out has the precision of the linear layers that it goes into, which otherwise cast it each
    for itself. Everything else goes to the class behind.
    """

    weight: Tensor
    variance_epsilon: float

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Normalised rows (…, E)."""
        x, kind = hidden_states, hidden_states.device.type
        narrow = torch.is_autocast_enabled(kind)
        dtype = torch.get_autocast_dtype(kind) if narrow else x.dtype
        known = kind == "cpu" and x.dtype == self.weight.dtype == torch.float32
        found = loops(x.dtype) if known and dtype in (torch.float32, torch.bfloat16) else None
        if found is None:
            plain: Tensor = super().forward(x)  # type: ignore[misc]
            return plain
        out: Tensor = _Norm.apply(x, self.weight, self.variance_epsilon, dtype, found)  # type: ignore[no-untyped-call]
        return out


class _Norm(torch.autograd.Function):
    """`Loops.rms_norm` with its gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float, dtype: torch.dtype, found: Loops) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        out, inverses = found.rms_norm(rows, weight, eps, dtype)
        ctx.save_for_backward(rows, weight, inverses)
        ctx.found = found
        return out.view(x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        rows, weight, inverses = ctx.saved_tensors
        of_x, of_weight = ctx.found.rms_norm_backward(grad.reshape(rows.shape), rows, weight, inverses)
        return of_x.view(grad.shape), of_weight, None, None, None


def quicken(model: Any) -> None:
    """Have the norms before this decoder's linear layers computed so, if it is of a kind that is known.

    Their class becomes one that inherits from it: weights, names and copies stay what they are.
    """
    if type(model.base_model) not in _CORES:
        return
    for layer in model.base_model.layers:
        for norm in (layer.input_layernorm, layer.post_attention_layernorm):
            if type(norm) in _NORMS:
                kind: Any = type(norm)
                norm.__class__ = _quick(kind)


def behind(module: nn.Module) -> type[nn.Module]:
    """The class of a module as it was before `quicken`."""
    return type(module).__mro__[2] if isinstance(module, Quick) else type(module)


@lru_cache
def _quick(plain: Any) -> type[nn.Module]:
    return type(f"Quick{plain.__name__}", (Quick, plain), {})
