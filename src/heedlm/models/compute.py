"""How a model's passes are computed: where, in which precision, and memory against time."""

from __future__ import annotations

import contextlib
import ctypes
import logging
from typing import Any, Literal

import torch
from pydantic import Field
from transformers import PreTrainedModel

from heedlm.config import Config
from heedlm.errors import BadInput
from heedlm.models.folder import one_line
from heedlm.models.forward import compute_in, tensor_device

_log = logging.getLogger(__name__)
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # names of mallopt(3)


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


def find_device(name: torch.device | str) -> torch.device:
    """The device called so, with its number, after a look whether torch can compute on it.

    Args:
        name: "cpu", "cuda", "cuda:1" or another that torch knows, or "auto": "cuda" where torch can use it, else "cpu".

    Raises:
        BadInput: There is no such device, or torch cannot compute on it.
    """
    if name == "auto":
        if not torch.cuda.is_available():
            return torch.device("cpu")
        try:
            return find_device("cuda")
        except BadInput as error:
            _log.warning("computing on the CPU, as the GPU cannot be used: %s", error)
            return torch.device("cpu")
    try:
        # In float64, which losses and sampling need and not every kind of device has.
        number = torch.ones(1, dtype=torch.float64, device=torch.device(name))
        number.item()
    except (RuntimeError, AssertionError, TypeError) as error:
        known = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
        reason = one_line(error).removesuffix(".")
        raise BadInput(f"device={name}: torch cannot compute there ({reason}); give {' or '.join(known)}") from error
    return number.device


def fast_in_bfloat16(model: PreTrainedModel) -> bool:
    """Whether the device that holds the model multiplies bfloat16 by instructions of its own."""
    device = tensor_device(model)
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # Missing before torch 2.12; without it nothing is known, and float32 is never wrong.
    known = getattr(torch.cpu, "get_capabilities", None) if device.type == "cpu" else None
    capabilities: dict[str, Any] = dict(known()) if known else {}
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def keep_freed_memory() -> None:
    """Have the C library of Linux keep what tensors free for the next ones.

    Otherwise it gives large pieces back at once, and the kernel clears every large tensor's pages anew: about a
    tenth of a small model's training step.
    """
    with contextlib.suppress(OSError, AttributeError):  # where the library is another one
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_THRESHOLD, 32 << 20)  # the most that it takes; larger pieces still go back
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)


def _recompute(model: Any) -> None:
    if not model.supports_gradient_checkpointing:
        raise BadInput(f"{type(model).__name__} cannot recompute its activations: leave out compute.recompute")
    # Its name changed within transformers 5.
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable()
