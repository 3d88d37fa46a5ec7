"""`heed check`: what it says of small files whose faults are known."""

import json

import pytest

from heedlm import config
from heedlm.cli import main
from heedlm.errors import BadInput
from heedlm.models import create, save_model, train_tokenizer
from heedlm.stages import check


def pair(number, chosen="Ann lives there.", rejected="Nobody."):
    return {"prompt": f"Who lives in house {number}?", "chosen": chosen, "rejected": rejected}


@pytest.fixture
def pairs(tmp_path):
    """Ten sound pairs; line 3 torn, line 5 with equal answers, line 12 a repeat of line 1, line 13 its contrary."""
    rows = [json.dumps(pair(number)) for number in range(10)]
    rows.insert(2, '{"prompt": "torn')
    rows.insert(4, json.dumps(pair(50, "Same.", "Same.")))
    rows.append(json.dumps(pair(9)))
    rows.append(json.dumps(pair(9, "Nobody.", "Ann lives there.")))
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(rows), encoding="utf-8")
    return path


def look(path, *args):
    return check.run(config.load(check.Config, [str(path), *map(str, args)], stage="check"))


def test_facts_of_comparisons(pairs):
    before = pairs.read_bytes()
    facts = look(pairs)
    assert (facts["format"], facts["kind"]) == ("pairs", "comparisons")
    assert (facts["rows"], facts["sound"], facts["bad"], facts["acceptable"]) == (14, 12, 2, False)
    assert facts["prompts"] == 10
    assert facts["turns"] == {"min": 1, "median": 1, "p95": 1, "max": 1, "total": 12}
    assert facts["answers"] == {2: 12}
    assert facts["characters"]["prompt"]["max"] == len("Who lives in house 9?")
    assert facts["words"]["answer"] == {"min": 1, "median": 2, "p95": 3, "max": 3, "total": 48}
    assert facts["languages"] == {"en": 12}
    assert facts["longer_answer_wins"] == pytest.approx(11 / 12, abs=1e-12)
    assert facts["duplicates"] == 1
    assert [(problem["line"], problem["reason"]) for problem in facts["problems"]] == [
        (3, "not JSON: unterminated string starting at character 12"),
        (5, "chosen equal to rejected"),
        (13, "says the same as line 12"),
        (14, "ranks two answers in the opposite order of line 13"),
    ]
    assert pairs.read_bytes() == before


def test_the_text_says_the_same_for_people(pairs):
    text = look(pairs, "shown=2")["text"]
    assert "rows        14, 12 sound, 2 bad (14.3 %): stages refuse the file at max_bad_rows=0.01" in text
    assert "    line 5: chosen equal to rejected\n    and 2 more (shown=4 lists all)" in text
    assert "stages leave them out" in look(pairs, "max_bad_rows=0.2")["text"]


def test_overlap_with_another_file(pairs, tmp_path):
    other = tmp_path / "test.jsonl"
    other.write_text("\n".join(json.dumps({"prompt": f"who lives in  house {number}?"}) for number in (1, 2, 77)))
    facts = look(pairs, f"other={other}")
    assert facts["overlap"]["prompts"] == {"shared": 2, "of": 12, "share": 2 / 12}
    assert f"overlap     prompts: 2 of 12 rows (16.7 %) also in {other}" in facts["text"]


def test_duplicate_ids_and_labels_all_true(tmp_path):
    path = tmp_path / "kto.jsonl"
    rows = [{"id": number % 3, "prompt": f"{number}?", "completion": "Yes.", "label": True} for number in range(4)]
    path.write_text("\n".join(map(json.dumps, rows)))
    facts = look(path)
    assert (facts["kind"], facts["duplicate_ids"]) == ("thumbs", 1)
    assert facts["problems"] == [{"line": 4, "reason": "duplicate id '0' (first on line 1)"}]
    assert "note        all labels are true: there is nothing to tell good from bad" in facts["text"]


@pytest.fixture
def model(tmp_path):
    tokenizer = train_tokenizer(["Who lives in house 1? Ann lives there."] * 20, 300)
    path = tmp_path / "model"
    save_model(create("tiny", tokenizer, context=64), tokenizer, path, "a model")
    return path


def test_tokens_and_rows_longer_than_the_context(model, tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join([json.dumps(pair(1)), json.dumps(pair(2, "word " * 100, "No."))]))
    facts = look(path, f"model={model}")
    assert facts["context"] == 64
    assert facts["tokens"]["answer"]["max"] > 64 > facts["tokens"]["prompt"]["max"]
    (problem,) = facts["problems"]
    assert problem["line"] == 2
    assert problem["reason"].endswith(" tokens, the model's context holds 64")
    assert "longer than the model's context (1)" in facts["text"]


def test_documents_are_cut_so_their_length_is_no_problem(model, tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("word " * 500)
    facts = look(path, f"model={model}")
    assert facts["problems"] == []
    assert facts["tokens"]["text"]["max"] > 500
    assert facts["text"].endswith("problems    none found")


def test_a_kind_may_be_asked_for(pairs):
    facts = look(pairs, "kind=prompts")
    assert (facts["kind"], facts["answers"], facts["longer_answer_wins"]) == ("prompts", {0: 13}, None)


def test_files_it_cannot_tell_of(tmp_path):
    path = tmp_path / "odd.jsonl"
    path.write_text('{"height": 3}')
    with pytest.raises(BadInput, match="its rows have the fields height, which is no format Heed knows"):
        look(path)
    with pytest.raises(BadInput, match=r"none\.jsonl does not exist"):
        look(tmp_path / "none.jsonl")


def test_on_the_command_line(pairs, capsys):
    assert main(["check", str(pairs), "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["results"]["sound"] == 12
    assert main(["check", str(pairs)]) == 0
    assert capsys.readouterr().out.startswith(f"{pairs}\n  format      pairs, read as comparisons\n")
    assert main(["check", "nowhere.jsonl"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
