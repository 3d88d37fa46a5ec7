"""What a report is made from: evaluations beside a run, chains, damaged neighbours."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from heedlm.errors import BadInput
from heedlm.report import Source
from heedlm.runs import Run


def test_a_policy_finds_the_evaluation_that_measured_it(chain: dict[str, Path]) -> None:
    source = Source.read(chain["ppo"])
    assert source.measured is not None
    assert source.measured.name == chain["evaluate"].name
    assert source.results["kl_nats"] == 3.61
    assert Source.read(chain["sft"]).measured is None


def test_an_evaluation_shows_the_curves_of_the_model_it_measured(chain: dict[str, Path]) -> None:
    source = Source.read(chain["evaluate"])
    assert source.subject.info.stage == "ppo"
    assert len(source.metrics) == 200
    assert source.samples


def test_the_runs_before_come_once_and_oldest_first(chain: dict[str, Path]) -> None:
    source = Source.read(chain["ppo"])
    names = [run.info.stage for run in source.others]
    assert sorted(names) == ["label", "pretrain", "reward", "sft", "village"]
    starts = [run.info.started for run in source.others]
    assert starts == sorted(starts)


def test_a_chain_shows_its_parts(chain: dict[str, Path], tmp_path: Path) -> None:
    top = tmp_path / "demo" / "seed-3"
    shutil.copytree(chain["ppo"].parent.parent, top)
    record = Run.open(chain["village"]).info.model_copy(update={"stage": "demo", "name": "seed-3", "inputs": []})
    (top / "run.json").write_text(record.model_dump_json(), encoding="utf-8")
    source = Source.read(top)
    assert source.subject.info.stage == "ppo"
    assert source.measured is not None
    assert {run.info.stage for run in source.others} >= {"village", "pretrain", "sft", "reward", "evaluate"}
    assert [each.role for each in source.quarantined] == ["prompts of ppo"]
    assert source.lineage.stage == "evaluate"


def test_a_damaged_neighbour_costs_no_report(chain: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "runs"
    shutil.copytree(chain["ppo"].parent.parent, out)
    (out / "evaluate" / chain["evaluate"].name / "run.json").write_text("{torn", encoding="utf-8")
    (out / "pretrain" / chain["pretrain"].name / "run.json").write_text("{torn", encoding="utf-8")
    source = Source.read(out / "ppo" / chain["ppo"].name)
    assert source.measured is None
    assert [node.role for node in source.lineage.sources] == ["model", "reward_model", "prompts"]


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such run"):
        Source.read(tmp_path / "nothing")
    with pytest.raises(BadInput, match="run"):
        Source.read(tmp_path)
