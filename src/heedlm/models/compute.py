"""How a model's passes are computed: precision, and memory against time."""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field
from transformers import PreTrainedModel

from heedlm.config import Config
from heedlm.errors import BadInput
from heedlm.models.forward import compute_in


class Compute(Config):
    """What may be traded for speed or memory without changing the method."""

    precision: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="of matrix products; bfloat16 is faster where the processor has it, and rounds (weights stay wide)",
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
            compute_in(model, torch.bfloat16 if self.precision == "bfloat16" else None)
            if self.recompute:
                _recompute(model)


def _recompute(model: Any) -> None:
    if not model.supports_gradient_checkpointing:
        raise BadInput(f"{type(model).__name__} cannot recompute its activations: leave out compute.recompute")
    # Its name changed within transformers 5.
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable()
