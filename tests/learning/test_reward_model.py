"""A reward model separates what can be separated, on rankings it has not seen."""

import random

import pytest
from tests.unit.train import tiny

from heedlm.models import load_reward
from heedlm.models.chat import Chat
from heedlm.records import Comparison, read
from heedlm.stages import reward
from heedlm.train.ranking import pairwise_accuracy, ranking_scores, rankings_of

OPENINGS = ("I think that", "It is said that", "Surely", "As far as I know")


def sentence(colour, draw):
    return f"{draw.choice(OPENINGS)} {draw.choice(tiny.NAMES)} lives in the {colour} house."


def ranked(count, seed):
    """Rankings of two to four answers in which only the colour decides: red before blue, green and white."""
    draw = random.Random(seed)
    return [tuple(sentence(c, draw) for c in tiny.COLOURS[: draw.choice((2, 3, 4))]) for _ in range(count)]


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    folder = tmp_path_factory.mktemp("material")
    tiny.folder(folder / "model", seed=1)
    tiny.comparisons(folder / "train.jsonl", ranked(160, seed=0))
    tiny.comparisons(folder / "test.jsonl", ranked(60, seed=1))
    return folder


@pytest.mark.parametrize("budget", [16384, 1000])
def test_separable_rankings_are_separated(material, budget):
    run = tiny.run(
        reward,
        material / str(budget),
        model=material / "model",
        data=material / "train.jsonl",
        test=material / "test.jsonl",
        batch=16,
        epochs=4,
        budget=budget,
        optim__lr=1e-2,
    )
    accuracy = run.info.results["accuracy"]["accuracy"]
    assert accuracy["estimate"] >= 0.95
    assert accuracy["low"] >= 0.9
    model = load_reward(run.output("model"))
    _, rankings = rankings_of(Chat(tiny.tokenizer()), read(material / "test.jsonl", Comparison), 64)
    right, pairs = map(sum, zip(*pairwise_accuracy(ranking_scores(model, rankings), rankings), strict=True))
    assert right / pairs == pytest.approx(accuracy["estimate"])  # the model saved is the model measured
    first, last = run.read_metrics()[0], run.read_metrics()[-1]
    assert first["accuracy"] < 0.8 < 0.95 < last["accuracy"]
