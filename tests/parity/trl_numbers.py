"""What TRL 1.16's own trainers make of the log-probabilities, scores and rewards below: losses and gradients.

Run where TRL is installed (it is no part of Heed's environment): `python -m tests.parity.trl_numbers` writes
`trl_numbers.json`, with the numbers that went in. `test_trl_numbers.py` holds Heed to them without TRL. Each trainer
is asked for its own loss; in place of a model it gets one that answers with the given numbers.
"""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

FILE = Path(__file__).with_suffix(".json")
PAIRS, GROUPS, ANSWERS, WIDTH, ROOM, BETA = 6, 3, 4, 7, 10, 0.07


def numbers() -> dict[str, Any]:
    """Log-probabilities (nats a token) under policy, old policy and reference, lengths, and scores."""
    draw = torch.Generator().manual_seed(16)
    rows = 2 * PAIRS
    ref = -3 * torch.rand(rows, WIDTH, generator=draw, dtype=torch.float64)
    old = -3 * torch.rand(GROUPS * ANSWERS, WIDTH, generator=draw, dtype=torch.float64)

    def near(values: Tensor) -> Tensor:
        return values + 0.3 * torch.randn(values.shape, generator=draw, dtype=torch.float64)

    given = {
        "policy": near(ref),
        "reference": ref,
        "mismatched": near(ref),  # of answers to other prompts, as KTO needs them
        "lengths": torch.randint(1, WIDTH + 1, (rows,), generator=draw),
        "new": near(old),
        "old": old,
        "anchor": near(old),
        "group_lengths": torch.randint(1, WIDTH + 1, (GROUPS * ANSWERS,), generator=draw),
        "scores": torch.randn(GROUPS * ANSWERS, generator=draw, dtype=torch.float64),
        "rewards": torch.randn(rows, generator=draw, dtype=torch.float64),
    }
    return {name: values.tolist() for name, values in given.items()}


def masked(values: Any, lengths: Any) -> Tensor:
    """Log-probabilities (B, T) with zeros behind each answer's end."""
    wide = torch.tensor(values, dtype=torch.float64)
    return wide * (torch.arange(wide.shape[1])[None] < torch.tensor(lengths)[:, None])


class Saying:
    """A model that gives these log-probabilities, whatever it is asked."""

    def __init__(self, logps: Tensor) -> None:
        self.logps = logps

    def __call__(self, **_: Any) -> Any:
        nothing = torch.zeros_like(self.logps)
        logged = {"entropy": nothing, "mean_logits": nothing, "is_top1": nothing.bool()}
        return SimpleNamespace(log_probs=self.logps, logits=self.logps, **logged)


def found(loss: Tensor, leaf: Tensor) -> dict[str, Any]:
    """A loss with its gradient."""
    return {"loss": float(loss.detach()), "gradient": torch.autograd.grad(loss, leaf)[0].tolist()}


def preferences(given: dict[str, Any]) -> dict[str, Any]:
    """DPO, its robust form, IPO (means a token) and KTO."""
    from datasets import Dataset
    from tests.unit.train import tiny
    from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer

    class OwnDpo(DPOTrainer):
        def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
            return dataset

    class OwnKto(KTOTrainer):
        def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
            return dataset

    common = {
        "output_dir": tempfile.mkdtemp(), "per_device_train_batch_size": 4, "report_to": [], "use_cpu": True,
        "bf16": False, "fp16": False, "max_length": None, "gradient_checkpointing": False,
    }  # fmt: skip
    shape = (2 * PAIRS, WIDTH + 1)
    mask = torch.cat([torch.zeros(shape[0], 1), masked(torch.ones(2 * PAIRS, WIDTH).tolist(), given["lengths"])], 1)
    batch = {"input_ids": torch.ones(shape, dtype=torch.long), "attention_mask": torch.ones(shape).long()}
    batch["completion_mask"] = mask.long()
    made: dict[str, Any] = {}
    row = {"prompt_ids": [3], "chosen_ids": [4, 2], "rejected_ids": [5, 2]}
    for name, settings in {
        "dpo": {"beta": 0.3},
        "robust": {"beta": 0.3, "loss_type": ["robust"], "label_smoothing": 0.2},
        "ipo": {"beta": 0.3, "loss_type": ["ipo"]},
    }.items():
        trainer = OwnDpo(
            model=tiny.model(1), ref_model=tiny.model(2), args=DPOConfig(**common, **settings),
            processing_class=tiny.tokenizer(), train_dataset=Dataset.from_list([row] * 4),
        )  # fmt: skip
        leaf = masked(given["policy"], given["lengths"]).requires_grad_()
        trainer.ref_model = Saying(masked(given["reference"], given["lengths"]))
        made[name] = found(trainer._compute_loss(Saying(leaf), dict(batch), False), leaf)
    one = {"prompt_ids": [3], "completion_ids": [4, 2], "KL_completion_ids": [5, 2], "label": True}
    settings = {"beta": 0.3, "desirable_weight": 1.2, "undesirable_weight": 0.9}
    trainer = OwnKto(
        model=tiny.model(1), ref_model=tiny.model(2),
        args=KTOConfig(**common, **settings, train_sampling_strategy="sequential"),
        processing_class=tiny.tokenizer(), train_dataset=Dataset.from_list([one] * 4),
    )  # fmt: skip
    leaf = masked(given["policy"], given["lengths"]).requires_grad_()
    said = {True: masked(given["mismatched"], given["lengths"]), False: masked(given["reference"], given["lengths"])}
    policy, reference = Saying(leaf), Saying(said[False])
    trainer.ref_model = reference
    trainer._compute_kl_logps = lambda model, _: said[model is policy].sum(1)
    label = torch.arange(2 * PAIRS) % 3 > 0
    made["kto"] = found(trainer._compute_loss(policy, {**batch, "label": label}, False), leaf)
    return made


def rewards(given: dict[str, Any]) -> dict[str, Any]:
    """The loss of a reward model: plain, with a margin, and with centring."""
    from trl import RewardTrainer

    made = {}
    for name, centring, margin in (("reward", None, None), ("margin", None, 1 / 3), ("centred", 0.01, None)):
        leaf = torch.tensor(given["rewards"], dtype=torch.float64).requires_grad_()
        gather = SimpleNamespace(gather=lambda x: x, gather_for_metrics=lambda x: x)
        me = SimpleNamespace(
            model=SimpleNamespace(training=False), args=SimpleNamespace(center_rewards_coefficient=centring),
            accelerator=gather, _total_train_tokens=0, _metrics={"eval": defaultdict(list)},
        )  # fmt: skip
        inputs = {} if margin is None else {"margin": torch.full((PAIRS,), margin, dtype=torch.float64)}
        made[name] = found(RewardTrainer.compute_loss(me, Saying(leaf[:, None]), inputs), leaf)
    return made


def groups(given: dict[str, Any]) -> dict[str, Any]:
    """GRPO, Dr. GRPO, DAPO's loss and RLOO on advantages that are part of the numbers."""
    from trl.trainer.grpo_trainer import GRPOTrainer
    from trl.trainer.rloo_trainer import RLOOTrainer

    logps = {name: torch.tensor(given[name], dtype=torch.float64) for name in ("old", "anchor")}
    mask = masked(torch.ones(GROUPS * ANSWERS, WIDTH).tolist(), given["group_lengths"]).long()
    scores = torch.tensor(given["scores"], dtype=torch.float64).view(GROUPS, ANSWERS)
    kl = ((logps["old"] - logps["anchor"]) * mask).sum(1).view(GROUPS, ANSWERS)
    whole = scores - BETA * kl
    others = (whole.sum(1, keepdim=True) - whole) / (ANSWERS - 1)
    less = scores - scores.mean(1, keepdim=True)
    advantages = {
        "grpo": less / (scores.std(1, keepdim=True) + 1e-4), "dr_grpo": less,
        "dapo": less / (scores.std(1, keepdim=True) + 1e-4), "rloo": whole - others,
    }  # fmt: skip
    accelerator = SimpleNamespace(
        num_processes=1, process_index=0, device="cpu", sync_gradients=True, gather=lambda x: x,
        gather_for_metrics=lambda x: x, reduce=lambda x, reduction="sum": x,
    )  # fmt: skip
    made = {}
    for name, each in advantages.items():
        leaf = torch.tensor(given["new"], dtype=torch.float64).requires_grad_()
        me = SimpleNamespace(
            _get_per_token_logps_and_entropies=lambda *_, leaf=leaf, **__: (leaf, torch.zeros_like(leaf), None),
            top_entropy_quantile=1.0, off_policy_mask_threshold=None, importance_sampling_level="token", beta=BETA,
            args=SimpleNamespace(use_bias_correction_kl=False, delta=None, steps_per_generation=1), epsilon_low=0.2,
            epsilon_high=0.28 if name == "dapo" else 0.2, use_vllm=False, vllm_importance_sampling_correction=False,
            model=SimpleNamespace(training=True), accelerator=accelerator, current_gradient_accumulation_steps=1,
            max_completion_length=ROOM, aux_loss_enabled=False, router_aux_loss_coef=0.0, loss_type=name,
            _entropy_bonus_enabled=False, _metrics={"train": defaultdict(list)},
        )  # fmt: skip
        inputs = {
            "prompt_ids": torch.zeros(len(mask), 1).long(), "prompt_mask": torch.ones(len(mask), 1),
            "completion_ids": torch.zeros_like(mask), "completion_mask": mask, "advantages": each.reshape(-1),
            "old_per_token_logps": logps["old"], "ref_per_token_logps": logps["anchor"],
            "old_logps": (logps["old"] * mask).sum(1), "num_items_in_batch": mask.sum(),
        }  # fmt: skip
        trainer = RLOOTrainer if name == "rloo" else GRPOTrainer
        made[name] = found(trainer._compute_loss(me, SimpleNamespace(training=True), inputs), leaf)
    return made


def main() -> None:
    """Write the file."""
    import trl

    given = numbers()
    result = {"trl": trl.__version__, "given": given, "found": preferences(given) | rewards(given) | groups(given)}
    FILE.write_text(json.dumps(result) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
