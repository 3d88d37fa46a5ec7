"""docs/path.md as a reader would type it: every command, in its order, on a village made small enough for a test."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"```sh\n(.*?)```", re.S)
SMALLER = {
    "village": "corpus=300 corpus_dev=40 demonstrations=200 demonstrations_dev=30"
    " prompts=48 prompts_dev=12 prompts_test=12",
    "pretrain": "steps=4 length=64",
    "sft": "steps=3",
    "sample": "sampling.max_new_tokens=8",
    "ppo": "steps=1 rollouts=8 minibatch=8 critic.pretrain=1 sampling.max_new_tokens=8 watch=4",
    "evaluate": "limit=6 limit_dev=6 sampling.max_new_tokens=8",
}


def typed() -> list[str]:
    """The page's commands on the village; the last, with a reader's own files, has an example of its own."""
    text = "\n".join(BLOCK.findall((ROOT / "docs" / "path.md").read_text(encoding="utf-8"))).replace("\\\n", " ")
    return [line for line in text.splitlines() if line.startswith("heed ") and "path/to" not in line]


@pytest.mark.slow
def test_every_command_of_the_path_works_in_its_order(tmp_path):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for line in typed():
        command = f"{line} {SMALLER.get(line.split()[1], '')}"
        done = subprocess.run(
            ["bash", "-euc", command],
            cwd=tmp_path,
            env={**os.environ, "PATH": path},
            input="Hello\n",
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    stages = {path.parent.parent.name for path in tmp_path.glob("runs/*/*/run.json")}
    assert {"village", "pretrain", "sft", "sample", "label", "reward", "ppo", "evaluate"} <= stages
    (evaluated,) = (tmp_path / "runs" / "evaluate").iterdir()
    assert json.loads((evaluated / "run.json").read_text(encoding="utf-8"))["status"] == "complete"
    assert (evaluated / "report.html").stat().st_size > 10_000
