"""What a model folder must hold, and how transformers is kept quiet and off the network."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import Any

from transformers.utils import logging as transformers_logging

from heedlm.errors import BadInput

if "TRANSFORMERS_VERBOSITY" not in os.environ:
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)

_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def is_hub_name(path: str | Path) -> bool:
    """True for `org/name` where no such path exists on this machine."""
    text = str(path)
    return not Path(path).exists() and re.fullmatch(r"\w[\w.-]*/[\w.-]+", text) is not None


def check_folder(path: str | Path) -> None:
    """Check that `path` is a folder with config.json and safetensors weights, or reads like a hub name.

    Raises:
        BadInput: No such folder, no config.json, no weights, or pickled weights only.
    """
    folder = Path(path)
    if is_hub_name(path):
        return
    if not folder.is_dir():
        raise BadInput(f"{path}: no such model folder: give a folder with config.json and model.safetensors")
    if not (folder / "config.json").is_file():
        raise BadInput(f"{path} holds no config.json: give the folder that a model was saved to")
    if any(folder.glob("*.safetensors")):
        return
    pickled = sorted(file.name for pattern in _PICKLED for file in folder.glob(pattern))
    if pickled:
        raise BadInput(
            f"{path} holds pickled weights only ({pickled[0]}), which can run code when loaded: convert them"
            " once, where you trust them, with AutoModelForCausalLM.from_pretrained(…).save_pretrained(…)"
        )
    raise BadInput(f"{path} holds no *.safetensors: give the folder that a model was saved to")


def network(path: str | Path) -> dict[str, Any]:
    """Loading arguments: nothing is fetched unless the user gave a hub name and HF_HUB_OFFLINE is unset."""
    offline = os.environ.get("HF_HUB_OFFLINE", "0").lower() not in ("", "0", "false", "no", "off")
    return {"local_files_only": offline or not is_hub_name(path)}


def one_line(error: BaseException) -> str:
    """An error's message on one line of at most 200 characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:199] + "…"
