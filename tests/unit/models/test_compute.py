"""Precision and recomputation: options of speed and memory that leave the method alone."""

import ctypes
import subprocess
import sys

import pytest
import torch
from tests.unit import devices
from tests.unit.train import tiny

from heedlm.errors import BadInput
from heedlm.models.compute import Compute, find_device
from heedlm.models.forward import sequence_logps
from heedlm.stages import reward, rl, sft
from heedlm.train.batching import Row, lay_out

ROWS = [Row([5, 6, 7, 8, 9], [True] * 5), Row([10, 11, 12], [True] * 3)]


def gradient(compute: Compute) -> torch.Tensor:
    model = tiny.model(3, vocabulary=40, spread=0.3, dtype=torch.float64).requires_grad_(True).train()
    compute.apply(model)
    packed, targets = lay_out(ROWS)
    sequence_logps(model, packed, targets).sum().backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def test_recomputing_activations_changes_nothing() -> None:
    torch.testing.assert_close(gradient(Compute(recompute=True)), gradient(Compute()), rtol=1e-12, atol=1e-14)


def test_the_layers_really_run_twice() -> None:
    runs = []
    for recompute in (False, True):
        model = tiny.model(3, vocabulary=40).requires_grad_(True).train()
        Compute(recompute=recompute).apply(model)
        calls: list[int] = []
        packed, targets = lay_out(ROWS)
        sequence_logps(model, packed, targets)  # the first pass also tries what the model can do
        model.model.layers[0].mlp.register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        sequence_logps(model, packed, targets).sum().backward()
        runs.append(len(calls))
    assert runs == [1, 2]


def test_a_model_that_cannot_recompute_is_named() -> None:
    model = tiny.model()
    model.supports_gradient_checkpointing = False
    with pytest.raises(BadInput, match=r"LlamaForCausalLM cannot recompute .* leave out compute\.recompute"):
        Compute(recompute=True).apply(model)


@pytest.mark.parametrize("has", [True, False])
def test_auto_is_bfloat16_where_the_processor_has_it(monkeypatch, has: bool) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": has, "amx_bf16": False}, raising=False)
    exact, chosen = tiny.model(3), tiny.model(3)
    Compute(precision="auto").apply(chosen)
    packed, targets = lay_out(ROWS)
    with torch.no_grad():
        same = torch.equal(sequence_logps(exact, packed, targets), sequence_logps(chosen, packed, targets))
    assert same == (not has)


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    folder = tmp_path_factory.mktemp("material")
    tiny.folder(folder / "model", seed=1)
    tiny.demonstrations(folder / "demonstrations.jsonl")
    tiny.comparisons(folder / "comparisons.jsonl", [("In the red house.", "No.")] * 24)
    tiny.prompts(folder / "prompts.jsonl")
    return folder


def test_stages_train_in_bfloat16_and_keep_wide_weights(material, tmp_path):
    """Fine-tuning in both precisions: other numbers, but nearly, and the saved weights are float32."""
    losses = []
    for precision in ("float32", "bfloat16"):
        run = tiny.run(
            sft,
            tmp_path / precision,
            model=material / "model",
            data=material / "demonstrations.jsonl",
            steps=10,
            length=64,
            optim__lr=1e-2,
            compute__precision=precision,
            held_out_share=0.25,
        )
        losses.append(run.info.results["held_out_loss"])
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)
    from heedlm.models import load_model

    assert {p.dtype for p in load_model(tmp_path / "bfloat16" / "sft" / run.path.name / "model").parameters()} == {
        torch.float32
    }


def test_reward_and_policy_train_with_both_options(material, tmp_path):
    both = {"compute__precision": "bfloat16", "compute__recompute": True}
    judge = tiny.run(
        reward,
        tmp_path,
        model=material / "model",
        data=material / "comparisons.jsonl",
        imitation=0.1,
        held_out_share=0.25,
        length=64,
        **both,
    )
    run = tiny.run(
        rl,
        tmp_path,
        model=material / "model",
        reward__name="learned",
        reward__path=judge.path,
        prompts=material / "prompts.jsonl",
        steps=2,
        rollouts=4,
        minibatch=2,
        sampling__max_new_tokens=4,
        **both,
    )
    first = run.read_metrics()[0]
    # Policy and reference compute alike, so that the first KL is zero in this precision too.
    assert first["kl/mean_nats"] == 0
    assert first["first/clip_fraction"] == 0


# ---------------------------------------------------------------- where


def test_a_device_is_found_with_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_device("cpu") == find_device(torch.device("cpu")) == torch.device("cpu")
    with devices.pretended(monkeypatch) as device:
        assert find_device("cuda") == device


def test_auto_is_a_gpu_that_works(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert find_device("auto") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with devices.pretended(monkeypatch) as device:
        assert find_device("auto") == device
    assert not caplog.records

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA error: no kernel image is available\nfor execution")

    monkeypatch.setattr(torch, "ones", broken)
    assert find_device("auto") == torch.device("cpu")
    assert "no kernel image is available for execution" in caplog.text


@pytest.mark.parametrize("name", ["cuda:99", "toaster", "meta", ""])
def test_a_device_that_is_not_there_is_one_line(name: str) -> None:
    with pytest.raises(BadInput, match=rf"^device={name}: torch cannot compute there \(.*\); give cpu") as caught:
        find_device(name)
    assert "\n" not in str(caught.value)


def test_freed_memory_is_used_again_instead_of_asked_for_anew() -> None:
    """Pages that the kernel had to clear, in a process of its own: 16 MiB are 4,096 of them."""
    if not hasattr(ctypes.CDLL(None), "mallopt"):
        pytest.skip("no mallopt in this C library")
    code = """
import resource, torch
from heedlm.models.compute import keep_freed_memory
def cleared():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.empty(4 << 20).fill_(1.0)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
keep_freed_memory()
cleared()
print(cleared())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 4096  # 80,000 without
