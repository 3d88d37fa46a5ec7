"""Sampling and labelling: K answers a prompt, the same for the same seed; rankings by simulated annotators."""

import json
import random

import pytest
import torch
from tests.unit.train import tiny

from heedlm.errors import BadInput
from heedlm.models import load_with_tokenizer
from heedlm.models.chat import Chat
from heedlm.records import Answers, Comparison, read, write
from heedlm.records.types import Answer
from heedlm.stages import label, sample
from heedlm.village import Village, answer, score
from heedlm.village.tasks import choose_manner, family_of


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    folder = tmp_path_factory.mktemp("material")
    tiny.folder(folder / "model", seed=1)
    tiny.prompts(folder / "prompts.jsonl", 10)
    return folder


def settings(material, **more):
    return {"model": material / "model", "prompts": material / "prompts.jsonl", "sampling__max_new_tokens": 6} | more


def answers_of(run):
    return read(run.output("answers"), Answers).rows


# ---------------------------------------------------------------- sample


@pytest.mark.parametrize("k", [1, 3, 9])
def test_k_answers_to_every_prompt_in_order(material, tmp_path, k):
    run = tiny.run(sample, tmp_path, **settings(material, answers=k, batch=4))
    rows = answers_of(run)
    given = [json.loads(line)["messages"] for line in (material / "prompts.jsonl").read_text().splitlines()]
    assert [[m.model_dump() for m in row.prompt] for row in rows] == given
    assert {len(row.answers) for row in rows} == {k}
    facts = run.info.results
    assert (facts["prompts"], facts["answers"]) == (10, 10 * k)
    tokens = [a.tokens for row in rows for a in row.answers]
    assert facts["mean_tokens"] == pytest.approx(sum(tokens) / len(tokens))
    for row in rows:
        for each in row.answers:
            assert each.model == run.name
            assert 1 <= each.tokens <= 6
            assert each.ended or each.tokens == 6
    if k == 9:
        assert len({a.text for row in rows for a in row.answers}) > 40  # a random model repeats itself little


def test_the_same_seed_gives_the_same_answers_and_another_does_not(material, tmp_path):
    one, two, other = (
        [[a.text for a in row.answers] for row in answers_of(tiny.run(sample, tmp_path / n, **settings(material, **o)))]
        for n, o in (("a", {}), ("b", {}), ("c", {"seed": 1}))
    )
    assert one == two
    assert sum(a == b for a, b in zip(one, other, strict=True)) <= 1


def test_greedy_answers_are_the_models_likeliest_tokens(material, tmp_path):
    run = tiny.run(sample, tmp_path, **settings(material, answers=2, sampling__temperature=0, limit=3))
    rows = answers_of(run)
    assert len(rows) == 3
    model, tokenizer = load_with_tokenizer(material / "model")
    chat = Chat(tokenizer)
    for row in rows:
        assert row.answers[0].text == row.answers[1].text
        ids = chat.prompt_ids(row.prompt)
        start = len(ids)
        for _ in range(row.answers[0].tokens):
            ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        assert chat.decode(ids[start:]) == row.answers[0].text


def test_a_scripted_engine_answers_as_told(material, tmp_path):
    run = tiny.run(
        sample, tmp_path, **settings(material, answers=2, engine={"name": "scripted", "answers": ["a", "b"]})
    )
    assert [[a.text for a in row.answers] for row in answers_of(run)] == [["a", "b"]] * 10


def test_torn_and_overlong_prompts_are_put_aside(material, tmp_path):
    good = (material / "prompts.jsonl").read_text().splitlines()
    long = json.dumps({"messages": tiny.talk("word " * 80)})
    data = tmp_path / "prompts.jsonl"
    data.write_text("\n".join([*good[:4], '{"messages": [{"role"', long, *good[4:]]) + "\n")
    run = tiny.run(sample, tmp_path, **settings(material, prompts=data, max_bad_rows=0.2))
    assert run.info.results["quarantined/prompts"] == 2
    assert run.info.results["prompts"] == 10
    aside = [json.loads(line) for line in (run.path / "quarantine-prompts.jsonl").read_text().splitlines()]
    assert [row["line"] for row in aside] == [5, 6]
    assert "not JSON" in aside[0]["reason"]
    assert "tokens" in aside[1]["reason"]


# ---------------------------------------------------------------- label


@pytest.fixture(scope="module")
def answered(tmp_path_factory):
    """Answers in several of the village's manners, as sampling would write them."""
    rng = random.Random(0)
    rows = []
    for prompt in Village(0).prompts(300, "train"):
        task = prompt.meta.task
        texts = [answer(task, choose_manner(family_of(task), rng), rng) for _ in range(4)]
        rows.append(
            Answers(
                id=prompt.id, prompt=prompt.messages, answers=tuple(Answer(text=t) for t in texts), meta=prompt.meta
            )
        )
    path = tmp_path_factory.mktemp("answered") / "answers.jsonl"
    write(path, rows)
    return path


def comparisons_of(run, role="comparisons"):
    return read(run.output(role), Comparison).rows


def test_prompts_are_split_in_three_without_overlap(answered, tmp_path):
    run = tiny.run(label, tmp_path, answers=answered, test_share=0.2, dev_share=0.1)
    parts = {role: comparisons_of(run, role) for role in ("comparisons", "comparisons_dev", "comparisons_test")}
    ids = [row.id for rows in parts.values() for row in rows]
    assert len(ids) == len(set(ids)) == run.info.results["prompts"]
    assert len(parts["comparisons_test"]) == round(0.2 * len(ids))
    assert len(parts["comparisons_dev"]) == round(0.1 * len(ids))
    assert run.info.results["without_a_choice"] == 300 - len(ids)
    for row in parts["comparisons"]:
        assert len({a.text for a in row.answers}) == len(row.answers) >= 2
        assert sorted(row.order_shown) == list(range(len(row.answers)))


@pytest.mark.parametrize("wanted", [0.6, 0.73, 0.9])
def test_annotators_agree_as_often_as_asked_for(answered, tmp_path, wanted):
    """Two crowds with other seeds judge the same answers; the measured agreement is the one set."""
    one, two = (
        tiny.run(label, tmp_path / str(s), answers=answered, seed=s, annotators__agreement=wanted, test_share=0)
        for s in (1, 2)
    )
    assert one.info.results["agreement"] == pytest.approx(wanted, abs=1e-6)
    others = {row.id: row for row in [*comparisons_of(two), *comparisons_of(two, "comparisons_dev")]}
    same = both = 0
    for row in [*comparisons_of(one), *comparisons_of(one, "comparisons_dev")]:
        other = others[row.id].pairs()
        for i, j in row.pairs():
            same += (i, j) in other
            both += (i, j) in other or (j, i) in other
    assert both > 500
    assert same / both == pytest.approx(wanted, abs=3 * (0.25 / both) ** 0.5 + 0.01)


def test_rankings_follow_gold_and_the_ceiling_says_how_closely(answered, tmp_path):
    run = tiny.run(label, tmp_path, answers=answered, test_share=0.5, dev_share=0)
    right = pairs = 0
    for row in comparisons_of(run, "comparisons_test"):
        golds = [score(row.meta.task, a.text).total for a in row.answers]
        for i, j in row.pairs():
            pairs += 1
            right += 1 if golds[i] > golds[j] else 0.5 if golds[i] == golds[j] else 0
    assert 0.73 < run.info.results["ceiling"] < 0.95
    assert right / pairs == pytest.approx(run.info.results["ceiling"], abs=0.05)


def test_the_same_seed_ranks_alike(answered, tmp_path):
    one, two = (tiny.run(label, tmp_path / name, answers=answered) for name in "ab")
    assert one.output("comparisons").read_bytes() == two.output("comparisons").read_bytes()


def test_answers_without_ground_truth_or_choice_cannot_be_labelled(material, tmp_path):
    run = tiny.run(sample, tmp_path, **settings(material, answers=2))
    with pytest.raises(BadInput, match=r"no ground truth \(meta\.task\), so nobody to simulate"):
        tiny.run(label, tmp_path, answers=run.path)
    prompt = next(iter(Village(0).prompts(1, "train")))
    row = Answers(id="x", prompt=prompt.messages, answers=(Answer(text="a"), Answer(text="a")), meta=prompt.meta)
    write(tmp_path / "same.jsonl", [row])
    with pytest.raises(BadInput, match="no prompt has two different answers to choose from"):
        tiny.run(label, tmp_path, answers=tmp_path / "same.jsonl")
