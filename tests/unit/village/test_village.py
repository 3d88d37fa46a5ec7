"""The village: deterministic, its splits apart, its stock large enough, and its parameters checked."""

import json
import re
import subprocess
import sys
import time

import pytest

from heedlm.errors import BadInput
from heedlm.records import Demonstration, Document, Prompt, read, write
from heedlm.village import Plants, Village, score
from heedlm.village.families import FAMILIES
from heedlm.village.world import ADJECTIVES, NAMES, OBJECTS, PLACES, World


def words(row):
    return tuple(message.content for message in row.messages)


def test_stock():
    things = {word.en for group in OBJECTS.values() for word in group}
    assert len(NAMES) == len({name.en for name in NAMES}) == len({name.zh for name in NAMES}) == 80
    assert len(PLACES) == len({place.en for place in PLACES}) == len({place.zh for place in PLACES}) == 40
    assert len(NAMES) + len(PLACES) + len(things) >= 200
    assert len({word.zh for group in OBJECTS.values() for word in group}) == len(things)
    assert len(ADJECTIVES) == 12


def test_same_seed_same_texts_other_seed_other_texts():
    for make in ("documents", "demonstrations", "prompts"):
        for split in ("train", "dev", "test"):
            one, again, other = (list(getattr(Village(seed), make)(50, split)) for seed in (1, 1, 2))
            assert one == again
            assert one != other


def test_same_texts_in_another_process():
    code = (
        "from heedlm.village import Village; "
        "print([d.text for d in Village(3).documents(20)], [p.messages for p in Village(3).prompts(20, 'test')])"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": str(seed)}
        ).stdout
        for seed in (1, 2)
    }
    assert len(outputs) == 1
    assert str([d.text for d in Village(3).documents(20)]) in outputs.pop()


def test_more_rows_begin_with_the_fewer():
    assert list(Village().prompts(30))[:10] == list(Village().prompts(10))


def test_splits_never_overlap_across_10000_prompts_and_two_seeds():
    sizes = {"train": 8000, "dev": 1000, "test": 1000}
    seen = {
        split: {words(prompt) for seed in (0, 1) for prompt in Village(seed).prompts(n, split)}
        for split, n in sizes.items()
    }
    seen["train"] |= {words(demo)[:-1] for demo in Village().demonstrations(8000)}
    assert not seen["train"] & seen["dev"]
    assert not seen["train"] & seen["test"]
    assert not seen["dev"] & seen["test"]


def test_prompts_of_a_split_are_new_each_time():
    assert len({words(prompt) for prompt in Village().prompts(6000)}) == 6000
    assert len({words(prompt) for prompt in Village().prompts(1000, "test")}) == 1000


def test_test_prompts_combine_known_words_anew():
    def stock(rows):
        return {str(v) for row in rows for k, v in row.meta.task["slots"].items() if k in ("who", "place", "thing")}

    train, test = list(Village().prompts(6000)), list(Village().prompts(600, "test"))
    assert stock(test) <= stock(train)
    combinations = {json.dumps([row.meta.family, row.meta.task["slots"]], sort_keys=True) for row in train}
    assert not combinations & {json.dumps([row.meta.family, row.meta.task["slots"]], sort_keys=True) for row in test}


def test_dialogues_of_the_corpus_hold_no_held_out_prompt():
    held_out = {words(prompt) for split in ("dev", "test") for prompt in Village().prompts(2000, split)}
    for document in Village().documents(6000):
        if document.meta.domain == "dialogue":
            turns = (re.split(": |：", line, maxsplit=1)[1] for line in document.text.split("\n")[:-1])
            assert tuple(turns) not in held_out


def test_prompts_and_answers_are_short():
    for demo in Village().demonstrations(3000):
        *prompt, answer = words(demo)
        limit = (45, 45) if demo.meta.lang == "en" else (75, 75)
        count = len if demo.meta.lang == "zh" else lambda text: len(text.split())
        assert sum(map(count, prompt)) <= limit[0]
        assert count(answer) <= limit[1]


def test_every_family_language_and_template_comes():
    rows = list(Village().prompts(6000))
    assert {row.meta.family for row in rows} == set(FAMILIES)
    drawn = {(row.meta.family, row.meta.lang, row.meta.task["template"]) for row in rows}
    assert len(drawn) == len(FAMILIES) * 2 * 4
    assert any(len(row.messages) >= 5 for row in rows)


def test_languages_and_families_can_be_chosen():
    rows = list(Village(languages=["zh"], families=["sum", "harm"]).demonstrations(100))
    assert {row.meta.lang for row in rows} == {"zh"}
    assert {row.meta.family for row in rows} == {"sum", "harm"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"languages": ["fr"]}, "no language 'fr': choose from en, zh"),
        ({"languages": []}, "no language"),
        ({"families": ["chess"]}, "no family 'chess'"),
    ],
)
def test_unknown_choices_are_refused(arguments, message):
    with pytest.raises(BadInput, match=message):
        Village(**arguments)


def test_unknown_split_is_refused():
    with pytest.raises(BadInput, match="no split 'valid': choose from train, dev, test"):
        list(Village().prompts(1, "valid"))


def test_rows_survive_their_files(tmp_path):
    village = Village()
    for name, kind, rows in (
        ("documents", Document, list(village.documents(200))),
        ("demonstrations", Demonstration, list(village.demonstrations(200))),
        ("prompts", Prompt, list(village.prompts(200, "test"))),
    ):
        path = tmp_path / f"{name}.jsonl"
        write(path, rows)
        back = read(path, kind)
        assert back.rows == rows
        assert back.bad == []


def test_gold_needs_only_what_the_file_holds(tmp_path):
    rows = list(Village().demonstrations(300))
    path = tmp_path / "d.jsonl"
    write(path, rows)
    for before, after in zip(rows, read(path, Demonstration).rows, strict=True):
        text = before.messages[-1].content
        assert score(before.meta.task, text) == score(after.meta.task, text)


def test_ten_thousand_demonstrations_within_ten_seconds():
    start = time.monotonic()
    assert sum(1 for _ in Village().demonstrations(10_000)) == 10_000
    assert time.monotonic() - start < 10


def test_female_share_of_the_world():
    for share in (0.2, 0.5, 0.8):
        residents = World(0, share).residents
        assert sum(r.name.female for r in residents) / len(residents) == pytest.approx(share, abs=0.02)


def test_plants_are_checked():
    with pytest.raises(ValueError, match="less than or equal to 1"):
        Plants(toxic=1.5)
