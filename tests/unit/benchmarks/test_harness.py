"""Every case runs at toy size through the harness, and its results hold what their readers need."""

from __future__ import annotations

import copy
import functools
import json
from pathlib import Path
from typing import Any

import pytest
from benchmarks import report, run, worker
from benchmarks.cases import CASES, Case
from benchmarks.cases.base import Contestant, Goal, Workload
from benchmarks.job import Job

LIMIT = {"float32": 100.0, "bfloat16": 200.0}


@functools.cache
def toy(name: str) -> dict[str, Any]:
    runs = run.measure(CASES[name], run.in_process, how="toy", rounds=1, groups={"heed"}, threads=1)
    return report.gather(CASES[name], runs, LIMIT, how="toy", threads=1)


@pytest.mark.parametrize("name", CASES)
def test_heeds_side_runs(name, tmp_path):
    results = toy(name)
    ran = [f for f in results["figures"] if "absent" not in f]
    assert {f["contestant"] for f in ran} >= {"heed-fp32"}
    for figure in ran:
        assert figure["peak_mib"] > 0
        if "median" in figure:
            assert 0 < figure["low"] <= figure["median"] <= figure["high"]
            assert figure["bound"] > 0
        else:
            assert results["points"]
    path = report.keep(tmp_path, results)
    assert json.loads(path.read_text(encoding="utf-8")) == json.loads(json.dumps(results))
    assert report.table(tmp_path).count("|") > 10


@pytest.mark.parametrize("name", CASES)
def test_results_say_how_they_came_about(name):
    results = toy(name)
    needed = "case what unit command date commit changed machine versions seeds sizes settings contestants"
    assert {*needed.split(), "figures", "goals", "runs"} <= set(results)
    assert set(results["machine"]) >= {"processor", "cores", "memory_gib", "threads", "matmul_gflops"}
    assert results["versions"]["all others"]["torch"]
    text = json.dumps(results)
    assert str(Path.home()) not in text
    assert str(run.ROOT) not in text


def test_growth_has_exponents_and_a_picture(tmp_path):
    results = toy("growth")
    fitted = {(e["what"], e["against"]) for e in results["exponents"]}
    assert fitted >= {("generation", "prompts"), ("generation", "vocabulary"), ("training", "answers")}
    report.keep(tmp_path, results)
    assert 1000 < (tmp_path / "growth.png").stat().st_size < 200_000


def test_the_shared_prompt_is_compared_with_as_many_separate_tokens():
    from benchmarks import data, models
    from benchmarks.sides.heed_alone import _ranking

    from heedlm.models.chat import Chat
    from heedlm.models.tokenizer import load_tokenizer

    chat = Chat(load_tokenizer(models.folder("toy")))
    draw = data.random.Random(0)
    together = _ranking(draw, chat, 4, 6, 3, common=True)
    apart = _ranking(draw, chat, 4, 6, 3, common=False)
    assert together.tokens == apart.tokens == 4 * 9
    assert (together.work, apart.work) == (6 + 4 * 3, 4 * 9)


def test_contestants_take_turns_and_an_absent_one_is_asked_once():
    asked: list[tuple[str, int]] = []

    def launch(job: Job) -> dict[str, Any]:
        asked.append((job.side, job.seed))
        if job.side == "b":
            return {"absent": "not here"}
        return {"passes": [{"seconds": 2.0, "tokens": 10, "flops": 10**9}], "peak_mib": 5.0}

    case = Case(
        "generation", "", "", (Workload("w", "toy", {}, {}, {}),),
        {name: Contestant(name, name, "float32", "") for name in ("a", "b", "c")},
        goals=(Goal("x", "w", ("a",), ("c",), 1.5), Goal("y", "w", ("a",), ("b",), 1.5)),
    )  # fmt: skip
    runs = run.measure(case, launch, how="full", rounds=3, groups=None, threads=1)
    assert asked == [("a", 0), ("b", 0), ("c", 0), ("a", 1), ("c", 1), ("a", 2), ("c", 2)]
    results = report.gather(case, runs, LIMIT, how="full", threads=1)
    # 10 tokens need 1 GFLOP: at 100 GFLOP/s no more than 1,000 tokens a second.
    assert results["figures"][0]["median"] == 5.0
    assert results["figures"][0]["bound"] == 1000.0
    assert results["figures"][0]["share_of_bound"] == 0.005
    met, missing = results["goals"]
    assert (met["ratio"]["value"], met["met"]) == (1.0, False)
    assert missing["absent"] == "b: not here"


def test_only_the_chosen_peers_run():
    names = [name for _, name, _ in run.plan(CASES["sft"], "toy", {"trl"}, 0, 1)]
    assert names == ["trl-fp32", "trl-bf16"]


def test_a_goal_takes_the_fastest_of_each_side():
    def made(name: str, tokens: int) -> dict[str, Any]:
        passes = [{"seconds": 1.0, "tokens": tokens, "flops": 1}]
        return {"workload": "w", "contestant": name, "round": 0, "passes": passes, "peak_mib": 1.0}

    runs = [made("a", 10), made("b", 30), made("c", 5), made("d", 6)]
    found = report.reached(Goal("best", "w", ("a", "b"), ("c", "d"), 4.0), runs)
    assert found is not None
    assert found["fastest"] == ["b", "d"]
    assert (found["ratio"]["value"], found["met"]) == (5.0, True)
    assert report.reached(Goal("other", "elsewhere", ("a",), ("b",), 1.0), runs) is None


def test_the_table_names_every_goal(tmp_path):
    results = toy("sft")
    report.keep(tmp_path, results)
    told = report.table(tmp_path)
    assert "sft, 3m: same precision (fp32)" in told
    assert "not run" in told
    assert "generation" in told
    assert "not yet measured" in told


def test_ways_to_tune_take_turns_and_give_medians():
    speeds = iter([10, 20, 30, 40])
    asked: list[str] = []

    def launch(job: Job) -> dict[str, Any]:
        asked.append(job.options["way"])
        if job.options["way"] == "c":
            return {"absent": "failed: no"}
        return {"passes": [{"seconds": 1.0, "tokens": next(speeds), "flops": 1}], "peak_mib": 5.0}

    ways = {way: {"way": way} for way in "abc"} | {"weights": {"way": "d", "weights": "bfloat16"}}
    case = Case(
        "sft", "", "", (Workload("w", "toy", {}, {}, {}),), {"p": Contestant("p", "p", "float32", "", tried=ways)}
    )
    rows = run.tune(case, launch, how="full", rounds=2, threads=1)
    assert asked == ["a", "b", "c", "a", "b"]
    assert [row.get("median") for row in rows] == [20.0, 30.0, None]
    assert rows[2]["absent"] == "failed: no"


def test_reasons_hold_no_paths():
    error = ValueError("/data/shared/rows-1/hh.jsonl.gz: 2 of 9 rows are bad\nmore")
    assert worker.first_line(error) == "…/hh.jsonl.gz: 2 of 9 rows are bad"
    assert worker.first_line(ValueError()) == ""


def test_tuning_keeps_the_rows_of_other_cases(tmp_path):
    path = tmp_path / "tuning.json"
    report.keep_tuning(path, [{"case": "sft", "tried": "old"}, {"case": "reward", "tried": "kept"}], 1)
    report.keep_tuning(path, [{"case": "sft", "tried": "new"}], 1)
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    assert [(row["case"], row["tried"]) for row in rows] == [("reward", "kept"), ("sft", "new")]


def test_every_contestant_can_be_told_apart_and_every_goal_names_one():
    for case in CASES.values():
        for goal in case.goals:
            assert {*goal.of, *goal.to} <= set(case.contestants), (case.name, goal.name)
            assert goal.workload in {workload.name for workload in case.workloads}
        told = [who.what for who in case.contestants.values()]
        assert len(set(told)) == len(told)


def test_settings_of_a_case_stay_as_they_are():
    before = copy.deepcopy({name: [w.sized("full") for w in case.workloads] for name, case in CASES.items()})
    toy("sft")
    assert before == {name: [w.sized("full") for w in case.workloads] for name, case in CASES.items()}


def test_kept_results_are_complete():
    """What is committed can be read by the table, says which machine, and was not made at toy size."""
    for name in CASES:
        path = run.RESULTS / f"{name}.json"
        if path.exists():
            results = json.loads(path.read_text(encoding="utf-8"))
            assert results["sizes"] == "full"
            assert results["machine"]["matmul_gflops"]["float32"] > 0
    assert report.table(run.RESULTS).startswith("| what |")
