"""Exports of annotation tools in, trainers' columns out and in again: nothing lost, nothing guessed, faults told."""

import json
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

from heedlm.errors import BadInput
from heedlm.feedback.agreement import measure
from heedlm.feedback.interchange import FORMS, Columns, load, save
from heedlm.feedback.interchange.replies import which
from heedlm.feedback.judgements import judgements_of
from heedlm.records import Answer, Comparison, Demonstration, Document, Message, Meta, Rating, Thumb, read

FIXTURES = Path(__file__).parent / "fixtures"
ANN, BEN = "3f0c9a52-6f11-4b5e-9d8e-0b7a51c1d001", "a81d1c77-2f0a-4f55-8a35-9c2e41f2e002"


def fixture(name, **more):
    return load(FIXTURES / name, max_bad_rows=1.0, **more)


def written(path, rows):
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


def ask(text):
    return (Message(role="user", content=text),)


# ------------------------------------------------------------------------------------------ Argilla


def test_argilla_2_nested():
    found = fixture("argilla2.json")
    assert found.rows.format == "argilla"
    first, second, best = found.of(Comparison)
    assert [answer.text for answer in first.answers][1] == "Bees buy it."
    assert (first.ranks, second.ranks, best.ranks) == ((2, 3, 1), (1, 3, 2), (2, 2, 1))
    assert (first.annotator, second.annotator, first.id) == (ANN, BEN, f"r1/preference/{ANN}")
    assert [answer.model for answer in first.answers] == ["base", None, "tuned"]
    assert (first.meta.source, first.meta.lang) == ("garden", "en")
    (rating,) = found.of(Rating)
    assert (rating.score, rating.flags, rating.answer.text) == (6, ("hallucination", "opinion"), "它们抱成一团取暖。")
    up, down = found.of(Thumb)
    assert (up.up, up.reason, down.up, down.reason) == (True, None, False, "太短")
    (demonstration,) = found.of(Demonstration)
    assert demonstration.messages[-1].content.startswith("它们 抱成一团")
    assert found.left_out == {"suggestions": 1, "records without a reply": 1}


def test_a_bad_reply_is_set_aside_alone_with_line_field_and_reason(tmp_path):
    aside = tmp_path / "aside.jsonl"
    found = fixture("argilla2.json", quarantine=aside)
    lines = [json.loads(line) for line in aside.read_text().splitlines()]
    assert [(line["line"], line["reason"]) for line in lines] == [
        (2, f"responses.quality by {BEN}: score 9 is no whole number from 1 to 7: rescale it"),
        (2, "responses.acceptable by None: 'unsure' is neither good nor bad: say what it means with labels=, or name "
            "the question in written= if it is an answer"),
    ]  # fmt: skip
    assert len(found.rows) == 7
    with pytest.raises(BadInput, match=r"2 of 9 rows are bad \(line 2: responses\.quality"):
        load(FIXTURES / "argilla2.json")


def test_a_tools_own_words_are_given_a_meaning():
    found = fixture("argilla2.json", columns=Columns(labels={"unsure": "bad"}))
    assert [thumb.up for thumb in found.of(Thumb)] == [True, False, False]


def test_suggestions_are_read_on_request_under_the_models_name():
    found = fixture("argilla2.json", predictions=True)
    assert [row.annotator for row in found.of(Comparison)] == [ANN, BEN, ANN, "judge-7b"]
    assert "suggestions" not in found.left_out


def test_argilla_2_flattened_with_drafts_and_ties():
    found = fixture("argilla2_flat.jsonl")
    assert [(row.ranks, row.annotator) for row in found.of(Comparison)] == [((1, 2), ANN), ((1, 1), BEN)]
    assert found.rows.rows[0].meta.source == "kitchen"
    assert found.left_out == {"draft responses": 1, "suggestions": 1}
    assert found.rows.bad[0].reason.startswith(f"preference.responses by {ANN}: 'response_c' names none of the answers")


def test_argilla_1_in_both_of_its_shapes():
    found = fixture("argilla1.jsonl")
    (ranking,) = found.of(Comparison)
    assert (ranking.ranks, [answer.text for answer in ranking.answers]) == ((1, 2, 1), ["Hello!", "Go away.", "Hi."])
    assert [(row.score, row.annotator) for row in found.of(Rating)] == [(5, ANN), (4, BEN)]
    assert found.left_out == {"discarded responses": 1}


def test_argillas_server_answers_by_user(tmp_path):
    row = {
        "fields": {"instruction": "Add.", "response_1": "1", "response_2": "2"},
        "responses": [
            {"user_id": "u", "status": "submitted",
             "values": {"helpful": {"value": [{"value": "response_2", "rank": 1}, {"value": "response_1", "rank": 2}]},
                        "response_2_score": {"value": 7}, "harmless": {"value": "A is better"}}},
        ],
        "suggestions": [{"question_name": "helpful", "value": [], "agent": "m"}],
    }  # fmt: skip
    found = load(written(tmp_path / "a.jsonl", [row]))
    assert [(one.criterion, one.ranks) for one in found.of(Comparison)] == [("helpful", (2, 1)), ("harmless", (1, 2))]
    assert [(one.score, one.answer.text) for one in found.of(Rating)] == [(7, "2")]


# ------------------------------------------------------------------------------------------ Label Studio


def test_label_studio_pairwise_ranker_rating_choices_and_text():
    found = fixture("label_studio.json")
    assert found.rows.format == "label-studio"
    left, right, ranked = found.of(Comparison)
    assert (left.ranks, left.strength, left.annotator) == ((1, 2), "slightly", "3")
    assert (right.ranks, right.strength, right.annotator) == ((2, 1), None, "4")
    assert left.order_shown == (0, 1)
    assert (ranked.ranks, ranked.order_shown) == ((2, 1, 3), (0, 1, 2))
    assert [answer.text for answer in ranked.answers] == ["Water falls.", "Clouds cool and drops grow.", "Magic."]
    (rating,), (thumb,), (demonstration,) = found.of(Rating), found.of(Thumb), found.of(Demonstration)
    assert (rating.score, rating.flags) == (5, ("opinion",))
    assert (thumb.up, thumb.reason) == (True, "short but right")
    assert demonstration.messages[-1].content.startswith("Because of chlorophyll")
    assert found.left_out == {"predictions": 1, "skipped tasks": 1, "results of type rectanglelabels": 1}
    assert [bad.reason for bad in found.rows.bad] == [
        "annotations[1].rank.ranker by 4: the items are sorted into good, bad, which have no order",
        "annotations[1].score.rating by 4: score 5.5 is no whole number from 1 to 7: rescale it",
    ]


def test_label_studio_with_names_of_ones_own(tmp_path):
    task = {
        "id": 1, "data": {"ask": "Why?", "one": "Because.", "other": "No reason."},
        "annotations": [{"id": 5, "completed_by": 2, "result": [
            {"from_name": "pw", "to_name": "pw", "type": "pairwise", "value": {"selected": "right"}}]}],
    }  # fmt: skip
    path = written(tmp_path / "t.jsonl", [task])
    with pytest.raises(BadInput, match="no prompt: expected a field prompt, instruction"):
        load(path)
    with pytest.raises(BadInput, match="'right' is a label, but the record shows no answers"):
        load(path, columns=Columns(prompt="ask"))
    (found,) = load(path, columns=Columns(prompt="ask", answers=("other", "one"))).of(Comparison)
    assert [(answer.text, rank) for answer, rank in zip(found.answers, found.ranks, strict=True)] == [
        ("No reason.", 2), ("Because.", 1),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("word", "names", "place"),
    [
        ("response-1", ["response1", "response2"], 0),
        ("reply_2", ["reply-1", "reply-2"], 1),
        ("2", ["answer1", "answer2", "answer12"], 1),
        ("B", ["response_a", "response_b"], 1),
        ("Answer B is better", ["answer1", "answer2"], 1),
        ("Response A is better", ["response_a", "response_b"], 0),
        ("left", ["text1", "text2"], 0),
        ("right", ["chosen", "rejected"], 1),
        ("2", ["chosen", "rejected"], 1),
        ("3", ["answer1", "answer2"], None),
        ("unsure", ["answer1", "answer2"], None),
        ("third", ["x", "y"], None),
    ],
)
def test_which_answer_a_word_means(word, names, place):
    assert which(word, names) == place


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (["response1", "response1"], "'response1' is ranked twice"),
        (["response1", "tie"], "'tie' names none of the answers"),
        ({"rank": [1], "value": ["response1"]}, "'response2' is not ranked"),
        ([{"value": "response1", "rank": "a"}, {"value": "response2"}], "rank 'a' of 'response1' is no whole number"),
        ("maybe", "'maybe' names none of the answers response1, response2: say which one with labels="),
        (4, "a score, but the record has 2 answers and the question names none of them"),
        ({"start": 1}, "is no label"),
    ],
)
def test_replies_that_cannot_be_read_say_why(tmp_path, value, words):
    row = {
        "fields": {"prompt": "?", "response1": "a", "response2": "b"},
        "responses": {"q": [{"value": value, "user_id": "u"}, {"value": "response1", "user_id": "v"}]},
    }
    found = load(written(tmp_path / "a.jsonl", [row]), max_bad_rows=0.5)
    assert words in found.rows.bad[0].reason
    assert len(found.rows) == 1


# ------------------------------------------------------------------------------------------ columns of trainers


def test_columns_of_trl_and_datasets_with_the_annotator_beside_them():
    found = fixture("trl.jsonl")
    assert Counter(type(row).__name__ for row in found.rows) == {"Comparison": 3, "Thumb": 1, "Demonstration": 2}
    first, second, third = found.of(Comparison)
    assert (first.annotator, first.criterion, first.group) == ("ann", "honest", "a")
    assert (second.annotator, second.strength) == ("7", None)  # "hardly" is a column of somebody else's
    assert third.annotator is None
    assert [(bad.line, bad.reason) for bad in found.rows.bad] == [(7, "chosen equal to rejected")]


def test_rows_heed_cannot_use_are_set_aside_as_everywhere(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_bytes(
        b'{"prompt": "a", "chosen": "b", "rejected": "c", "id": 1}\n{torn\n{"x": 1}\n'
        b'{"prompt": "\\ud800", "completion": "b"}\n{"prompt": "d", "completion": "e", "id": 1}\n'
        b'{"prompt": [{"role": "user", "content": "?"}], "answers": [{"text": "a"}], "ranks": [1], "extra": 2}\n'
    )
    reasons = [bad.reason for bad in load(path, max_bad_rows=1).rows.bad]
    assert reasons[0].startswith("not JSON")
    assert reasons[1] == "no known format has the fields x"
    assert reasons[2].startswith("invalid unicode")
    assert reasons[3] == "duplicate id '1' (first on line 1)"
    assert reasons[4].startswith(("answers: ", "unknown field 'extra'"))


# ------------------------------------------------------------------------------------------ out and in again


ROWS = [
    Comparison(
        prompt=(Message(role="system", content="Be brief."), *ask("Which?")), criterion="helpful", strength="slightly",
        answers=(Answer(text="One. ", model="m"), Answer(text="Two.", ended=False), Answer(text="三。", tokens=2)),
        ranks=(2, 1, 2), annotator="ann", group="g", guideline_version="v2", order_shown=(2, 0, 1),
        meta=Meta(source="s", lang="en"),
    ),
    Comparison(prompt=ask("Two?"), answers=(Answer(text="a"), Answer(text="b")), ranks=(2, 1), id="own"),
    Rating(prompt=ask("Good?"), answer=Answer(text="Yes."), score=7, flags=("opinion",), annotator="ben"),
    Thumb(prompt=ask("Fine?"), answer=Answer(text="No."), up=False, reason="rude", annotator="ben", consent=True),
    Demonstration(messages=(*ask("Show."), Message(role="assistant", content="Shown.")), meta=Meta(domain="chat")),
    Document(text="A document."),
]  # fmt: skip


def test_heeds_own_rows_come_back_equal(tmp_path):
    for name in ("rows.jsonl", "rows.jsonl.gz"):
        found = save(tmp_path / name, ROWS)
        assert (found.rows, found.left_out) == (6, {})
        assert load(tmp_path / name).rows.rows == ROWS


def test_pairs_of_a_ranking_as_trl_reads_them(tmp_path):
    path = tmp_path / "pairs.jsonl"
    found = save(path, ROWS, "pairs")
    assert (found.rows, found.left_out) == (3, {"tied pairs": 1, "rating rows": 1, "thumb rows": 1,
                                                "demonstration rows": 1, "document rows": 1})  # fmt: skip
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[0] == {
        "prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Which?"}],
        "chosen": [{"role": "assistant", "content": "Two."}], "rejected": [{"role": "assistant", "content": "One. "}],
        "id": f"{ROWS[0].id}-1", "meta": {"source": "s", "lang": "en"}, "annotator": "ann", "group": "g",
        "guideline_version": "v2", "criterion": "helpful", "strength": "slightly",
    }  # fmt: skip
    assert lines[2]["id"] == "own"
    back = load(path).of(Comparison)
    assert [(row.annotator, row.criterion, row.meta.source) for row in back] == [
        ("ann", "helpful", "s"), ("ann", "helpful", "s"), (None, "overall", None),
    ]  # fmt: skip
    assert [[answer.text for answer in row.answers] for row in back] == [
        ["Two.", "One. "],
        ["Two.", "三。"],
        ["b", "a"],
    ]
    assert len(read(path, Comparison)) == 3


def test_thumbs_for_kto_and_demonstrations_for_sft(tmp_path):
    kto, sft = tmp_path / "kto.jsonl", tmp_path / "sft.jsonl"
    assert save(kto, ROWS, "kto").rows == save(sft, ROWS, "sft").rows == 1
    line = json.loads(kto.read_text())
    assert line["completion"] == [{"role": "assistant", "content": "No."}]
    assert (line["label"], line["annotator"], line["consent"]) == (False, "ben", True)
    (back,) = load(kto).of(Thumb)
    assert back.model_copy(update={"id": "", "reason": "rude"}) == ROWS[3].model_copy(update={"id": ""})
    (shown,) = load(sft).of(Demonstration)
    assert (shown.messages, shown.meta) == (ROWS[4].messages, ROWS[4].meta)


def test_agreement_is_the_same_before_and_after(tmp_path):
    rows = [
        Comparison(
            prompt=ask(f"{number}?"), answers=(Answer(text="a"), Answer(text="b")), annotator=who,
            ranks=(1, 2) if number % step else (2, 1),
        )
        for who, step in (("ann", 2), ("ben", 3))
        for number in range(30)
    ]  # fmt: skip
    save(tmp_path / "p.jsonl", rows, "pairs")
    before, after = measure(judgements_of(rows)), measure(judgements_of(load(tmp_path / "p.jsonl").rows))
    assert before == after
    assert before.percent.estimate == pytest.approx(0.5, abs=0.01)


def test_who_refused_is_left_out(tmp_path):
    refused = Thumb(prompt=ask("?"), answer=Answer(text="."), up=True, consent=False)
    assert save(tmp_path / "x.jsonl", [*ROWS, refused]).left_out == {"rows without consent": 1}


def test_what_cannot_be_written_is_one_line(tmp_path):
    with pytest.raises(BadInput, match=r"let its name end in \.jsonl, \.jsonl\.gz or \.parquet"):
        save(tmp_path / "x.csv", ROWS)
    with pytest.raises(BadInput, match="choose from heed, pairs, kto, sft"):
        save(tmp_path / "x.jsonl", ROWS, "dpo")
    with pytest.raises(BadInput, match=r"nothing to write as sft \(1 rating rows\)"):
        save(tmp_path / "x.jsonl", [ROWS[2]], "sft")
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------ Parquet


class Table:
    """A table as pyarrow makes one of rows: its columns are those of the first row, a missing value is None."""

    def __init__(self, rows):
        self.columns = list(rows[0])
        self.rows = [{name: row.get(name) for name in self.columns} for row in rows]

    @classmethod
    def from_pylist(cls, rows):
        return cls(rows)

    def to_pylist(self):
        return self.rows


class ParquetFile:
    def __init__(self, path):
        self.table = Table(json.loads(Path(path).read_text()))

    def iter_batches(self):
        return [self.table]


@pytest.fixture
def pyarrow(monkeypatch):
    """The three functions of pyarrow that are used, over JSON."""
    arrow, parquet = ModuleType("pyarrow"), ModuleType("pyarrow.parquet")
    arrow.Table, parquet.ParquetFile = Table, ParquetFile
    parquet.write_table = lambda table, file: file.write(json.dumps(table.rows).encode())
    monkeypatch.setitem(sys.modules, "pyarrow", arrow)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", parquet)


def test_parquet_holds_every_column_of_every_kind(tmp_path, pyarrow):
    path = tmp_path / "rows.parquet"
    with_task = ROWS[1].model_copy(update={"meta": Meta(task={"kind": "sum", "terms": [1, 2]})})
    assert save(path, [*ROWS, with_task.model_copy(update={"id": "task"})]).rows == 7
    back = load(path).rows.rows
    assert [row.content() for row in back[:6]] == [row.content() for row in ROWS]
    assert [row.meta for row in back[:6]] == [row.meta for row in ROWS]
    assert back[0].answers == ROWS[0].answers
    assert back[6].meta.task is None
    for form in FORMS[1:]:
        assert save(tmp_path / f"{form}.parquet", ROWS, form).rows == len(load(tmp_path / f"{form}.parquet").rows)


def test_parquet_without_pyarrow_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(BadInput, match=r"rows\.parquet needs pyarrow: pip install pyarrow, or save it as \.jsonl"):
        save(tmp_path / "rows.parquet", ROWS)


def test_a_disk_that_refuses_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "rows.jsonl"
    save(path, ROWS[:1])
    before = path.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(BadInput, match="No space left on device"):
        save(path, ROWS)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["rows.jsonl"]
