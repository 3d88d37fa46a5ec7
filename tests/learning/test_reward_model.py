"""A reward model separates what can be separated, on rankings it has not seen."""

import random

import pytest
from tests.unit.train import tiny

from heedlm.models import load_reward
from heedlm.models.chat import Chat
from heedlm.records import Comparison, read
from heedlm.stages import reward, sft
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


def test_with_a_quarter_of_the_labels_wrong_it_still_learns_what_is_right(material, tmp_path):
    """Against labels as wrong as those it learned from it can be right in three of four; against true ones in all."""
    draw = random.Random(7)

    def pairs(count, seed, wrong):
        made = [texts[:2] for texts in ranked(count, seed)]
        return [texts[::-1] if draw.random() < wrong else texts for texts in made]

    noisy = tiny.comparisons(tmp_path / "noisy.jsonl", pairs(400, 0, 0.25))
    tests = {wrong: tiny.comparisons(tmp_path / f"{wrong}.jsonl", pairs(300, 1, wrong)) for wrong in (0.0, 0.25)}
    accuracy = {}
    for wrong, file in tests.items():
        run = tiny.run(
            reward,
            tmp_path / str(wrong),
            model=material / "model",
            data=noisy,
            test=file,
            batch=16,
            epochs=3,
            optim__lr=5e-3,
        )
        accuracy[wrong] = run.info.results["accuracy"]["accuracy"]["estimate"]
    assert accuracy[0.0] >= 0.9
    assert 0.65 <= accuracy[0.25] <= 0.82


def test_a_start_from_the_fine_tuned_model_beats_one_from_scratch(material, tmp_path):
    """At equal and few steps, over three seeds."""
    draw = random.Random(5)
    rows = [{"messages": tiny.talk(tiny.question(i), sentence(draw.choice(tiny.COLOURS), draw))} for i in range(200)]
    demonstrations = tiny.jsonl(tmp_path / "demonstrations.jsonl", rows)
    tuned = tiny.run(sft, tmp_path, model=material / "model", data=demonstrations, steps=60, length=128, optim__lr=1e-2)
    accuracy = {}
    for init in ("model", "random"):
        found = [
            tiny.run(
                reward,
                tmp_path / init,
                model=tuned.path,
                data=material / "train.jsonl",
                test=material / "test.jsonl",
                batch=16,
                epochs=0.6,
                init=init,
                seed=seed,
                optim__lr=5e-3,
            ).info.results["accuracy"]["accuracy"]["estimate"]
            for seed in range(3)
        ]
        accuracy[init] = sum(found) / len(found)
    assert accuracy["model"] > accuracy["random"], accuracy
