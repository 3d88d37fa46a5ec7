"""Counting: words, languages, repeats, contradictions, overlap, by hand-counted rows."""

import pytest

from heedlm.records import Answer, Comparison, Document, Message, Meta, Prompt, Rating, Rows, Thumb, survey

ASK = (Message(role="user", content="Who lives here?"),)


def rows_of(tmp_path, *rows):
    return Rows(
        path=tmp_path, kind=type(rows[0]), rows=list(rows), lines=list(range(1, len(rows) + 1)), bad=[], format="heed"
    )


def compared(better, worse, prompt=ASK, **more):
    return Comparison(prompt=prompt, answers=(Answer(text=better), Answer(text=worse)), ranks=(1, 2), **more)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("One, two… three!", 3),
        ("don't stop", 2),
        ("月光很亮。", 4),
        ("3个 apples", 3),
        ("日本の本", 4),
        ("snake_case", 2),
    ],
)
def test_words(text, count):
    assert survey.words(text) == count


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("The cat sat on the mat.", "en"),
        ("Die Katze lief schnell nach Hause und schlief ein.", "latin"),
        ("猫坐在垫子上。", "zh"),
        ("请用 Python 写一个函数", "zh"),
        ("猫はマットの上に座った。", "ja"),
        ("고양이가 앉았다", "ko"),
        ("Кошка сидит", "cyrillic"),
        ("12 + 30 = ?", "none"),
    ],
)
def test_languages_are_guessed(text, name):
    assert survey.language(text) == name


def test_a_given_language_goes_before_a_guess():
    rows = [Document(text="The cat sat.", meta=Meta(lang="fr")), Document(text="月光"), Document(text="It is the cat.")]
    assert survey.languages(rows) == {"fr": 1, "zh": 1, "en": 1}


def test_spread_by_nearest_rank():
    assert survey.spread(range(1, 101)) == {"min": 1, "median": 50.5, "p95": 95, "max": 100, "total": 5050}
    assert survey.spread([7]) == {"min": 7, "median": 7, "p95": 7, "max": 7, "total": 7}
    assert survey.spread([]) == {}


def test_repeats_and_contradictions_name_both_lines(tmp_path):
    rows = rows_of(
        tmp_path, compared("Ann.", "Bo."), compared("Ann.", "Bo.", id="other id"), compared("Bo.", "Ann."),
        compared("Bo.", "Ann.", criterion="honest"), compared("Bo.", "Cy."),
    )  # fmt: skip
    assert survey.repeats(rows) == [(2, 1)]
    assert survey.contradictions(rows) == [(3, 2)]


def test_overlap_ignores_case_blanks_and_short_answers():
    said = "Ann has lived here for years."
    rows = [compared(said, "Bo."), compared("Yes.", "No.", (Message(role="user", content="Is it so?"),))]
    other = [
        Prompt(messages=(Message(role="user", content="who  LIVES here?"),)),
        Document(text=f" {said.upper()}"),
        Document(text="Yes."),
    ]
    assert survey.overlap(rows, other) == {
        "prompts": {"shared": 1, "of": 2, "share": 0.5},
        "answers or texts": {"shared": 1, "of": 1, "share": 1.0},
    }


def test_how_often_the_longer_answer_wins():
    assert survey.longer_wins([compared("long one", "x"), compared("x", "long"), compared("ab", "cd")]) == 0.5
    three = Comparison(prompt=ASK, answers=tuple(Answer(text=text) for text in ("aaa", "b", "cc")), ranks=(1, 2, 3))
    assert survey.longer_wins([three]) == pytest.approx(2 / 3, abs=1e-12)
    assert survey.longer_wins([Document(text="x")]) is None


def thumb(number, up=True, **more):
    prompt = (Message(role="user", content=f"Who lives in {number}?"),)
    return Thumb(prompt=prompt, answer=Answer(text=f"Number {number}.", **more), up=up)


def test_notes_tell_what_rows_have_in_common(tmp_path):
    assert survey.notes(rows_of(tmp_path, thumb(1), thumb(2))) == [
        "all labels are true: there is nothing to tell good from bad"
    ]
    assert survey.notes(rows_of(tmp_path, thumb(1), thumb(2, up=False))) == []
    ratings = [Rating(prompt=thumb(n).prompt, answer=thumb(n).answer, score=4) for n in range(2)]
    assert survey.notes(rows_of(tmp_path, *ratings)) == ["all scores are 4: there is nothing to tell good from bad"]
    tied = Comparison(
        prompt=ASK, answers=(Answer(text="x"), Answer(text="x", ended=False)), ranks=(1, 1), consent=False
    )
    assert survey.notes(rows_of(tmp_path, tied, compared("Ann.", "Bo."))) == [
        "1 comparisons rank all their answers equal",
        "1 answers were cut at the length limit",
        "1 rows come without consent",
        "1 rows hold the same answer twice",
        "1 rows ask what an earlier row asks: split by prompt, not by row",
    ]


def test_a_canned_answer_is_noticed(tmp_path):
    rows = rows_of(
        tmp_path,
        *(compared("I don't know.", f"It is {n}.", (Message(role="user", content=f"{n}?"),)) for n in range(20)),
    )
    assert survey.notes(rows) == ['20 of 40 answers are the same: "I don\'t know."']
