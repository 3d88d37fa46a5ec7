"""LoRA adapters: small trainable products beside frozen matrices, so that several models are one base in memory.

A matrix W of the base becomes W + (alpha / rank) · B · A, with A of `rank` rows and B of `rank` columns (Hu et al.
2021, "LoRA", section 4.1). The layers are peft's. They stand in the base only while their model computes: outside of
that the base is the plain model it was loaded as, which is why a reference model costs nothing.
"""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, NonNegativeInt, PositiveFloat
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase
from transformers.pytorch_utils import Conv1D

from heedlm import runs
from heedlm.config import Config
from heedlm.errors import BadInput
from heedlm.models.folder import one_line
from heedlm.models.forward import calibrate, calibration, packs
from heedlm.models.load import ScalarModel, save_model, weights_hash
from heedlm.models.scalar import init_head
from heedlm.runs import Run

_WEIGHTS, _SETTINGS = "adapter_model.safetensors", "adapter_config.json"  # peft's names
_OURS = "heed.json"  # the base's hash, and the calibration of a reward model's scores
_PEFT = "base_model.model."  # what peft puts before a weight's name
_NAME = "default"  # of the adapter within each of peft's layers
_PLACED, _PLAIN = "_heed_placed", "_heed_plain"


class Lora(Config):
    """Low-rank adapters on a frozen model (Hu et al. 2021)."""

    rank: NonNegativeInt = Field(0, description="rank of the adapters; 0: none, all weights are trained")
    alpha: PositiveFloat = Field(16.0, description="the adapters' products are multiplied by alpha / rank")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout before the adapters, in training")
    targets: Literal["all-linear"] | list[str] = Field(
        "all-linear", description="names of the matrices that get one, such as q_proj,v_proj; all-linear: all of them"
    )

    def on(self, model: PreTrainedModel, *, seed: int = 0) -> Adapted:
        """Freeze a model and give it an adapter; a scalar model's head stays trainable.

        At first the adapter changes nothing: B is zero.

        Args:
            model: A causal or scalar model; others may share its trunk, with adapters of their own.
            seed: Decides A.

        Raises:
            BadInput: Without peft, for targets that the model has not, or for a rank above a matrix's own.
        """
        names = self._check(model)
        peft = _peft()
        trunk: Any = model.base_model
        model.requires_grad_(False)
        settings = self._settings(model, names)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            peft.inject_adapter_in_model(settings, trunk, adapter_name=_NAME)
        del trunk.peft_config  # the trunk is to be plain again
        layers = {name: module for name, module in trunk.named_modules() if hasattr(module, "get_base_layer")}
        plain = {name: layer.get_base_layer() for name, layer in layers.items()}
        trunk.__dict__.setdefault(_PLAIN, {}).update(plain)
        for name, module in plain.items():
            _put(trunk, name, module)
        return Adapted(model, self, layers)

    def _check(self, model: PreTrainedModel) -> list[str]:
        """The targets as names that peft knows, after a look whether they are there and large enough."""
        linears = {
            name: module
            for name, module in model.base_model.named_modules()
            if isinstance(module, nn.Linear | Conv1D) and any(part.isdigit() for part in name.split("."))
        }
        known = sorted({name.rsplit(".", 1)[-1] for name in linears})
        wanted = known if self.targets == "all-linear" else list(self.targets)
        for target in wanted:
            if not any(_is_target(name, target) for name in linears):
                raise BadInput(
                    f"lora.targets: {type(model).__name__} has no matrix {target!r} in its blocks;"
                    f" there are: {', '.join(known) or 'none'}"
                )
        if not wanted:
            raise BadInput("lora.targets: is empty; name matrices, or leave it out for all of them")
        chosen = {n: m for n, m in linears.items() if any(_is_target(n, target) for target in wanted)}
        narrow = min(chosen, key=lambda name: min(chosen[name].weight.shape))
        least = min(chosen[narrow].weight.shape)
        if self.rank > least:
            raise BadInput(f"lora.rank={self.rank}: {narrow} is only {least} wide; give a rank of at most {least}")
        return sorted(wanted)

    def _settings(self, model: PreTrainedModel, names: list[str]) -> Any:
        scalar = hasattr(model, "score")
        convolutions = any(isinstance(module, Conv1D) for module in model.base_model.modules())
        return _peft().LoraConfig(
            r=self.rank,
            lora_alpha=int(self.alpha) if self.alpha.is_integer() else self.alpha,
            lora_dropout=self.dropout,
            target_modules=names,
            fan_in_fan_out=convolutions,
            modules_to_save=["score"] if scalar else None,
            task_type="SEQ_CLS" if scalar else "CAUSAL_LM",
            base_model_name_or_path=model.name_or_path,
            inference_mode=False,
        )


class Adapted(nn.Module):
    """A base with an adapter, and with a head of its own if it is a scalar model.

    Its parameters and its state are those of adapter and head alone. It takes the place of its model in
    `hidden_states`, `sequence_logps`, `sequence_scores` and `Learner`; whatever else it is asked for, the model
    answers.

    Args:
        model: What the adapter belongs to; its trunk may be shared.
        lora: Settings of the adapter.
        layers: peft's layers by their names in the trunk.
    """

    def __init__(self, model: PreTrainedModel, lora: Lora, layers: Mapping[str, Any]) -> None:
        super().__init__()
        self.__dict__["model"] = model  # not as a part: its weights are not this module's own
        self.lora = lora
        self.__dict__["layers"] = dict(layers)
        parts = ("lora_A", "lora_B", "lora_dropout")
        self.adapter = nn.ModuleDict(
            {
                name.replace(".", "/"): nn.ModuleDict({part: getattr(layer, part)[_NAME] for part in parts})
                for name, layer in layers.items()
            }
        )
        if hasattr(model, "score"):
            self.score = model.score
        self.requires_grad_(True)
        self.train(model.training)

    model: PreTrainedModel
    layers: dict[str, Any]

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__["model"], name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_heed"):  # how the model's passes are computed is kept with the model
            return setattr(self.model, name, value)
        return super().__setattr__(name, value)

    @contextlib.contextmanager
    def on(self) -> Iterator[PreTrainedModel]:
        """The base with this adapter in place; whatever was there before comes back, also after an error.

        Activations that are computed a second time in the backward pass need the adapter there too, so that a
        whole optimiser step belongs in this context.
        """
        with self._placed(self.layers):
            yield self.model

    @contextlib.contextmanager
    def merged(self) -> Iterator[PreTrainedModel]:
        """The model as one without adapters: for the time being its adapted matrices exist a second time, merged."""
        with self._placed({name: _merged(layer) for name, layer in self.layers.items()}):
            yield self.model

    @contextlib.contextmanager
    def _placed(self, modules: Mapping[str, nn.Module]) -> Iterator[None]:
        trunk: Any = self.model.base_model
        before, mode = trunk.__dict__.get(_PLACED, {}), trunk.training
        try:
            _place(trunk, modules)
            if mode != self.training:
                trunk.train(self.training)
            yield
        finally:
            _place(trunk, before)
            if trunk.training != mode:
                trunk.train(mode)

    @property
    def base_model(self) -> Any:
        """The trunk with the adapter, to be called."""
        return self._trunk

    def _trunk(self, *args: Any, **options: Any) -> Any:
        with self.on() as model:
            return model.base_model(*args, **options)

    def forward(self, *args: Any, **options: Any) -> Any:
        """The model's own forward pass, with the adapter."""
        with self.on() as model:
            return model(*args, **options)

    def shares_base(self, other: nn.Module) -> bool:
        """Whether the other is a model, or one with an adapter, on the very same trunk."""
        held: Any = other.model if isinstance(other, Adapted) else other
        return held.base_model is self.model.base_model

    def save_adapter(self, folder: Path) -> None:
        """Write adapter and head alone, in peft's layout, and beside them the hash of the base they belong to."""
        folder.mkdir(parents=True, exist_ok=True)
        settings = self.lora._settings(self.model, self.lora._check(self.model)).to_dict()
        plain = {key: sorted(value) if isinstance(value, set) else value for key, value in settings.items()}
        plain["inference_mode"] = True
        _write_json(folder / _SETTINGS, plain)
        gain, bias = calibration(self)
        _write_json(folder / _OURS, {"base": base_hash(self.model), "gain": gain, "bias": bias})
        weights = {self._peft_name(name): tensor.detach().contiguous() for name, tensor in self.state_dict().items()}
        save_file(weights, folder / _WEIGHTS, metadata={"format": "pt"})

    def load_adapter(self, folder: Path) -> None:
        """Take over the weights that `save_adapter` wrote.

        Raises:
            BadInput: They cannot be read, or are those of another model or another rank.
        """
        try:
            found = load_file(folder / _WEIGHTS)
            self.load_state_dict({name: found[self._peft_name(name)] for name in self.state_dict()})
        except (OSError, KeyError, RuntimeError, SafetensorError) as error:
            raise BadInput(f"{folder}: this adapter does not fit: {one_line(error)}") from error

    def _peft_name(self, name: str) -> str:
        """`adapter.layers/0/mlp/up_proj.lora_A.weight` as peft calls it."""
        if name.startswith("adapter."):
            return f"{_PEFT}{self.model.base_model_prefix}.{name.removeprefix('adapter.').replace('/', '.')}"
        return _PEFT + name


def scalar_on(model: PreTrainedModel, *, seed: int = 0) -> ScalarModel:
    """A reward model or critic on this model's trunk itself, not a copy; its head is drawn as in `new_reward`.

    Raises:
        BadInput: transformers has no sequence-classification form of this architecture.
    """
    packs(model)  # tried with the config that the trunk's layers read, and not with the copy made here
    config = copy.deepcopy(model.config)
    config.num_labels = 1
    config.heed = {"gain": 1.0, "bias": 0.0}
    weight = next(model.parameters())
    try:
        with torch.device("meta"):
            auto: Any = AutoModelForSequenceClassification
            scalar = auto.from_config(config, dtype=weight.dtype, attn_implementation=config._attn_implementation)
    except ValueError as error:
        raise BadInput(f"{type(model).__name__} cannot become a reward model: {one_line(error)}") from error
    if not isinstance(getattr(scalar, "score", None), nn.Linear):
        raise BadInput(f"{type(scalar).__name__} has no linear `score` head: use another architecture")
    setattr(scalar, scalar.base_model_prefix, model.base_model)
    scalar.score = nn.Linear(scalar.score.in_features, 1, bias=False, dtype=weight.dtype, device=weight.device)
    init_head(scalar, seed)
    made: ScalarModel = scalar.train(False)
    return made


def critic_on(policy: Adapted, lora: Lora, reward: nn.Module | None = None, *, seed: int = 0) -> Adapted:
    """A critic on the policy's base: adapter and head as the reward model's if that shares the base, else new."""
    scalar = scalar_on(policy.model, seed=seed)
    if not isinstance(reward, Adapted) or not policy.shares_base(reward):
        return lora.on(scalar, seed=seed + 1)
    gain, bias = calibration(reward)
    calibrate(scalar, gain=gain, bias=bias)
    critic = reward.lora.on(scalar)
    critic.load_state_dict(reward.state_dict())
    return critic


def reward_on(model: PreTrainedModel, folder: Path) -> Adapted | None:
    """The reward model whose adapter lies in a folder, on this model's trunk; None if it belongs to another base.

    Raises:
        BadInput: The adapter cannot be read.
    """
    try:
        ours, settings = (json.loads((folder / name).read_text(encoding="utf-8")) for name in (_OURS, _SETTINGS))
        base, gain, bias = ours["base"], ours["gain"], ours["bias"]
        lora = Lora(rank=settings["r"], alpha=settings["lora_alpha"], targets=settings["target_modules"])
    except (OSError, ValueError, KeyError) as error:
        raise BadInput(f"{folder}: this adapter cannot be read: {one_line(error)}") from error
    if base != base_hash(model):
        return None
    scalar = scalar_on(model)
    calibrate(scalar, gain=gain, bias=bias)
    adapted = lora.on(scalar)
    adapted.load_adapter(folder)
    return adapted.train(False)


def base_hash(model: PreTrainedModel) -> str:
    """Hash of the weights of a model's trunk, without adapters."""
    return weights_hash(model.base_model)


def whole(model: PreTrainedModel | Adapted) -> PreTrainedModel:
    """The model itself: of one with an adapter the base with its head, without the adapter."""
    return model.model if isinstance(model, Adapted) else model


def switched_on(model: nn.Module) -> contextlib.AbstractContextManager[Any]:
    """The context of an optimiser step: with the adapter in place, if the model is one with an adapter."""
    return model.on() if isinstance(model, Adapted) else contextlib.nullcontext()


def save_outputs(
    run: Run,
    model: PreTrainedModel | Adapted,
    tokenizer: PreTrainedTokenizerBase,
    about: str,
    roles: tuple[str, str] = ("model", "adapter"),
) -> None:
    """Write a run's model, and beside it the adapter if it has one, and record both as outputs.

    Args:
        run: The run that made it.
        model: The merged weights of one with an adapter are written, so that it loads like any other.
        tokenizer: Goes with the weights.
        about: First sentence of the model card.
        roles: Names of the two folders and outputs.
    """
    merged, alone = (run.path / role for role in roles)
    with model.merged() if isinstance(model, Adapted) else contextlib.nullcontext(model) as plain:
        save_model(plain, tokenizer, merged, card=runs.model_card(run, about))
    run.add_output(roles[0], merged)
    if isinstance(model, Adapted):
        model.save_adapter(alone)
        run.add_output(roles[1], alone)


def _peft() -> Any:
    try:
        import peft
    except ImportError:
        raise BadInput("lora.rank: adapters need peft: pip install heedlm[lora], or leave it out") from None
    return peft


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _is_target(name: str, target: str) -> bool:
    """As peft decides it: the whole name, or the end of it after a dot."""
    return name == target or name.endswith(f".{target}")


def _place(trunk: Any, modules: Mapping[str, nn.Module]) -> None:
    """Put these modules where their names say, and the trunk's own everywhere else."""
    placed = trunk.__dict__.get(_PLACED, {})
    if modules is placed:
        return
    for name in placed.keys() - modules.keys():
        _put(trunk, name, trunk.__dict__[_PLAIN][name])
    for name in modules:
        _put(trunk, name, modules[name])
    trunk.__dict__[_PLACED] = modules


def _put(trunk: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(trunk.get_submodule(parent), last, module)


@torch.no_grad()
def _merged(layer: Any) -> nn.Module:
    """The base's module with W + s · B · A for a weight; its bias is the base's own."""
    base = layer.get_base_layer()
    plain: nn.Module = copy.copy(base)
    plain.__dict__["_parameters"] = dict(base._parameters)
    weight = base.weight + layer.get_delta_weight(_NAME).to(base.weight.dtype)
    plain.weight = nn.Parameter(weight, requires_grad=False)
    return plain
