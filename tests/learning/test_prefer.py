"""Preference training without a reward model finds what people like, on comparisons it has not seen."""

import random

import pytest
from tests.unit.train import tiny

from heedlm.models import Chat, load_with_tokenizer
from heedlm.records import Prompt
from heedlm.rollout import Sampling, Transformers
from heedlm.rollout.answering import answer
from heedlm.stages import prefer, sft

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


# ---------------------------------------------------------------- what the policy says afterwards


UNSEEN = range(0, 200, 4)
ASKED = [number for number in range(200) if number not in UNSEEN]


def house(colour):
    return f"In the {colour} house."


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A model that was taught to name each colour equally often, and comparisons and thumbs that like red."""
    folder = tmp_path_factory.mktemp("tuned")
    tiny.folder(folder / "model", seed=1)
    draw = random.Random(2)
    taught, pairs, thumbs = [], [], []
    for number in ASKED:
        question, other = tiny.question(number), house(draw.choice(tiny.COLOURS[1:]))
        taught.append({"messages": tiny.talk(question, house(draw.choice(tiny.COLOURS)))})
        pairs.append({"prompt": question, "chosen": house("red"), "rejected": other})
        said = draw.choice([house("red"), other])
        thumbs.append({"prompt": tiny.talk(question), "answer": {"text": said}, "up": said != other})
    for name, rows in (("taught", taught), ("pairs", pairs), ("thumbs", thumbs)):
        tiny.jsonl(folder / f"{name}.jsonl", rows)
    options = {"batch": 4, "length": 64, "epochs": 3, "optim__lr": 1e-2}
    run = tiny.run(sft, folder, model=folder / "model", data=folder / "taught.jsonl", **options)
    return folder, run.output("model")


def red(path):
    """Share of fresh answers to unseen prompts that say red."""
    model, tokenizer = load_with_tokenizer(path)
    asked = [Prompt.model_validate({"messages": tiny.talk(tiny.question(number))}) for number in UNSEEN for _ in "1234"]
    engine = Transformers().bind(model, tokenizer)
    texts, _ = answer(engine, Chat(tokenizer), asked, Sampling(max_new_tokens=24), seed=77)
    return sum(text == house("red") for text in texts) / len(texts)


@pytest.mark.parametrize(
    ("data", "name", "rate"),
    # At KTO's rate DPO drives the rejected answers down and the preferred ones with them.
    [("pairs", "dpo", 2e-4), ("pairs", "kto", 2e-3), ("thumbs", "kto", 2e-3)],
    ids=["dpo", "kto", "kto from thumbs"],
)
def test_the_policy_says_what_people_like_and_fine_tuning_does_not(tuned, tmp_path, data, name, rate):
    folder, start = tuned
    options = {"batch": 16, "epochs": 10, "optim__lr": rate, "held_out_share": 0.2}
    labels = "thumbs" if data == "thumbs" else "comparisons"
    given = {"model": start, "data": folder / f"{data}.jsonl", "labels": labels, "objective__name": name}
    run = tiny.run(prefer, tmp_path, **given, **options)
    before, after = red(start), red(run.output("model"))
    assert before < 0.45
    assert after > 0.7
    assert run.read_metrics()[-1]["accuracy/held_out"] > 0.9
