"""How a model's passes are computed: precision, and memory against time."""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field
from transformers import PreTrainedModel

from heedlm.config import Config
from heedlm.errors import BadInput
from heedlm.models.forward import compute_in, tensor_device


class Compute(Config):
    """What may be traded for speed or memory without changing the method."""

    precision: Literal["float32", "bfloat16", "auto"] = Field(
        "float32",
        description="of matrix products (weights stay wide); auto: bfloat16, which rounds, where it is the faster",
    )
    recompute: bool = Field(
        False, description="compute each layer's activations a second time instead of keeping them: less memory"
    )

    def apply(self, *models: PreTrainedModel) -> None:
        """Have these models' passes computed so.

        Raises:
            BadInput: A model cannot recompute its activations.
        """
        for model in models:
            narrow = self.precision == "bfloat16" or (self.precision == "auto" and fast_in_bfloat16(model))
            compute_in(model, torch.bfloat16 if narrow else None)
            if self.recompute:
                _recompute(model)


def fast_in_bfloat16(model: PreTrainedModel) -> bool:
    """Whether the device that holds the model multiplies bfloat16 by instructions of its own."""
    device = tensor_device(model)
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # Missing before torch 2.12; without it nothing is known, and float32 is never wrong.
    known = getattr(torch.cpu, "get_capabilities", None) if device.type == "cpu" else None
    capabilities: dict[str, Any] = dict(known()) if known else {}
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def _recompute(model: Any) -> None:
    if not model.supports_gradient_checkpointing:
        raise BadInput(f"{type(model).__name__} cannot recompute its activations: leave out compute.recompute")
    # Its name changed within transformers 5.
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable()
