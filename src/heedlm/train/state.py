"""Training state on disk: nested dictionaries of tensors and plain values, without pickle.

Tensors go to one safetensors file, everything else to one JSON file in which each tensor is named.
"""

from __future__ import annotations

import json
import os
import random
import re
from pathlib import Path
from typing import Any

import numpy
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor


def save_state(folder: Path, state: dict[str, Any], name: str = "state") -> None:
    """Write `name`.json and `name`.safetensors into the folder.

    Raises:
        OSError: The disk is full or fails.
    """
    tensors: dict[str, Tensor] = {}
    tree = _encode(state, "", tensors)
    path = folder / f"{name}.safetensors"
    try:
        # Tied weights share storage, which safetensors refuses; each is written in full.
        save_file({key: value.detach().cpu().clone().contiguous() for key, value in tensors.items()}, path)
    except SafetensorError as error:
        # A full disk comes as an error of its own kind; callers know the system's.
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error
    (folder / f"{name}.json").write_text(json.dumps(tree), encoding="utf-8")


def load_state(folder: Path, name: str = "state") -> dict[str, Any]:
    """Read back what `save_state` wrote."""
    tensors = load_file(folder / f"{name}.safetensors")
    tree = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    decoded = _decode(tree, tensors)
    assert isinstance(decoded, dict)
    return decoded


def _encode(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        name = path
        while name in tensors:  # the keys 1 and "1", or "a/b" and "a" then "b", make the same path
            name += "'"
        tensors[name] = value
        return {"tensor": name}
    if isinstance(value, dict):
        # Optimiser states are keyed by numbers, which JSON objects cannot be: keep key and value as pairs.
        return {"items": [[key, _encode(item, f"{path}/{key}", tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return {"list": [_encode(item, f"{path}/{index}", tensors) for index, item in enumerate(value)]}
    if value is None or isinstance(value, bool | int | float | str):
        return {"value": value}
    raise TypeError(f"cannot store {type(value).__name__} at {path} in a checkpoint")


def _decode(node: dict[str, Any], tensors: dict[str, Tensor]) -> Any:
    if "tensor" in node:
        return tensors[node["tensor"]]
    if "items" in node:
        return {key: _decode(item, tensors) for key, item in node["items"]}
    if "list" in node:
        return [_decode(item, tensors) for item in node["list"]]
    return node["value"]


def rng_state() -> dict[str, Any]:
    """The state of every global random generator a library may draw from."""
    version, internal, gauss = random.getstate()
    numpy_state: Any = numpy.random.get_state(legacy=True)
    algorithm, keys, position, has_gauss, cached = numpy_state
    state: dict[str, Any] = {
        "python": [version, list(internal), gauss],
        "numpy": [
            algorithm,
            torch.tensor(keys.astype("int64")),
            int(position),
            int(has_gauss),
            float(cached),
        ],
        "torch": torch.get_rng_state(),
    }
    # Without a look at GPUs that nothing was drawn on: it would take memory on each.
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_rng_state(state: dict[str, Any]) -> None:
    """Put every global random generator back to where `rng_state` found it."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    algorithm, keys, position, has_gauss, cached = state["numpy"]
    numpy.random.set_state((algorithm, keys.numpy().astype("uint32"), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"][: torch.cuda.device_count()])


def seed_everything(seed: int) -> None:
    """Seed the global generators of python, numpy and torch."""
    random.seed(seed)
    numpy.random.seed(seed % 2**32)
    torch.manual_seed(seed)
