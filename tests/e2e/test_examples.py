"""Each example runs at a minuscule size on the real data, and the files shipped with them can be read."""

import gzip
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from heedlm.records import Comparison, Demonstration, Prompt, read

pytest.importorskip("sklearn", reason="needs scikit-learn: pip install 'heedlm[examples]'")
EXAMPLES = Path(__file__).parents[2] / "examples"


def run(words, shared, **environment):
    settings = {"HEED_SHARED": str(shared), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **environment}
    done = subprocess.run(
        [str(word) for word in words], env={**os.environ, **settings}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_stories(shared, tmp_path):
    run([sys.executable, EXAMPLES / "stories/run.py", "--tiny", "--out", tmp_path], shared)
    result = json.loads((tmp_path / "result.json").read_text("utf-8"))
    assert result["test_openings"] > 0
    assert -1 <= result["before"]["reward"]["estimate"] <= 1
    assert [row["seed"] for row in result["after"]] == [0]
    gain = result["after"][0]["gain"]
    assert gain["low"] <= gain["estimate"] <= gain["high"]
    assert all(row["before"] and row["opening"] for row in result["samples"])


def test_hh_rlhf(shared, tmp_path):
    run([sys.executable, EXAMPLES / "hh-rlhf/run.py", "all", "3", "--tiny", "--out", tmp_path], shared)
    result = json.loads((tmp_path / "result.json").read_text("utf-8"))
    measured = result["reward_model"]
    assert measured["folds"] == 1
    assert {"pretrained", "random", "bag of words", "longer answer"} < set(measured["accuracy"])
    assert all(row["n"] == measured["pairs"] for row in measured["accuracy"].values())
    assert result["ppo"]["judged_by_referee"]["settings"]
    assert (tmp_path / result["ppo"]["report"]).read_text("utf-8").lower().startswith("<!doctype html>")


def test_hh_rlhf_folds_share_no_prompt(shared, monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES / "hh-rlhf"))
    import data

    rows = data.comparisons(shared)
    folds = data.folds(rows)
    assert sorted(place for fold in folds for place in fold) == list(range(len(rows)))
    openings = [{rows[place].prompt[0].content.strip().lower() for place in fold} for fold in folds]
    assert sum(map(len, openings)) == len(set.union(*openings))


def test_own_model(shared, tmp_path):
    sources = {
        "DEMONSTRATIONS": "instructions/alpaca-52k.jsonl.gz",
        "COMPARISONS": "preferences/hh-rlhf/helpful-base.jsonl.gz",
        "PROMPTS": "instructions/self-instruct-seed-tasks.jsonl",
    }
    given = {name: str(first_lines(shared / "data" / path, tmp_path / name)) for name, path in sources.items()}
    settings = [
        "sft.steps=1", "sft.batch=2", "ppo.steps=1", "ppo.rollouts=4", "ppo.watch=4", "ppo.critic.pretrain=1",
        "ppo.sampling.max_new_tokens=8", "evaluate.limit=4", "evaluate.limit_dev=4", "evaluate.temperatures=[1.0]",
        "evaluate.sampling.max_new_tokens=8", "reward_model.max_bad_rows=0.8", "ppo.max_bad_rows=0.8",
        "evaluate.max_bad_rows=0.8",
    ]  # fmt: skip
    heed = str(Path(sys.executable).with_name("heed"))
    out = run(["bash", EXAMPLES / "own-model/run.sh", *settings], shared, OUT=str(tmp_path), HEED=heed, **given)
    results = json.loads(out.strip().splitlines()[-1])["results"]
    assert set(results["stages"]) == {"sft", "reward", "ppo", "evaluate"}


def test_own_reward(shared, tmp_path):
    heed = str(Path(sys.executable).with_name("heed"))
    run(["bash", EXAMPLES / "own-reward/run.sh"], shared, OUT=str(tmp_path), HEED=heed, SMALL="2")
    (path,) = (file.parent for file in tmp_path.glob("ppo/pleased-*/run.json"))
    info = json.loads((path / "run.json").read_text("utf-8"))
    assert info["status"] == "complete"
    assert "final/watch/reward" in info["results"]
    (code,) = (item for item in info["inputs"] if item["role"] == "reward_code")
    assert code["path"].endswith("my_reward.py")


def first_lines(source, target, count=50):
    """The first lines of a file that may be compressed, as a file of its own."""
    with (gzip.open if source.suffix == ".gz" else open)(source, "rt", encoding="utf-8") as lines:
        target.write_text("".join(itertools.islice(lines, count)), encoding="utf-8")
    return target


@pytest.mark.parametrize(
    ("name", "kind"), [("demonstrations", Demonstration), ("comparisons", Comparison), ("prompts", Prompt)]
)
def test_own_model_files_are_read(name, kind):
    rows = read(EXAMPLES / "own-model" / f"{name}.jsonl", kind)
    assert (len(rows.rows), rows.bad) == (3, [])
