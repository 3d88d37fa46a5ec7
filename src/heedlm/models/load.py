"""Load and save models in the Hugging Face layout: safetensors only, no code from the model, no noise.

Dropout is set to 0 on loading unless asked otherwise, so that `model.train()` and `model.eval()` compute the
same log-probs (PITFALLS 3); models come back in eval mode.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from heedlm.errors import BadInput
from heedlm.models.compute import find_device
from heedlm.models.folder import check_folder, network, one_line
from heedlm.models.forward import logits as logits
from heedlm.models.tokenizer import load_tokenizer

CausalModel = PreTrainedModel
ScalarModel = PreTrainedModel


def load_model(
    path: str | Path,
    *,
    dtype: str = "float32",
    device: torch.device | str = "cpu",
    trust: bool = False,
    dropout: float | None = 0.0,
) -> CausalModel:
    """A causal language model from a folder (or a hub name, if no such folder exists), in eval mode.

    Args:
        path: Folder with `config.json` and safetensors, or `org/name` on the hub (never fetched when
            `HF_HUB_OFFLINE` is set).
        dtype: "float32", "float64", "bfloat16" or "float16".
        device: Where the weights go; "auto" is a GPU if torch can use one, else the CPU.
        trust: Run model code that comes with the folder. Off unless the user asked for it by name.
        dropout: Probability for every dropout of the model; None keeps what its config says.

    Raises:
        BadInput: Missing or unreadable files, pickled weights only, missing weights, not a causal model, no such
            device.
    """
    device = find_device(device)
    config = load_config(path, trust=trust)
    kind = _architecture(config)
    if kind.endswith("ForSequenceClassification"):
        raise BadInput(f"{path} is a reward model ({kind}), not a language model: give the model it was trained from")
    return _load(AutoModelForCausalLM, path, config, dtype=dtype, device=device, trust=trust, dropout=dropout)


def load_reward(
    path: str | Path,
    *,
    dtype: str = "float32",
    device: torch.device | str = "cpu",
    trust: bool = False,
    dropout: float | None = 0.0,
) -> ScalarModel:
    """A reward model or critic (`AutoModelForSequenceClassification`, one label); see `load_model`."""
    device = find_device(device)
    config = load_config(path, trust=trust)
    if not _architecture(config).endswith("ForSequenceClassification"):
        raise BadInput(f"{path} is a language model, not a reward model: train one from it with `heed reward`")
    if config.num_labels != 1:
        raise BadInput(f"{path} scores {config.num_labels} labels, a reward model has 1: retrain it with num_labels=1")
    model = _load(
        AutoModelForSequenceClassification,
        path,
        config,
        dtype=dtype,
        device=device,
        trust=trust,
        dropout=dropout,
    )
    if not isinstance(getattr(model, "score", None), torch.nn.Module):
        raise BadInput(f"{path}: {type(model).__name__} has no `score` head, so no per-token scores: use another model")
    return model


def load_with_tokenizer(path: str | Path, **options: Any) -> tuple[CausalModel, PreTrainedTokenizerBase]:
    """A causal model and its tokenizer, checked to fit each other; options as in `load_model`."""
    tokenizer = load_tokenizer(path)
    model = load_model(path, **options)
    check_fits(model, tokenizer, where=str(path))
    return model, tokenizer


def load_config(path: str | Path, *, trust: bool = False) -> PreTrainedConfig:
    """The model's config, after checking that the folder holds what a model needs.

    Raises:
        BadInput: No such folder, no config.json, broken JSON, unknown model type, pickled weights only.
    """
    check_folder(path)
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(str(path), trust_remote_code=trust, **network(path))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path}: config.json cannot be used: {one_line(error)}") from error
    return config


def check_fits(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, where: str = "model") -> None:
    """Raise `BadInput` if the tokenizer can produce ids that the model has no embedding for."""
    embedding: Any = model.get_input_embeddings()
    rows = int(embedding.weight.shape[0])
    if len(tokenizer) > rows:
        raise BadInput(
            f"{where}: the tokenizer has {len(tokenizer)} tokens, the model embeds {rows}:"
            " use the tokenizer the model was trained with"
        )


def check_same_vocabulary(
    policy: PreTrainedTokenizerBase,
    reward: PreTrainedTokenizerBase,
    names: tuple[str, str] = ("the policy", "the reward model"),
    remedy: str = "train the reward model from the same model as the policy",
) -> None:
    """Raise `BadInput`, ending with the remedy, unless both tokenizers give every id the same meaning."""
    ours, theirs = policy.get_vocab(), reward.get_vocab()
    if ours == theirs:
        return
    odd = min(set(ours.items()) ^ set(theirs.items()), key=lambda item: (item[1], item[0]))
    raise BadInput(
        f"{names[0]} ({len(ours)} tokens) and {names[1]} ({len(theirs)} tokens) have different vocabularies,"
        f" first at id {odd[1]} ({odd[0]!r}): {remedy}"
    )


def save_model(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, path: str | Path, card: str | None = None
) -> None:
    """Write weights (safetensors), config, tokenizer with chat template and model card into a folder."""
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if card is not None:
        (folder / "README.md").write_text(card, encoding="utf-8")


def weights_hash(model: torch.nn.Module) -> str:
    """SHA-256 over names, shapes, dtypes and bytes of all weights: equal if and only if the weights are."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        data = tensor.detach().cpu().contiguous()
        digest.update(f"{name}|{tuple(data.shape)}|{data.dtype}|".encode())
        digest.update(data.view(-1).view(torch.uint8).numpy().tobytes() if data.numel() else b"")
    return digest.hexdigest()


def parameters(model: torch.nn.Module) -> int:
    """Number of parameters; tied ones count once."""
    return sum(p.numel() for p in model.parameters())


def set_dropout(config: PreTrainedConfig, probability: float) -> None:
    """Set every dropout field of a config (attn_pdrop, hidden_dropout, …) before a model is built from it."""
    for part in {id(c): c for c in (config, config.get_text_config())}.values():
        for name, value in list(vars(part).items()):
            if "drop" in name and isinstance(value, (int, float)) and not isinstance(value, bool):
                setattr(part, name, probability)


def torch_dtype(name: str) -> torch.dtype:
    """The torch dtype called `name`; raises `BadInput` for others than the four that models train in."""
    known = {
        "float32": torch.float32,
        "float64": torch.float64,
        "bfloat16": torch.bfloat16,
        "float16": torch.float16,
    }
    if name not in known:
        raise BadInput(f"dtype={name!r} is unknown: use one of {', '.join(known)}")
    return known[name]


def _architecture(config: PreTrainedConfig) -> str:
    names = getattr(config, "architectures", None) or [""]
    return str(names[0])


def _load(
    auto: Any,
    path: str | Path,
    config: PreTrainedConfig,
    *,
    dtype: str,
    device: torch.device,
    trust: bool,
    dropout: float | None,
) -> PreTrainedModel:
    if dropout is not None:
        set_dropout(config, dropout)
    options = {
        "config": config,
        "dtype": torch_dtype(dtype),
        "use_safetensors": True,
        "trust_remote_code": trust,
        "output_loading_info": True,
        "ignore_mismatched_sizes": True,  # so that _check_complete can name the weight
        **network(path),
    }
    try:
        try:
            model, info = auto.from_pretrained(str(path), attn_implementation="sdpa", **options)
        except ValueError as error:
            if "scaled_dot_product_attention" not in str(error):
                raise
            model, info = auto.from_pretrained(str(path), attn_implementation="eager", **options)
    except SafetensorError as error:
        raise BadInput(f"{path}: unreadable safetensors ({one_line(error)}): copy the file again") from error
    except (OSError, ValueError, KeyError, RuntimeError, json.JSONDecodeError) as error:
        raise BadInput(f"{path} cannot be loaded: {one_line(error)}") from error
    _check_complete(path, info)
    loaded: PreTrainedModel = model.to(device).eval()
    return loaded


def _check_complete(path: str | Path, info: dict[str, Any]) -> None:
    """A weight that the file lacks would be random: refuse rather than train on noise."""
    for key, what in (("missing_keys", "lacks"), ("mismatched_keys", "has the wrong shape for")):
        names = sorted(str(n[0] if isinstance(n, tuple) else n) for n in info.get(key) or ())
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise BadInput(f"{path}: the weight file {what} {names[0]}{more}: it does not belong to this config.json")
