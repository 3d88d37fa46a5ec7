"""The page: self-contained, well-formed, small, escaped, and right for every kind of run."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from heedlm.errors import BadInput
from heedlm.report import Source, render, write_report
from heedlm.report.page import command, embedded
from heedlm.runs import Run
from heedlm.stages import report as stage

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\u2028'\"&{{ 7*7 }}"
VOID = {"meta", "br", "img", "link", "input", "hr"}


class Checker(HTMLParser):
    """Collects ids, anchors and elements, and complains of tags that do not match."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.anchors: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.elements.append((tag, found))
        if found.get("id"):
            self.ids.append(str(found["id"]))
        if tag == "a" and str(found.get("href", "")).startswith("#"):
            self.anchors.append(str(found["href"])[1:])
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag


def checked(page: str) -> Checker:
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert checker.open == []
    return checker


@pytest.mark.parametrize("name", ["village", "pretrain", "sft", "label", "reward", "ppo", "evaluate"])
def test_every_kind_of_run_gives_a_sound_page(chain: dict[str, Path], name: str) -> None:
    page = render(Source.read(chain[name]))
    checker = checked(page)
    assert len(checker.ids) == len(set(checker.ids))
    assert set(checker.anchors) <= set(checker.ids)
    assert len(page.encode()) < 1_000_000
    assert chain[name].name in page


def test_nothing_is_fetched(chain: dict[str, Path]) -> None:
    page = render(Source.read(chain["ppo"]))
    assert "http://" not in page
    assert "https://" not in page
    assert not re.search(r"@import|url\(", page)
    assert not [tag for tag, attrs in checked(page).elements if "src" in attrs or tag == "link"]


def test_the_policy_admits_the_pages_own_script_alone(chain: dict[str, Path]) -> None:
    page = render(Source.read(chain["ppo"]))
    script = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert len(script) == 1
    digest = base64.b64encode(hashlib.sha256(script[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page
    assert "default-src 'none'" in page


def test_headlines(chain: dict[str, Path]) -> None:
    policy = render(Source.read(chain["ppo"]))
    assert "Better than sft/" in policy
    assert "66.5\u202f% on 500 prompts" in policy
    assert "each at its best development temperature" in policy
    assert "temperature 0.3 against greedy" in policy
    assert "王奶奶，您一定很担心" in policy
    assert 'lang="zh"' in policy
    page = render(Source.read(chain["reward"]))
    assert "Orders 71.6\u202f% of held-out pairs" in page
    assert "PPO should not start: &lt;b&gt;." in page
    assert "criterion harmless" in page
    assert "Lowest held-out loss 1.24 nats at step 125" in render(Source.read(chain["sft"]))
    assert "Made: corpus (20000 rows)" in render(Source.read(chain["village"]))


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(0.52, 0.6, "Better than"), (0.4, 0.49, "Worse than"), (0.45, 0.55, "Not told apart")]
)
def test_the_verdict_is_no_better_than_its_interval(
    chain: dict[str, Path], tmp_path: Path, low: float, high: float, verdict: str
) -> None:
    rate = {"n": 100, "wins": 1, "ties": 1, "losses": 1, "rate": (low + high) / 2, "low": low, "high": high}
    path = copy_of(chain["evaluate"], tmp_path, results={"settings": [{"name": "greedy", "win_rate": rate}]})
    heading = re.search(r"<h1[^>]*>(.*?)</h1>", render(Source.read(path)))
    assert heading is not None
    assert heading[1].startswith(verdict)


def copy_of(path: Path, into: Path, **changes: object) -> Path:
    """The run alone in a new place, with some of its record changed."""
    record = json.loads((path / "run.json").read_text(encoding="utf-8")) | changes
    target = into / path.parent.name / path.name
    target.mkdir(parents=True)
    (target / "run.json").write_text(json.dumps(record), encoding="utf-8")
    return target


def test_hostile_text_stays_text(chain: dict[str, Path], tmp_path: Path) -> None:
    """A script in a prompt, answer, reason, metric name, setting, result, input or quarantined row never runs."""
    inputs = [{"role": EVIL, "path": EVIL, "from_run": "x", "fingerprint": EVIL, "run": None}]
    path = copy_of(
        chain["ppo"], tmp_path, results={EVIL: EVIL}, status="failed", reason=EVIL, argv=["heed", EVIL],
        inputs=inputs, outputs=[], git=EVIL, versions={EVIL: EVIL}, platform={"system": EVIL},
    )  # fmt: skip
    run = Run.open(path)
    for step in (1, 2):
        run.metrics(step, {EVIL: 1.0 * step, f"loss/{EVIL}": 2.0, "alarm/" + EVIL: 1.0})
    run.samples(1, [{"prompt": EVIL, "answer": EVIL, "before": EVIL, "gold": 1.0}])
    row = {"line": EVIL, "reason": EVIL, "excerpt": EVIL}
    (path / "quarantine-prompts.jsonl").write_text(json.dumps(row) + "\n{torn " + EVIL, encoding="utf-8")
    (path / "config.json").write_text(json.dumps({EVIL: EVIL}), encoding="utf-8")
    page = render(Source.read(path))
    checker = checked(page)
    assert [tag for tag, _ in checker.elements].count("script") == 2
    assert not [tag for tag, attrs in checker.elements if tag == "img" or "onerror" in attrs]
    assert "alert(1)" in page
    assert "<script>alert" not in page
    assert ">49<" not in page
    assert "{{ 7*7 }}" in page


def test_embedded_json_cannot_end_its_element() -> None:
    text = embedded({"a": "</script><!--", "b": "\u2028&"})
    assert "<" not in text
    assert "\u2028" not in text
    assert json.loads(text) == {"a": "</script><!--", "b": "\u2028&"}


def test_ten_thousand_steps_stay_below_a_megabyte(chain: dict[str, Path], tmp_path: Path) -> None:
    path = copy_of(chain["ppo"], tmp_path)
    lines = (chain["ppo"] / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    with (path / "metrics.jsonl").open("w", encoding="utf-8") as file:
        for step in range(10_000):
            file.write(json.dumps(json.loads(lines[step % len(lines)]) | {"step": step}) + "\n")
    page = render(Source.read(path))
    assert len(page.encode()) < 1_000_000
    assert checked(page).ids


def test_torn_and_missing_files_are_no_obstacle(chain: dict[str, Path], tmp_path: Path) -> None:
    path = copy_of(chain["ppo"], tmp_path, status="running", finished=None, inputs=[])
    (path / "metrics.jsonl").write_text('{"step": 1, "reward/mean": 0.5}\n{"step": 2, "rew', encoding="utf-8")
    page = render(Source.read(path))
    assert "had not finished" in page
    assert "Reward went from 0.500 to 0.500 in 1 steps" in page


def test_not_finite_values_are_flagged_on_their_chart(chain: dict[str, Path], tmp_path: Path) -> None:
    path = copy_of(chain["ppo"], tmp_path)
    run = Run.open(path)
    for step in range(4):
        run.metrics(step, {"loss/policy": float("nan") if step > 1 else 0.1})
    page = render(Source.read(path))
    assert "2 values not finite" in page
    assert "loss/policy was NaN or infinite 2 times, first at step 2" in page


def test_the_command_is_as_typed() -> None:
    assert command(["/a/venv/bin/heed", "ppo", "name=my run"]) == "heed ppo 'name=my run'"
    assert command(["/a/src/heedlm/__main__.py", "sft"]) == "heed sft"
    assert command([]) == ""


def test_host_and_process_are_not_shown(chain: dict[str, Path]) -> None:
    info = Run.open(chain["ppo"]).info
    assert f">{info.platform['host']}<" not in render(Source.read(chain["ppo"]))


def test_write_and_stage(chain: dict[str, Path], tmp_path: Path) -> None:
    path = copy_of(chain["ppo"], tmp_path)
    assert write_report(path) == path / "report.html"
    first = (path / "report.html").read_bytes()
    result = stage.run(stage.Config(run=path))
    assert result["report"] == str(path / "report.html")
    assert (path / "report.html").read_bytes() == first
    with pytest.raises(BadInput, match="no such run"):
        stage.run(stage.Config(run=tmp_path / "nothing"))


def test_the_report_needs_neither_torch_nor_matplotlib() -> None:
    code = "import sys, heedlm.stages.report; print([m for m in ('torch', 'matplotlib', 'plotly') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_an_unmeasured_policy_is_told_by_its_watched_prompts(chain: dict[str, Path], tmp_path: Path) -> None:
    path = copy_of(chain["ppo"], tmp_path)
    (path / "metrics.jsonl").write_bytes((chain["ppo"] / "metrics.jsonl").read_bytes())
    page = render(Source.read(path))
    assert "Wins 70.0\u202f% of the watched prompts against its start by gold score; reward went from" in page
