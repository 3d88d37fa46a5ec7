"""A device that is not there, for tests of what has to lie where.

`pretended` makes torch take "cuda" for a device it has. Its tensors compute on the CPU, say that they are elsewhere,
and an operation on such a tensor and on one of the CPU raises an error, as on a GPU. What a GPU allows is allowed:
numbers without dimensions, copies between devices, and places of an index on the CPU. A matrix product on the CPU is an
error too: a model that computes there was not put on the device.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from transformers import PreTrainedModel

DEVICE = torch.device("cuda", 0)
_MIXES = {
    torch.ops.aten.copy_.default,
    torch.ops.aten.index.Tensor,
    torch.ops.aten.index_put_.default,
    torch.ops.aten._index_put_impl_.default,
}
_PRODUCTS = {torch.ops.aten.mm.default, torch.ops.aten.addmm.default, torch.ops.aten.bmm.default}


class Elsewhere(Tensor):
    """A tensor of the pretended device; `here` holds its numbers."""

    here: Tensor

    @staticmethod
    def __new__(cls, here: Tensor) -> Elsewhere:
        """Torch itself is told that it has no numbers ("meta"), so that it asks `_compute` for everything."""
        made: Elsewhere = Tensor._make_wrapper_subclass(
            cls,
            here.shape,
            strides=here.stride(),
            storage_offset=here.storage_offset(),
            dtype=here.dtype,
            device="meta",
        )
        made.here = here
        return made

    @property
    def device(self) -> torch.device:
        """The pretended one."""
        return DEVICE

    @property
    def is_meta(self) -> bool:
        """It has numbers, whatever torch was told."""
        return False

    def tolist(self) -> Any:
        """Torch refuses this for tensors of other classes."""
        return self.here.tolist()

    def numpy(self, *, force: bool = False) -> Any:
        """What a GPU's tensor says."""
        raise TypeError("numpy() of a tensor that is not on the CPU")

    def __repr__(self, **_: Any) -> str:
        """For messages of failed tests."""
        return f"Elsewhere({self.here})"

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Without `pretended`, as in a later backward pass."""
        return _compute(function, args, kwargs or {})


class _Pretence(TorchDispatchMode):
    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _compute(function, args, kwargs or {})


@contextlib.contextmanager
def pretended(monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    """Make "cuda" a device for the time being, and give it."""
    save = PreTrainedModel.save_pretrained

    def save_here(model: PreTrainedModel, folder: Any) -> None:
        save(model, folder, state_dict=here(model.state_dict()))

    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: None)
    monkeypatch.setattr(torch, "inference_mode", torch.no_grad)  # which knows no tensors of classes like this one
    monkeypatch.setattr(PreTrainedModel, "save_pretrained", save_here)  # looks where tensors lie in memory
    future, swaps = torch.__future__, torch.__future__.get_swap_module_params_on_conversion()
    lifts = torch._C._only_lift_cpu_tensors()
    future.set_swap_module_params_on_conversion(True)  # a parameter becomes one of another class
    torch._C._set_only_lift_cpu_tensors(True)
    try:
        with _Pretence():
            yield DEVICE
    finally:
        future.set_swap_module_params_on_conversion(swaps)
        torch._C._set_only_lift_cpu_tensors(lifts)


def here(value: Any) -> Any:
    """Tensors of the pretended device in some structure as ordinary ones."""
    return tree_map(lambda x: x.here if isinstance(x, Elsewhere) else x, value)


def _compute(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    there = [tensor for tensor in tensors if isinstance(tensor, Elsewhere)]
    numbers = [tensor for tensor in tensors if not isinstance(tensor, Elsewhere) and tensor.dim() > 0]
    if there and numbers and function not in _MIXES:
        raise RuntimeError(f"{function}: expected all tensors to be on the same device, found cpu and {DEVICE}")
    if not there and function in _PRODUCTS:
        raise RuntimeError(f"{function}: a matrix product on the CPU and not on {DEVICE}")
    wanted = kwargs.get("device")
    stays = bool(there) if wanted is None else _is_there(wanted)
    if function in _MIXES:  # the result lies where the first tensor does
        stays = isinstance(tensors[0], Elsewhere)
        if not stays and there and function != torch.ops.aten.copy_.default:
            raise RuntimeError(f"{function}: a tensor of the CPU with places or values on {DEVICE}")
    plain_args, plain_kwargs = tree_map(_plain, (args, dict(kwargs)))
    found = function(*plain_args, **plain_kwargs)
    if not stays:
        return found
    known = {id(tensor.here): tensor for tensor in there}  # what was changed in place is the same tensor again
    return tree_map(lambda x: _found(x, known), found)


def _plain(value: Any) -> Any:
    if isinstance(value, Elsewhere):
        return value.here
    return torch.device("cpu") if isinstance(value, torch.device) and _is_there(value) else value


def _is_there(device: torch.device | str) -> bool:
    return torch.device(device).type in (DEVICE.type, "meta")  # torch takes its options from what it was told


def _found(value: Any, known: Mapping[int, Elsewhere]) -> Any:
    if not isinstance(value, Tensor):
        return value
    return known[id(value)] if id(value) in known else Elsewhere(value)
