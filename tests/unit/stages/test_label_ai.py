"""Labels by AI: pairs in both orders, ranks with certainty and strength, points by rubric, principles, resuming."""

from __future__ import annotations

import random
import statistics

import pytest
from tests.unit.train import tiny

from heedlm import runs
from heedlm.cli import main
from heedlm.errors import BadInput, Interrupted
from heedlm.judges import Scripted, labelling
from heedlm.judges.constitution import Case, principles
from heedlm.judges.labelling import ByGrades, ByJudge, strength_of
from heedlm.judges.reviewers import VillageReviewer
from heedlm.records import Answer, Answers, Comparison, Message, Prompt, read, write
from heedlm.runs import Run
from heedlm.seams import Verdict
from heedlm.stages import label
from heedlm.village import Village, answer, score
from heedlm.village.tasks import choose_manner, family_of

SCORES = {"best": 3.0, "good": 1.0, "poor": -1.0}


def row(number, *texts):
    prompt = (Message(role="user", content=f"Which? {number}"),)
    return Answers(id=f"row-{number}", prompt=prompt, answers=tuple(Answer(text=text) for text in texts))


@pytest.fixture
def answered(tmp_path):
    path = tmp_path / "answers.jsonl"
    orders = [("poor", "best", "good"), ("good", "poor", "best"), ("best", "good", "poor")] * 4
    write(path, [row(i, *texts) for i, texts in enumerate(orders)])
    return path


def by_scores(**more):
    return {
        "judge": {"name": "scripted", "prefers": "scores", "scores": SCORES} | more,
        "test_share": 0,
        "dev_share": 0,
    }


def comparisons_of(run):
    return read(run.output("comparisons"), Comparison).rows


def test_a_judge_ranks_all_answers_and_says_how_surely(answered, tmp_path):
    run = tiny.run(label, tmp_path, answers=answered, **by_scores())
    for each in comparisons_of(run):
        texts = [answer.text for answer in each.answers]
        assert dict(zip(texts, each.ranks, strict=True)) == {"best": 1, "good": 2, "poor": 3}
        # σ(2), σ(2) and σ(4) are .880797, .880797 and .982014.
        assert each.certainty == pytest.approx((2 * 0.880797 + 0.982014) / 3, abs=1e-6)
        assert each.strength == "significantly"
        assert (each.annotator, each.criterion) == ("judge:scripted", "overall")
    facts = run.info.results
    assert (facts["prompts"], facts["pairs"], facts["unread_verdicts"]) == (12, 36, 0)
    assert facts["position_consistency"] == 1.0
    assert facts["mean_preference_for_first"] == pytest.approx(0.5)


def test_labels_can_be_held_near_even(answered, tmp_path):
    run = tiny.run(label, tmp_path, answers=answered, clamp=[0.4, 0.6], **by_scores())
    for each in comparisons_of(run):
        assert (each.certainty, each.strength) == (pytest.approx(0.6), "slightly")
    with pytest.raises(BadInput, match="a share below and one above a half"):
        tiny.run(label, tmp_path, answers=answered, clamp=[0.6, 0.9], **by_scores())


def test_unreadable_verdicts_are_counted_and_drop_what_hangs_on_them(tmp_path):
    write(tmp_path / "rows.jsonl", [row(0, "best", "poor"), row(1, "best", "good"), row(2, "good", "??")])
    run = tiny.run(label, tmp_path, answers=tmp_path / "rows.jsonl", **by_scores(unreadable="??"))
    facts = run.info.results
    assert (facts["pairs"], facts["unread_verdicts"], facts["dropped_unread"], facts["prompts"]) == (3, 2, 1, 2)
    assert {each.id for each in comparisons_of(run)} == {"row-0", "row-1"}
    write(tmp_path / "none.jsonl", [row(2, "good", "??")])
    with pytest.raises(BadInput, match="no verdict on any of 1 prompts could be read"):
        tiny.run(label, tmp_path, answers=tmp_path / "none.jsonl", **by_scores(unreadable="??"))


@pytest.mark.parametrize(
    ("preferences", "word"),
    [
        ([0.95], "significantly"), ([0.1], "significantly"), ([0.8], "better"), ([0.35], "slightly"),
        ([0.6], "slightly"), ([0.55, 0.5], "negligibly"),
    ],
)  # fmt: skip
def test_strength_is_the_distance_from_even(preferences, word):
    assert strength_of(preferences) == word


class Coin:
    """Picks what is shown first in a fifth of all cases, and otherwise says with chance .7 that "good" is better."""

    name = "coin"

    def __init__(self, seed):
        self.chance = random.Random(seed)

    def compare(self, prompt, a, b):
        if self.chance.random() < 0.2:
            return Verdict(1.0, "first")
        right = self.chance.random() < 0.7
        return Verdict(float(right == (a == "good")), "said")


def test_a_judge_biased_by_position_is_unbiased_after_averaging():
    """5,000 pairs: in one order the answer shown first wins too often by far; averaged, place explains nothing."""
    rows = [row(i, *(("good", "poor") if i % 2 else ("poor", "good"))) for i in range(5_000)]
    source = ByJudge(Coin(0))
    entries = source.ask(rows)
    for_good: dict[bool, list[float]] = {True: [], False: []}
    single: dict[bool, list[float]] = {True: [], False: []}
    for each, entry in zip(rows, entries, strict=True):
        first = each.answers[0].text == "good"
        ((shown_first, shown_second),) = entry["verdicts"]
        preference = (shown_first + shown_second) / 2
        for_good[first].append(preference if first else 1 - preference)
        single[first].append(shown_first if first else 1 - shown_first)

    def gap(of):
        """How much better "good" fares where it is the row's first answer, in standard errors and as it is."""
        difference = statistics.fmean(of[True]) - statistics.fmean(of[False])
        error = sum(statistics.pvariance(values) / len(values) for values in of.values()) ** 0.5
        return difference / error, difference

    z, biased = gap(single)
    assert z > 10
    assert biased == pytest.approx(0.2, abs=0.03)
    z, left = gap(for_good)
    assert abs(z) < 2.6
    assert abs(left) < 0.03
    # (1 − .2)·.7 + .1, pulled towards even and no further.
    assert statistics.fmean([*for_good[True], *for_good[False]]) == pytest.approx(0.66, abs=0.01)
    assert source.facts(entries)["mean_preference_for_first"] == pytest.approx(0.6, abs=0.01)


@pytest.fixture(scope="module")
def village(tmp_path_factory):
    """Answers in several of the village's manners."""
    rng = random.Random(0)
    rows = []
    for prompt in Village(0).prompts(120, "train"):
        task = prompt.meta.task
        texts = [answer(task, choose_manner(family_of(task), rng), rng) for _ in range(4)]
        answers = tuple(Answer(text=text) for text in texts)
        rows.append(Answers(id=prompt.id, prompt=prompt.messages, answers=answers, meta=prompt.meta))
    path = tmp_path_factory.mktemp("village") / "answers.jsonl"
    write(path, rows)
    return path


def test_a_grader_ranks_by_mean_points_and_errors_average_out(village, tmp_path):
    def accuracy(name, **more):
        run = tiny.run(label, tmp_path / name, answers=village, grader={"name": "village", **more}, test_share=0)
        assert run.info.results["grades"] == 3 * sum(len(each.answers) for each in usable(village))
        return run.info.results["gold_accuracy"]

    exact, noisy, blind = accuracy("a", error=0), accuracy("b", error=0.3), accuracy("c", error=1)
    assert exact > 0.99
    assert 0.6 < noisy < exact
    assert blind == pytest.approx(0.5, abs=0.12)


def usable(path):
    return label._distinct(read(path, Answers).rows)


def test_points_are_the_mean_of_the_judgements_that_could_be_read():
    source = ByGrades(VillageReviewer(), 3)
    each = row(0, "x", "y", "z")
    ranked = source.ranking(each, {"points": [[1.0, None, 2.0], [3.0, 3.0, 3.0], [1.5, 1.5, None]]})
    assert ranked.ranks == (2, 1, 2)
    assert source.ranking(each, {"points": [[None, None], [1.0, 2.0], [3.0, 3.0]]}) is None
    facts = source.facts([{"points": [[1.0, None, 2.0]]}])
    assert (facts["grades"], facts["unread_grades"], facts["mean_grade"]) == (3, 1, 1.5)


def test_principles_are_drawn_for_each_prompt_and_put_to_the_judge(village, tmp_path, monkeypatch):
    seen = []

    def both_orders_all(judge, pairs, questions=None):
        seen.extend(questions)
        return original(Scripted(), pairs)

    original = labelling.both_orders_all
    monkeypatch.setattr(labelling, "both_orders_all", both_orders_all)
    judge = {"name": "local", "path": "no model is loaded"}
    run = tiny.run(label, tmp_path, answers=village, judge=judge, constitution="own", test_share=0, dev_share=0)
    by_id = {each.id: each for each in principles()}
    rows = comparisons_of(run)
    assert len({each.group for each in rows}) == len(by_id)
    for each in rows:
        assert each.criterion == by_id[each.group].criterion
        assert by_id[each.group].request("comparison", each.meta.lang) in seen
    assert {question.isascii() for question in seen} == {True, False}


def test_a_stopped_run_goes_on_where_it_was(answered, tmp_path, monkeypatch):
    monkeypatch.setattr(label, "_CHUNK", 5)
    whole = tiny.run(label, tmp_path / "whole", answers=answered, **by_scores())
    polls, asked = [], []
    compare = Scripted.compare

    def stop_requested():
        polls.append(1)
        return len(polls) == 2

    with monkeypatch.context() as patch:
        patch.setattr(runs, "stop_requested", stop_requested)
        with pytest.raises(Interrupted, match="after 5 of 12 prompts"):
            tiny.run(label, tmp_path / "part", answers=answered, **by_scores())
    monkeypatch.setattr(Scripted, "compare", lambda *given: asked.append(1) or compare(*given))
    (path,) = (file.parent for file in tmp_path.glob("part/*/*/run.json"))
    assert main(["resume", str(path), "--quiet"]) == 0
    assert len(asked) == 7 * 6
    assert (path / "comparisons.jsonl").read_bytes() == whole.output("comparisons").read_bytes()
    assert Run.open(path).info.results == whole.info.results
    assert len((path / "verdicts.jsonl").read_text().splitlines()) == 12


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"judge": {"name": "scripted"}, "grader": "village"}, "not both"),
        ({"constitution": "own"}, "are for a judge"),
        ({"clamp": [0.4, 0.6]}, "are for a judge"),
        ({"judge": {"name": "local", "path": "x"}, "constitution": "none.toml"}, "none.toml: cannot be read"),
        ({"judge": {"name": "scripted"}, "constitution": "own"}, "judge 'scripted' reads no principles"),
        ({"grader": "village"}, "no ground truth"),
    ],
)
def test_settings_that_cannot_be_are_refused(answered, tmp_path, more, told):
    with pytest.raises(BadInput, match=told):
        tiny.run(label, tmp_path, answers=answered, **more)


def test_a_broken_constitution_is_told_by_place(tmp_path):
    file = tmp_path / "mine.toml"
    good = 'id = "x"\ncritique.en = "c"\nrevision.en = "r"\ncomparison.en = "q"\n'
    for text, told in [
        ("x = ", "is no TOML file"),
        ("x = 1", "holds no principle"),
        ('[[principle]]\nid = "x"\n', "principle 1: critique: Field required"),
        (f"[[principle]]\n{good}[[principle]]\n{good}", "principle 'x' comes twice"),
        (f'[[principle]]\n{good}critique.zh = " "\n', "principle 1: critique: needs a text"),
    ]:
        file.write_text(text)
        with pytest.raises(BadInput, match=told):
            principles(file)
    file.write_text(f"[[principle]]\n{good}")
    assert [each.id for each in principles(file)] == ["x"]
    assert principles(file)[0].criterion == "overall"


def test_gold_decides_what_the_village_reviewer_says(village):
    """Its errors apart: the better answer gets at least as many points."""
    reviewer = VillageReviewer(error=0)
    for each in usable(village)[:30]:
        prompt = Prompt(id=each.id, messages=each.prompt, meta=each.meta)
        cases = [Case(prompt, text.text) for text in each.answers]
        points = reviewer.grade(cases)
        assert points == [round(5 * score(each.meta.task, text.text).total) for text in each.answers]
