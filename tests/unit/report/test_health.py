"""Health: a healthy run raises nothing, and each kind of trouble is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from heedlm.report import Source
from heedlm.report.health import Fact, facts
from heedlm.report.series import collect


def found(path: Path, rows: list[dict[str, float]] | None = None) -> list[Fact]:
    source = Source.read(path)
    return facts(source, collect(source.metrics if rows is None else rows))


def levels(path: Path, rows: list[dict[str, float]]) -> dict[str, str]:
    return {fact.text: fact.level for fact in found(path, rows)}


def test_a_healthy_run_has_no_findings(chain: dict[str, Path]) -> None:
    assert {fact.level for fact in found(chain["ppo"])} == {"good", "note"}
    texts = " ".join(fact.text for fact in found(chain["ppo"]))
    assert "the ratio is 1" in texts
    assert "2 rows were put aside from prompts" in texts


def test_a_collapsed_run_says_so_first(collapsed: dict[str, Path]) -> None:
    result = found(collapsed["ppo"])
    assert result[0].level == "bad"
    texts = [fact.text for fact in result if fact.level in ("bad", "warn")]
    assert any("win rate by gold fell" in text for text in texts)
    assert any("KL ended at" in text for text in texts)
    assert any("loss on its own answers fell" in text for text in texts)


@pytest.mark.parametrize(
    ("values", "words", "level"),
    [
        ({"loss/policy": float("nan")}, "loss/policy was NaN or infinite 40 times", "bad"),
        ({"first/ratio": 1.2}, "off 1 by 0.200", "bad"),
        ({"kl/token_nats": -0.1}, "Mean KL is negative", "bad"),
        ({"length/truncated": 0.6}, "60.0\u202f% of the last answers were cut", "bad"),
        ({"length/truncated": 0.3}, "were cut at the limit", "warn"),
        ({"gap/engine_trainer": 0.5}, "disagree by up to 0.500", "warn"),
        ({"alarm/S2": 1.0}, "Alarm S2 was on, first at step 0", "warn"),
    ],
)
def test_each_trouble_is_named(chain: dict[str, Path], values: dict[str, float], words: str, level: str) -> None:
    rows: list[dict[str, float]] = [{"step": step, **values} for step in range(40)]
    matching = [each for text, each in levels(chain["ppo"], rows).items() if words in text]
    assert matching == [level]


def test_growing_answers_are_pointed_out(chain: dict[str, Path]) -> None:
    rows: list[dict[str, float]] = [{"step": step, "length/mean": 20.0 + step} for step in range(100)]
    assert any("Answers grew from" in text for text in levels(chain["ppo"], rows))
