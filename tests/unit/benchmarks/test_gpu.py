"""The GPU script at toy size on the processor, and its bounds by numbers worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.flops import Decoder
from benchmarks.gpu import decode, limits, ppo, run, training
from benchmarks.gpu.bench import UNMEASURED, Bench, Cell, attempt, figures, shape_of
from benchmarks.gpu.clock import Clock, OutOfTime, repeated
from benchmarks.gpu.limits import Limits
from benchmarks.gpu.sizes import QWEN, SIZES, TOY, TOY_WORK, Work, lengths, make, prompts
from benchmarks.gpu.table import markdown

CPU = torch.device("cpu")
# Width 4, 1 layer, 2 heads of 2, 1 key-value head, hidden 6, vocabulary 10: 120 weights in the layer, 40 in the head.
SMALL = Decoder(width=4, layers=1, heads=2, kv_heads=1, head=2, hidden=6, vocabulary=10)


class Hands:
    """A clock whose hands move by what is asked of it."""

    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at

    def spend(self, seconds: float) -> None:
        self.at += seconds


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """The results file of a toy run, and what it printed."""
    path = tmp_path_factory.mktemp("gpu") / "deep" / "gpu.json"
    with pytest.MonkeyPatch.context() as patch:
        printed: list[str] = []
        patch.setattr("builtins.print", lambda *words, **options: printed.append(" ".join(map(str, words))))
        assert run.main(["--toy", "--out", str(path)]) == 0
    return json.loads(path.read_text(encoding="utf-8")), printed[-1]


# ------------------------------------------------------------ the whole script


def test_every_cell_of_a_toy_run_is_measured(toy):
    results, table = toy
    assert [(c["who"], c["why"]) for c in results["cells"] if c["state"] != "measured"] == []
    assert UNMEASURED not in table
    assert {c["part"] for c in results["cells"]} == {"decode", "training", "ppo"}
    for cell in results["cells"]:
        found = cell["figures"]
        assert found["seconds_low"] <= found["seconds"] <= found["seconds_high"]
        assert found["tokens_per_second"] == pytest.approx(found["tokens"] / found["seconds"])
        assert found["share_of_bound"] == pytest.approx(found["bound_seconds"] / found["seconds"])
        assert found["bound_seconds"] > 0


def test_the_same_work_for_everybody(toy):
    cells = toy[0]["cells"]
    decoded = {(c["batch"], c["figures"]["tokens"]) for c in cells if c["part"] == "decode"}
    assert decoded == {(batch, batch * TOY_WORK.answer) for batch in TOY_WORK.batches}
    assert len({c["figures"]["tokens"] for c in cells if c["part"] == "training"}) == 1
    heed = [c["figures"] for c in cells if c["who"].startswith("Heed packed")]
    assert [f["packed"] for f in heed] == [True, True]
    assert {c["who"] for c in cells if c["part"] == "ppo"} == {"Heed, full", "Heed, shared", "Heed, adapters"}


def test_phases_make_up_a_ppo_step(toy):
    for cell in toy[0]["cells"]:
        if cell["part"] == "ppo":
            phases = cell["figures"]["phases"]
            assert set(phases) == set(ppo.PHASES)
            assert 0 < sum(phases.values()) <= 1.5 * cell["figures"]["seconds_high"]


def test_results_say_how_they_came_about(toy):
    results, table = toy
    assert {"date", "device", "versions", "seed", "sizes", "work", "limits", "notes", "cells"} <= set(results)
    assert results["versions"]["torch"] == torch.__version__
    assert any("nothing about a GPU" in note for note in results["notes"])
    text = json.dumps(results) + table
    assert str(run.ROOT) not in text
    assert str(Path.home()) not in text


def test_without_time_the_table_says_not_yet_measured():
    results = run.run([SIZES["0.5b"], SIZES["7b"]], Work(), CPU, Clock(0.0, now=lambda: 1.0), lambda found: None)
    assert results["limits"] is None
    assert {c["state"] for c in results["cells"]} == {UNMEASURED}
    rows = [line for line in markdown(results).splitlines() if line.startswith(("| 0.5b", "| 7b"))]
    assert len(rows) == len(results["cells"]) > 20
    assert all(f"| {UNMEASURED} |" in row for row in rows)


def test_time_that_ends_midway_leaves_the_rest_unmeasured(monkeypatch):
    hands, kept = Hands(), []
    monkeypatch.setattr(limits, "measure", lambda *known: Limits(1e9, 1e9))

    def slow(bench, size, cell, clock):
        hands.spend(30)
        return figures([30.0], 10, 1.0)

    for part in (decode, training, ppo):
        monkeypatch.setattr(part, "measure", slow)
    results = run.run([TOY], TOY_WORK, CPU, Clock(100.0, now=hands), lambda found: kept.append(len(found["cells"])))
    states = [c["state"] for c in results["cells"]]
    assert hands.at <= 130
    assert 1 <= states.count("measured") <= 5
    assert states.count("measured") + states.count(UNMEASURED) == len(states)
    assert len(kept) == 1 + len(states), "kept once before anything ran and once after every cell"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore"), "out of memory"),
        (RuntimeError("CUBLAS_STATUS_ALLOC_FAILED"), "failed"),
    ],
)
def test_an_error_in_a_part_is_recorded_and_ends_nothing_else(monkeypatch, error, told):
    def broken(bench, size, cell, clock):
        raise error

    def sound(bench, size, cell, clock):
        return figures([2.0, 1.0, 4.0], 8, 0.5) | {"phases": {}, "tflops": 1.0}

    monkeypatch.setattr(limits, "measure", lambda *known: Limits(1e9, 1e9))
    monkeypatch.setattr(training, "measure", broken)
    monkeypatch.setattr(decode, "measure", sound)
    monkeypatch.setattr(ppo, "measure", sound)
    results = run.run([TOY], TOY_WORK, CPU, Clock(1e9, now=lambda: 0.0), lambda found: None)
    states = {
        part: {c["state"] for c in results["cells"] if c["part"] == part} for part in ("decode", "training", "ppo")
    }
    assert states == {"decode": {"measured"}, "training": {"failed"}, "ppo": {"measured"}}
    reasons = {c["why"] for c in results["cells"] if c["part"] == "training"}
    assert len(reasons) == 1
    assert str(error).splitlines()[0] in reasons.pop()
    table = markdown(results)
    assert f"| toy | Heed packed | {told} | – | – |" in table
    assert "| toy | 1 | Heed native | 4 | 16 | 25.0% | – |" in table


def test_models_of_a_failed_cell_are_let_go():
    bench = Bench(CPU, Limits(1, 1), TOY_WORK)

    def broken(bench, size, cell, clock):
        bench.once("model", lambda: "weights")
        raise ValueError("no")

    cell = Cell("decode", "toy", "x")
    attempt(bench, broken, TOY, cell, Clock(10.0, now=lambda: 0.0))
    assert (cell.state, cell.why, bench.held) == ("failed", "ValueError: no", {})


def test_what_cannot_run_is_told_in_a_line(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert run.main([]) == 2
    assert run.main(["--sizes", "3b"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert "--toy" in said[0]
    assert "'3b'" in said[1]
    assert run.missing(["json", "no_such_package_anywhere"]) == ["no_such_package_anywhere"]


# ------------------------------------------------------------ bounds


def test_bytes_of_a_decode_step_by_hand():
    assert limits.weight_bytes(SMALL) == 2 * (120 + 40)
    assert limits.kept_bytes(SMALL) == 2 * 2 * 1 * 1 * 2  # bfloat16, keys and values, a layer, a head, width 2
    assert limits.step_bytes(SMALL, batch=2, tokens=5) == 320 + 2 * 5 * 8


def test_decoding_is_bound_by_bytes_or_by_operations():
    # Reading 3 tokens gives the first token; the steps for the other two see 4 and 5 tokens a row.
    by_bytes = limits.decode_seconds(SMALL, 2, 3, 3, Limits(bandwidth=100.0, flops=1e12))
    assert by_bytes == pytest.approx((320 + (320 + 64) + (320 + 80)) / 100)
    # Reading: 2·120·6 tokens, 4·4 for each of 12 pairs, 2·40 for two logits. Steps: 2·120·2, 4·4·(8, 10), 2·40·2.
    by_operations = limits.decode_seconds(SMALL, 2, 3, 3, Limits(bandwidth=1e12, flops=100.0))
    assert by_operations == pytest.approx((1440 + 192 + 160 + 480 + 128 + 160 + 480 + 160 + 160) / 100)


def test_operations_of_training_tokens_by_hand():
    # Rows of 3 and 1 tokens: 4 tokens, 7 pairs, 2 logits.
    assert limits.training_flops(SMALL, [3, 1]) == 3 * (2 * 120 * 4 + 16 * 7 + 2 * 40 * 2)


def test_a_ppo_step_is_decoding_and_what_follows():
    rate = Limits(bandwidth=1e12, flops=100.0)
    whole = limits.ppo_seconds(SMALL, 1, 3, 2, rate)
    # One row of 5 tokens, 15 pairs: reference with 2 logits, reward, values; then both updates, three times as much.
    states = 2 * 120 * 5 + 16 * 15
    logits = states + 2 * 40 * 2
    after = logits + states + states + 3 * logits + 3 * states
    assert whole == pytest.approx(limits.decode_seconds(SMALL, 1, 3, 2, rate) + after / 100)
    frozen = limits.ppo_seconds(SMALL, 1, 3, 2, rate, frozen=True)
    assert whole - frozen == pytest.approx((2 * (2 * 120 * 5) + 2 * 40 * 2) / 100)


def test_share_of_bound_is_of_the_median():
    found = figures([4.0, 1.0, 2.0], tokens=10, bound_seconds=0.5)
    assert (found["seconds"], found["tokens_per_second"]) == (2.0, 5.0)
    assert (found["bound_tokens_per_second"], found["share_of_bound"]) == (20.0, 0.25)


def test_data_sheets_go_by_the_name_that_torch_tells():
    assert limits.data_sheet("NVIDIA H100 80GB HBM3") == (989.4e12, 3350e9)
    assert limits.data_sheet("NVIDIA H200") == (989.4e12, 4800e9)
    assert limits.data_sheet("NVIDIA H100 PCIe")[1] == 2000e9
    assert limits.data_sheet("NVIDIA H100 NVL")[1] == 3900e9
    assert limits.data_sheet("some processor") == (None, None)


@pytest.mark.parametrize(("name", "billions"), [("0.5b", 0.494), ("1.5b", 1.543), ("7b", 7.61)])
def test_sizes_are_what_they_are_called(name, billions):
    size, shape = SIZES[name], shape_of(SIZES[name])
    matrices = shape.weights + QWEN * shape.width * (1 if size.tied else 2)
    assert matrices / 1e9 == pytest.approx(billions, rel=2e-3)


def test_counted_weights_are_the_models_own():
    model = make(TOY, CPU, torch.bfloat16)
    matrices = sum(p.numel() for p in model.parameters() if p.ndim == 2)
    shape = shape_of(TOY)
    assert matrices == shape.weights + shape.width * shape.vocabulary
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    again = make(TOY, CPU, torch.bfloat16)
    assert torch.equal(model.lm_head.weight, again.lm_head.weight)


# ------------------------------------------------------------ time and work


def test_runs_stop_before_they_overrun():
    hands = Hands()
    clock = Clock(100.0, now=hands).part(0.5)
    spent = repeated(lambda: hands.spend(20), clock, CPU, repeats=10, warm=[lambda: hands.spend(1)], scale=20)
    assert spent == [20.0, 20.0]
    assert hands.at == 41.0
    assert clock.left == 9.0


def test_the_first_run_may_use_its_parts_time_and_no_more():
    hands = Hands()
    part = Clock(100.0, now=hands)
    assert repeated(lambda: hands.spend(30), part.part(0.1), CPU, repeats=5, warm=[lambda: hands.spend(30)]) == [30.0]
    with pytest.raises(OutOfTime, match="50 s needed, 35 s left"):
        repeated(lambda: hands.spend(50), part.part(1.0), CPU, repeats=5, warm=[lambda: hands.spend(5)], scale=10)
    assert hands.at == 65.0


def test_nothing_begins_after_the_end():
    clock = Clock(1.0, now=lambda: 2.0)
    cell = Cell("decode", "toy", "x")
    attempt(Bench(CPU, Limits(1, 1), TOY_WORK), decode.measure, TOY, cell, clock)
    assert (cell.state, cell.figures) == (UNMEASURED, {})
    assert cell.why.startswith("out of time")


def test_padded_batches_keep_order_and_budget():
    assert training.padded_batches([3, 5, 2, 9, 12], budget=10) == [[0, 1], [2], [3], [4]]


def test_rows_and_prompts_are_the_same_every_time():
    rows = lengths(1000, 10, 100, seed=1)
    assert rows == lengths(1000, 10, 100, seed=1)
    assert 900 <= sum(rows) <= 1000
    assert all(10 <= n <= 100 for n in rows)
    assert prompts(TOY, 2, 3, seed=4) == prompts(TOY, 2, 3, seed=4) != prompts(TOY, 2, 3, seed=5)


def test_an_engine_without_the_option_has_no_captured_cells(monkeypatch):
    monkeypatch.setattr(decode, "graph_option", lambda: None)
    assert {c.who for c in decode.cells(TOY, TOY_WORK)} == {decode.HEED, decode.PLAIN}
    monkeypatch.setattr(decode, "graph_option", lambda: "graph")
    assert decode.GRAPH in {c.who for c in decode.cells(TOY, TOY_WORK)}


def test_compiling_waits_for_enough_time():
    bench, hands = Bench(CPU, Limits(1, 1), Work()), Hands()
    cell = Cell("decode", "toy", decode.COMPILED, 16)
    attempt(bench, decode.measure, TOY, cell, Clock(99.0, now=hands))
    assert cell.state == UNMEASURED
    assert "100 s needed" in cell.why
