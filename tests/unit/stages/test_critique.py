"""Critique and revision: rounds by principle, drops that are counted, demonstrations, resuming, and reading replies."""

from __future__ import annotations

import itertools
import json
import random

import pytest
from tests.unit.judges.server import Endpoint as Server
from tests.unit.judges.server import serving
from tests.unit.stages.test_label_ai import row
from tests.unit.train import tiny

from heedlm import runs
from heedlm.cli import main
from heedlm.errors import BadInput, Interrupted
from heedlm.judges import endpoint
from heedlm.judges.constitution import Case, draw, principles
from heedlm.judges.reviewers import VillageReviewer
from heedlm.records import Answer, Answers, Demonstration, read, write
from heedlm.runs import Run
from heedlm.stages import critique
from heedlm.village import Village, score
from heedlm.village import answer as villager
from heedlm.village.tasks import family_of


@pytest.fixture(scope="module")
def village(tmp_path_factory):
    """The commonest answer, which is seldom the best, to each of 60 prompts."""
    rng = random.Random(1)
    rows = []
    for prompt in Village(0).prompts(60, "train"):
        text = villager(prompt.meta.task, family_of(prompt.meta.task).common, rng)
        rows.append(Answers(id=prompt.id, prompt=prompt.messages, answers=(Answer(text=text),), meta=prompt.meta))
    path = tmp_path_factory.mktemp("village") / "answers.jsonl"
    write(path, rows)
    return path


def reviews(run):
    return [json.loads(line) for line in (run.path / "reviews.jsonl").read_text().splitlines()]


def demonstrations(run, role="demonstrations"):
    return read(run.output(role), Demonstration).rows


def test_every_round_makes_answers_better_by_the_truth(village, tmp_path):
    run = tiny.run(critique, tmp_path, answers=village, rounds=3, reviewer={"name": "village", "error": 0})
    gold = run.info.results["gold_by_round"]
    assert len(gold) == 4
    assert all(later > earlier for earlier, later in itertools.pairwise(gold))
    assert run.info.results["prompts"] == 60
    found = {each.id for each in principles()}
    drawn = [entry["principle"] for review in reviews(run) for entry in review["rounds"]]
    assert set(drawn) == found
    assert all(len({entry["principle"] for entry in review["rounds"]}) <= 3 for review in reviews(run))
    assert any(len({entry["principle"] for entry in review["rounds"]}) == 3 for review in reviews(run))


def test_errors_cost_gold(village, tmp_path):
    def gold(error):
        reviewer = {"name": "village", "error": error}
        run = tiny.run(critique, tmp_path / str(error), answers=village, rounds=1, reviewer=reviewer)
        return run.info.results["gold_by_round"][-1]

    assert gold(0.0) > gold(0.5) > gold(1.0) - 0.03


def test_demonstrations_are_all_revisions_once_or_the_last(village, tmp_path):
    for which, count in (("all", None), ("last", 60)):
        run = tiny.run(critique, tmp_path / which, answers=village, rounds=2, revisions=which, dev_share=0.25)
        made = demonstrations(run) + demonstrations(run, "demonstrations_dev")
        texts = {review["id"]: [entry["revision"] for entry in review["rounds"]] for review in reviews(run)}
        for each in made:
            origin = each.id.rsplit("-revision-", 1)[0]
            assert each.messages[-1].content in (texts[origin] if which == "all" else texts[origin][-1:])
        wanted = count or sum(len(set(each)) for each in texts.values())
        assert len(made) == wanted
        held_out = {each.id.rsplit("-revision-", 1)[0] for each in demonstrations(run, "demonstrations_dev")}
        assert len(held_out) == 15
        assert not held_out & {each.id.rsplit("-revision-", 1)[0] for each in demonstrations(run)}


def test_helpful_demonstrations_go_beside_the_revisions(village, tmp_path):
    also = tiny.demonstrations(tmp_path / "also.jsonl", 500)
    run = tiny.run(critique, tmp_path, answers=village, rounds=1, also=also, dev_share=0)
    made = demonstrations(run)
    own = [each for each in made if "-revision-" in each.id]
    assert len(own) == 60
    assert len(made) == 120


def test_replies_that_cannot_be_read_drop_the_prompt_and_are_counted(village, tmp_path):
    run = tiny.run(critique, tmp_path, answers=village, rounds=2, reviewer={"name": "village", "unreadable": 0.2})
    facts = run.info.results
    assert facts["dropped_critiques"] > 0
    assert facts["dropped_revisions"] > 0
    assert facts["prompts"] + facts["dropped_critiques"] + facts["dropped_revisions"] == 60
    assert sum(review["dropped"] is None for review in reviews(run)) == facts["prompts"]
    with pytest.raises(BadInput, match="no reply of the reviewer could be read"):
        tiny.run(critique, tmp_path / "x", answers=village, reviewer={"name": "village", "unreadable": 1})


def test_the_same_seed_draws_the_same_and_a_stopped_run_goes_on(village, tmp_path, monkeypatch):
    monkeypatch.setattr(critique, "_CHUNK", 25)
    whole = tiny.run(critique, tmp_path / "whole", answers=village, rounds=2)
    polls = []

    def stop_requested():
        polls.append(1)
        return len(polls) == 2

    with monkeypatch.context() as patch:
        patch.setattr(runs, "stop_requested", stop_requested)
        with pytest.raises(Interrupted, match="after 25 of 60 prompts"):
            tiny.run(critique, tmp_path / "part", answers=village, rounds=2)
    (path,) = (file.parent for file in tmp_path.glob("part/*/*/run.json"))
    assert main(["resume", str(path), "--quiet"]) == 0
    for role in ("demonstrations", "demonstrations_dev"):
        assert Run.open(path).output(role).read_bytes() == whole.output(role).read_bytes()
    assert Run.open(path).info.results == whole.info.results


def test_an_endpoint_reviews_by_the_principle_drawn(tmp_path):
    """Critique and revision through the wire; a reply that breaks the form drops its prompt."""

    def reply(question):
        if "CRITIQUE:" in question:
            return "I would rather not." if "Which? 2" in question else "CRITIQUE: It is rude."
        assert "> It is rude." in question
        return "REVISION: A kind answer." if "Which? 1" not in question else "A kind answer."

    write(tmp_path / "answers.jsonl", [row(number, "A rude answer.") for number in range(4)])
    with serving(Server(reply)) as server:
        judge = {"name": "endpoint", "url": server.url, "model": "m", "replies": str(tmp_path / "replies.jsonl")}
        run = tiny.run(critique, tmp_path, answers=tmp_path / "answers.jsonl", rounds=1, reviewer=judge, dev_share=0)
    endpoint._client.cache_clear()
    facts = run.info.results
    assert (facts["dropped_critiques"], facts["dropped_revisions"], facts["prompts"]) == (1, 1, 2)
    assert [each.messages[-1].content for each in demonstrations(run)] == ["A kind answer."] * 2
    asked = [body["messages"][0]["content"] for body in server.bodies]
    for number in range(4):
        wanted = draw(principles(), 0, f"row-{number}").request("critique", "en")
        assert [question for question in asked if f"Which? {number}" in question and question.startswith(wanted)]
    assert facts["usage"]["tokens_in"] > 0
    assert "gold_by_round" not in facts


def test_a_revision_that_was_cut_is_not_learned_from_and_the_cost_counts_whole_ones(tmp_path, capsys):
    """The second of three revisions ends at the limit; a second run takes what is kept, and the cut with it."""

    def reply(question):
        return "CRITIQUE: It is rude." if "CRITIQUE:" in question else "REVISION: A kind"

    write(tmp_path / "answers.jsonl", [row(number, "A rude answer.") for number in range(3)])
    with serving(Server(reply, [*[""] * 4, "cut"])) as server:
        judge = {
            "name": "endpoint", "url": server.url, "model": "m", "parallel": 1,
            "replies": str(tmp_path / "replies.jsonl"), "price": {"tokens_in": 0.0, "tokens_out": 1e6},
        }  # fmt: skip
        given = {"answers": tmp_path / "answers.jsonl", "rounds": 1, "reviewer": judge, "dev_share": 0}
        first = tiny.run(critique, tmp_path / "a", **given)
        told = capsys.readouterr().err
        endpoint._client.cache_clear()
        again = tiny.run(critique, tmp_path / "b", **given)
    endpoint._client.cache_clear()
    for run in (first, again):
        assert (run.info.results["dropped_revisions"], run.info.results["prompts"]) == (1, 2)
        assert [each["dropped"] for each in reviews(run)] == [None, "revision", None]
    assert len(server.bodies) == 6
    assert max(body["max_tokens"] for body in server.bodies) == 512
    # Three answers, a critique and a revision of each.
    assert "6 questions" in told
    assert f"cost at most {6 * 512:.2f}" in told


def test_a_reviewer_needs_the_truth_it_reviews_by(tmp_path):
    write(tmp_path / "answers.jsonl", [row(0, "An answer.")])
    with pytest.raises(BadInput, match=r"no ground truth \(meta.task\); the village reviewer needs it"):
        tiny.run(critique, tmp_path, answers=tmp_path / "answers.jsonl")


def test_the_villages_critique_names_what_is_wrong():
    prompt = next(iter(Village(0).prompts(1, "train")))
    case = Case(prompt, "Nonsense it is.", principles()[4])
    (told,) = VillageReviewer(error=0).critique([case])
    assert told.startswith("not: ")
    (better,) = VillageReviewer(error=0, drafts=12).revise([case], [told])
    assert score(prompt.meta.task, better).total > score(prompt.meta.task, "Nonsense it is.").total
    assert VillageReviewer(error=0).revise([case], ["nothing to mend"]) == ["Nonsense it is."]
    assert VillageReviewer(error=1).critique([case]) == ["nothing to mend"]
