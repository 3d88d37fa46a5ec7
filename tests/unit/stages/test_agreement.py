"""`heed agreement`: what it prints and returns of files whose annotators are known."""

import json
import random

import pytest

from heedlm import config
from heedlm.cli import main
from heedlm.errors import BadInput
from heedlm.models import create, new_reward, save_model, train_tokenizer
from heedlm.records import Answer, Comparison, Message, Rating, write
from heedlm.stages import agreement
from heedlm.village.annotators import Annotators


def asked(text):
    return (Message(role="user", content=text),)


@pytest.fixture(scope="module")
def rankings(tmp_path_factory):
    """500 items, each ranked by three of twelve simulated annotators, of whom 04 and 09 do not read."""
    people, rng = Annotators(spammers=0.2, position_bias=0.8), random.Random(0)
    worths = [[rng.random() for _ in range(4)] for _ in range(500)]
    scale = people.calibrate(worths)
    rows = []
    for item, worth in enumerate(worths):
        texts = [f"{place} {'word ' * rng.randint(3, 40)}" for place in "ABCD"]
        for person in rng.sample(range(12), 3):
            said = people.rank(worth, texts, scale, rng, person)
            rows.append(
                Comparison(
                    prompt=asked(f"Question {item}?\x1b[31m"), answers=tuple(Answer(text=text) for text in texts),
                    ranks=said.ranks, annotator=said.annotator, group="ab"[person % 2], order_shown=said.order_shown,
                )
            )  # fmt: skip
    path = tmp_path_factory.mktemp("agreement") / "rankings.jsonl"
    write(path, rows)
    return path


def look(path, *args):
    return agreement.run(config.load(agreement.Config, [str(path), "resamples=200", *args], stage="agreement"))


def test_everything_is_told_for_people_and_for_programs(rankings):
    facts = look(rankings)
    overall = facts["overall"]["ranking"]
    assert (overall["judgements"], overall["annotators"], overall["items"]) == (1500, 12, 500)
    assert 0.6 < overall["percent"]["estimate"] < 0.7  # two of twelve pull 73 % down
    assert [one["annotator"] for one in facts["suspects"]] == ["annotator-04", "annotator-09"]
    assert facts["position_bias"]["share"]["low"] > facts["position_bias"]["expected"] == 0.25
    assert list(facts["groups"]) == ["a", "b"]
    assert len(facts["disagreements"]) == 10
    assert facts["disagreements"][0]["prompt"].startswith("Question ")
    lines = facts["text"].splitlines()
    assert lines[1] == "  rankings       1,500 by 12 annotators; 500 items judged by two or more, 9,000 comparisons"
    assert lines[2].startswith(f"    agreement            {100 * overall['percent']['estimate']:.1f} % (")
    assert "; ties counted " in lines[2]
    assert any(line.startswith("    alpha, ordinal       0.") for line in lines)
    assert any(line.startswith("    group a: ") for line in lines)
    assert any(line.startswith("    a with b: ") for line in lines)
    assert any(line.startswith("  careless?      annotator-04: at chance: kappa ") for line in lines)
    assert "\x1b" not in facts["text"]
    assert "�[31m" in facts["text"]


def test_json_is_one_object(rankings, capsys):
    assert main(["agreement", str(rankings), "resamples=100", "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])["results"]
    assert set(found["overall"]["ranking"]["alpha"]) == {"nominal", "ordinal"}
    assert found["people"][0]["others"]["compared"] > 0


def test_gold_is_a_file_of_the_same_items(tmp_path):
    def ratings(who, off):
        return [
            Rating(prompt=asked(f"{i}?"), answer=Answer(text="x"), score=1 + (i + off) % 7, annotator=who)
            for i in range(28)
        ]

    write(tmp_path / "said.jsonl", [*ratings("right", 0), *ratings("wrong", 1)])
    write(tmp_path / "gold.jsonl", ratings(None, 0)[:21])
    facts = look(tmp_path / "said.jsonl", f"gold={tmp_path / 'gold.jsonl'}")
    shares = {person["annotator"]: person["gold"] for person in facts["people"]}
    assert (shares["right"]["share"], shares["right"]["compared"]) == (1.0, 21)
    assert shares["wrong"]["share"] == 0.0
    assert [one["annotator"] for one in facts["suspects"]] == ["wrong"]
    assert facts["suspects"][0]["reasons"][-1].startswith("wrong on gold: right in 0% of 21 comparisons")
    assert facts["overall"]["score"]["percent"]["estimate"] == 0
    assert "gold" in facts["text"]


def test_a_reward_model_is_one_more_voice(tmp_path):
    rows = [
        Comparison(
            prompt=asked(f"What is number {i}?"), ranks=(1, 2) if i % 3 else (2, 1), annotator=who,
            answers=(Answer(text=f"It is {i}."), Answer(text="I do not know.")),
        )
        for i in range(12)
        for who in ("ann", "ben")
    ]  # fmt: skip
    write(tmp_path / "said.jsonl", rows)
    tokenizer = train_tokenizer([answer.text for row in rows for answer in row.answers], vocab_size=300)
    save_model(new_reward(create("tiny", tokenizer), seed=3), tokenizer, tmp_path / "reward")
    facts = look(tmp_path / "said.jsonl", f"reward={tmp_path / 'reward'}")
    for person in facts["people"]:
        assert person["model"]["compared"] == 12
    # What the model itself says of the two answers: it agrees where it and the annotator order them alike.
    asked_for = [(row.prompt, answer.text) for row in rows[::2] for answer in row.answers]
    scores = agreement._rewards(str(tmp_path / "reward"), asked_for)
    alike = [(one > other) == (i % 3 > 0) for i, (one, other) in enumerate(zip(scores[::2], scores[1::2], strict=True))]
    assert [person["model"]["share"] for person in facts["people"]] == [pytest.approx(sum(alike) / 12)] * 2
    assert len(set(scores)) > 12


def test_a_tools_export_is_read_with_ones_own_names(tmp_path):
    tasks = [
        {"id": i, "data": {"ask": f"{i}?", "x": "a", "y": "b"}, "annotations": [
            {"id": f"{i}{who}", "completed_by": who, "result": [
                {"from_name": "v", "to_name": "v", "type": "choices", "value": {"choices": [word]}}]}
            for who, word in ((1, "one"), (2, "two" if i == 3 else "one"))]}
        for i in range(4)
    ]  # fmt: skip
    path = tmp_path / "tasks.json"
    path.write_text(json.dumps(tasks), encoding="utf-8")
    facts = look(path, "prompt=ask", 'answers=["x","y"]', 'labels={one="x", two="y"}')
    assert facts["overall"]["ranking"]["percent"]["estimate"] == 0.75
    assert facts["disagreements"][0]["prompt"] == "3?"


def test_one_annotator_has_nobody_to_agree_with(tmp_path):
    write(tmp_path / "x.jsonl", [Rating(prompt=asked("?"), answer=Answer(text="a"), score=3, annotator="a")])
    facts = look(tmp_path / "x.jsonl")
    assert facts["overall"]["score"]["percent"] is None
    assert "nothing was judged by two annotators: agreement is not defined" in facts["text"]


def test_rows_without_annotators_are_one_line(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n', encoding="utf-8")
    with pytest.raises(BadInput, match="no comparison, rating or thumb names its annotator: add a field annotator"):
        look(path)
    with pytest.raises(BadInput, match="does not exist"):
        look(tmp_path / "none.jsonl")
