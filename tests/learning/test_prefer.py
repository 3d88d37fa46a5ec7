"""Preference training without a reward model finds what people like, on comparisons it has not seen."""

import random

import pytest
from tests.unit.train import tiny

from heedlm.stages import prefer

OPENINGS = ("I think that", "It is said that", "Surely", "As far as I know")


def sentence(colour, draw):
    return f"{draw.choice(OPENINGS)} {draw.choice(tiny.NAMES)} lives in the {colour} house."


def ranked(count, seed):
    """Two to four answers in which only the colour decides: red before blue, green and white."""
    draw = random.Random(seed)
    return [tuple(sentence(c, draw) for c in tiny.COLOURS[: draw.choice((2, 3, 4))]) for _ in range(count)]


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    folder = tmp_path_factory.mktemp("material")
    tiny.folder(folder / "model", seed=1)
    tiny.comparisons(folder / "train.jsonl", ranked(160, seed=0))
    tiny.comparisons(folder / "test.jsonl", ranked(60, seed=1))
    return folder


# ORPO's own weight of preference beside fine-tuning is small, for long training.
METHODS = {"dpo": {}, "ipo": {}, "kto": {}, "orpo": {"lam": 1.0}, "simpo": {}}


@pytest.mark.parametrize("name", METHODS)
def test_separable_preferences_are_learned(material, name):
    """Held-out accuracy of the implicit reward goes from chance to above nine in ten."""
    run = tiny.run(
        prefer,
        material / name,
        model=material / "model",
        data=material / "train.jsonl",
        test=material / "test.jsonl",
        objective={"name": name, **METHODS[name]},
        batch=16,
        epochs=4,
        optim__lr=5e-3,
    )
    accuracy = run.info.results["accuracy"]["accuracy"]
    assert accuracy["estimate"] > 0.9
    assert accuracy["low"] > 0.85
    first, last = run.read_metrics()[0], run.read_metrics()[-1]
    assert 0.35 < first["accuracy"] < 0.65
    assert last["accuracy/held_out"] > 0.85
    assert last["loss/held_out"] < 0.7 * first["loss/train"]
    assert last["reward/margin_held_out"] > 0
