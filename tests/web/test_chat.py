"""Chat through the application: asking, following, stopping, branching, judging, consent, deletion, strangers."""

import json
import re
import threading
import time
from pathlib import Path

import pytest

from heedlm.errors import BadInput
from heedlm.feedback.conversations import Conversations
from heedlm.feedback.errors import Conflict
from heedlm.feedback.verdicts import Verdicts
from heedlm.web import words
from heedlm.web.answering import Answering
from heedlm.web.app import create_app
from heedlm.web.services import Cut, LeftOut, Services


class Script:
    """A model that says its pieces, waiting at each None until it is let on; exceptions among them are raised."""

    def __init__(self, *pieces):
        self.pieces, self.gate, self.seen, self.seeds, self.closed = pieces, threading.Semaphore(0), [], [], 0

    def let_on(self):
        """Wait no more."""
        for _ in range(20):
            self.gate.release()

    def reply(self, messages, seed):
        self.seen.append([message.content for message in messages])
        self.seeds.append(seed)
        try:
            for piece in self.pieces:
                if piece is None:
                    assert self.gate.acquire(timeout=20)
                elif isinstance(piece, Exception):
                    raise piece
                else:
                    yield piece
        finally:
            self.closed += 1


class Talk:
    """A conversation of one person's through the API."""

    def __init__(self, client, ok, model="frog", question="How do frogs sing?", **more):
        self.client, self.ok = client, ok
        opened = ok(client.post("/api/conversations", json={"model": model, "question": question, **more}), 201).json()
        self.id = opened["conversation"]["id"]
        self.path = f"/api/conversations/{self.id}"
        self.question, self.answer = opened["messages"]

    def follow(self, answer=None):
        """All events of an answer."""
        text = self.ok(self.client.get(f"{self.path}/messages/{(answer or self.answer)['id']}/stream")).text
        found = []
        for block in text.strip().split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.split("\n"))
            found.append((fields["event"], json.loads(fields["data"])))
        return found

    def whole(self, answer=None):
        """The message that an answer becomes."""
        return self.follow(answer)[-1][1]

    def ask(self, question, parent, model="frog"):
        asked = {"question": question, "model": model, "parent": parent}
        return self.ok(self.client.post(f"{self.path}/questions", json=asked), 201).json()["messages"]

    def again(self, question=None, model="frog"):
        path = f"{self.path}/messages/{(question or self.question)['id']}/answers"
        return self.ok(self.client.post(path, json={"model": model}), 201).json()["messages"][0]

    def judge(self, message, verdict, status=201, key=None, **more):
        body = {"verdict": verdict, "key": key or f"key {time.monotonic_ns()}", **more}
        return self.ok(self.client.post(f"{self.path}/messages/{message['id']}/verdicts", json=body), status).json()

    def everything(self):
        return self.ok(self.client.get(self.path)).json()


@pytest.fixture
def models(home):
    """The models of the application, and a person who talks to them."""
    home.person("ann", "chat")
    found = home.state.services.models
    found.update(
        frog=Script("They ", "croak", "."),
        slow=Script("They ", None, "croak."),
        broken=Script("They ", RuntimeError("secret path")),
        full=Script(BadInput("a prompt has 900 tokens, but 64 fit: shorten its last message")),
        forgetful=Script(LeftOut(2), "Ribbit."),
    )
    yield found
    home.state.answering.close()
    for model in found.values():
        model.let_on()


@pytest.fixture
def ann(home, models):
    return home.client("ann")


def until(condition):
    for _ in range(500):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it never happened")


# ---------------------------------------------------------------- asking


def test_an_answer_comes_piece_by_piece_and_is_kept(ann, ok):
    talk = Talk(ann, ok)
    events = talk.follow()
    assert events[0][0] == "text" or events[0][0] == "done"
    assert events[-1][0] == "done"
    assert events[-1][1]["content"] == "They croak."
    found = talk.everything()
    assert found["conversation"]["title"] == "How do frogs sing?"
    assert found["conversation"]["consent"] is False
    assert [(m["role"], m["state"], m["content"]) for m in found["messages"]] == [
        ("user", "whole", "How do frogs sing?"),
        ("assistant", "whole", "They croak."),
    ]
    page = ok(ann.get(f"/chat/{talk.id}", headers={"accept": "text/html"})).text
    assert "How do frogs sing?" in page
    assert "They croak." in page


def test_two_readers_follow_one_answer(ann, ok, models):
    talk = Talk(ann, ok, "slow")
    found = []
    readers = [threading.Thread(target=lambda: found.append(talk.follow())) for _ in range(2)]
    for reader in readers:
        reader.start()
    until(lambda: len(models["slow"].seen) == 1)
    time.sleep(0.05)
    models["slow"].gate.release()
    for reader in readers:
        reader.join(20)
    assert len(found) == 2
    for events in found:
        assert "".join(what for event, what in events if event in ("text", "piece")) == "They croak."
        assert events[-1][1]["state"] == "whole"
    assert talk.whole()["content"] == "They croak."


def test_a_model_reads_the_whole_conversation(ann, ok, models):
    talk = Talk(ann, ok)
    answer = talk.whole()
    _, second = talk.ask("At night?", answer["id"])
    talk.whole(second)
    assert models["frog"].seen[-1] == ["How do frogs sing?", "They croak.", "At night?"]


def test_what_cannot_be_asked(ann, ok):
    for body in (
        {"model": "nobody", "question": "Hello?"},
        {"model": "frog", "question": ""},
        {"model": "frog", "question": "  "},
        {"model": "frog", "question": "x" * 32_001},
        {"model": "frog", "question": "Hello?", "user": "olga"},
        {"model": "frog"},
    ):
        ok(ann.post("/api/conversations", json=body), 422)
    talk = Talk(ann, ok)
    talk.whole()
    ok(ann.post(f"{talk.path}/questions", json={"model": "nobody", "question": "Hello?"}), 422)
    ok(ann.post(f"{talk.path}/messages/{talk.question['id']}/answers", json={"model": "nobody"}), 422)
    ok(ann.post(f"{talk.path}/messages/{talk.answer['id']}/answers", json={"model": "frog"}), 422)
    assert len(talk.everything()["messages"]) == 2


# ---------------------------------------------------------------- stopping and failing


def test_stopping_keeps_what_came(ann, ok, models):
    talk = Talk(ann, ok, "slow")
    draft = ann.app.state.answering.find(talk.answer["id"])
    until(lambda: draft.text == "They ")
    stopped = ok(ann.post(f"{talk.path}/messages/{talk.answer['id']}/stop")).json()["message"]
    assert (stopped["state"], stopped["content"]) == ("stopped", "They ")
    models["slow"].gate.release()
    until(lambda: models["slow"].closed == 1)
    assert talk.whole()["content"] == "They "
    again = ok(ann.post(f"{talk.path}/messages/{talk.answer['id']}/stop")).json()["message"]
    assert again == stopped


def test_a_stopped_answer_can_be_answered_and_judged(ann, ok):
    talk = Talk(ann, ok, "slow")
    until(lambda: ann.app.state.answering.find(talk.answer["id"]).text)
    ok(ann.post(f"{talk.path}/messages/{talk.answer['id']}/stop"))
    talk.judge(talk.answer, "up")
    _, answer = talk.ask("Go on", talk.answer["id"])
    assert talk.whole(answer)["state"] == "whole"


def test_a_model_that_fails_is_told_of_and_asked_again(ann, ok, models, caplog):
    talk = Talk(ann, ok, "broken")
    failed = talk.whole()
    assert (failed["state"], failed["content"]) == ("failed", "They ")
    assert failed["problem"] == "the model failed; the server's log says why"
    assert "secret path" in caplog.text
    ok(ann.post(f"{talk.path}/questions", json={"question": "So?", "model": "frog", "parent": failed["id"]}), 409)
    assert talk.whole(talk.again())["content"] == "They croak."
    assert models["broken"].closed == 1


def test_what_the_model_cannot_do_is_explained(ann, ok):
    assert "900 tokens" in Talk(ann, ok, "full").whole()["problem"]


def test_turns_that_do_not_fit_are_counted(ann, ok):
    talk = Talk(ann, ok, "forgetful")
    assert talk.whole()["left_out"] == 2
    assert talk.everything()["messages"][1]["left_out"] == 2


def test_an_answer_that_was_cut_is_no_whole_one(home, ann, ok, models):
    models["long"] = Script("They cr", Cut())
    talk = Talk(ann, ok, "long", consent=True)
    cut = talk.whole()
    assert (cut["state"], cut["content"]) == ("cut", "They cr")
    talk.judge(cut, "up")
    (record,) = Verdicts(home.state.database).records()
    assert record.answer.ended is False
    talk.ask("Go on", cut["id"])


def test_what_was_written_when_the_server_died_has_failed(home, ann, ok):
    talk = Talk(ann, ok, "slow")
    anew = create_app(home.state.database, Services(), home.state.site)
    said = anew.state.conversations.message(home.people["ann"], talk.id, talk.answer["id"])
    assert (said.state, said.problem) == ("failed", "the server stopped while this was being written")


# ---------------------------------------------------------------- branches and verdicts


def test_regenerating_and_judging_makes_a_comparison(home, ann, ok, models):
    talk = Talk(ann, ok, consent=True)
    old = talk.whole()
    new = talk.whole(talk.again(model="forgetful"))
    assert old["parent"] == new["parent"] == talk.question["id"]
    assert len(set(models["frog"].seeds + models["forgetful"].seeds)) == 2
    talk.judge(new, "better", key="key number 1", against=old["id"])
    talk.judge(new, "better", key="key number 1", against=old["id"])
    assert [v["verdict"] for v in talk.everything()["verdicts"]] == ["better"]
    (record,) = Verdicts(home.state.database).records()
    assert [answer.text for answer in record.answers] == ["They croak.", "Ribbit."]
    assert record.ranks == (2, 1)
    talk.judge(new, "worse", 409, key="key number 1", against=old["id"])


def test_verdicts_that_mean_nothing_are_refused(ann, ok):
    talk = Talk(ann, ok)
    old = talk.whole()
    new = talk.whole(talk.again())
    talk.judge(new, "better", 422)
    talk.judge(new, "up", 422, against=old["id"])
    talk.judge(old, "better", 422, against=new["id"])
    talk.judge(new, "splendid", 422)
    talk.judge(new, "better", 422, against=old["id"], reason="because")
    talk.judge(new, "up", 422, key="short")
    talk.judge(talk.question, "up", 404)
    assert talk.everything()["verdicts"] == []


def test_a_thumb_has_a_reason_and_can_be_taken_back(ann, ok):
    talk = Talk(ann, ok)
    answer = talk.whole()
    talk.judge(answer, "down")
    talk.judge(answer, "down", reason="too short")
    assert [(v["verdict"], v["reason"]) for v in talk.everything()["verdicts"]] == [("down", "too short")]
    talk.judge(answer, "none")
    assert talk.everything()["verdicts"] == []


def test_an_edit_begins_a_branch(ann, ok, models):
    talk = Talk(ann, ok)
    talk.whole()
    edited, answer = talk.ask("How do toads sing?", None)
    talk.whole(answer)
    assert models["frog"].seen[-1] == ["How do toads sing?"]
    assert [m["content"] for m in talk.everything()["messages"] if m["parent"] is None] == [
        "How do frogs sing?",
        "How do toads sing?",
    ]
    assert edited["parent"] is None


# ---------------------------------------------------------------- consent, names, history, deletion


def test_consent_is_off_until_switched_on(home, ann, ok):
    talk = Talk(ann, ok)
    talk.judge(talk.whole(), "up")
    records = Verdicts(home.state.database).records
    assert list(records()) == []
    assert ok(ann.patch(talk.path, json={"consent": True})).json()["consent"] is True
    assert len(list(records())) == 1
    ok(ann.patch(talk.path, json={"consent": False}))
    assert list(records()) == []


def test_renaming_and_searching(ann, ok, home):
    talk = Talk(ann, ok)
    talk.whole()
    home.clock.time += 5
    other = Talk(ann, ok, question="猫在哪里？")
    other.whole()
    assert ok(ann.patch(talk.path, json={"title": " Singing "})).json()["title"] == "Singing"
    ok(ann.patch(talk.path, json={"title": ""}), 422)
    ok(ann.patch(talk.path, json={"title": "x" * 201}), 422)
    ok(ann.patch(talk.path, json={"user": "olga"}), 422)

    def found(**query):
        return [c["title"] for c in ok(ann.get("/api/conversations", params=query)).json()["conversations"]]

    assert found() == ["猫在哪里？", "Singing"]
    assert found(search="frogs") == ["Singing"]
    assert found(search="猫") == ["猫在哪里？"]
    assert found(skip=1) == ["Singing"]


def test_deleting_one_and_all(home, ann, ok, models):
    talk, other, third = Talk(ann, ok), Talk(ann, ok), Talk(ann, ok, "slow")
    talk.whole()
    ok(ann.delete(third.path))
    assert home.state.answering.find(third.answer["id"]) is None
    models["slow"].gate.release()
    ok(ann.get(third.path), 404)
    olgas = Talk(home.client("olga"), ok)
    assert ok(ann.delete("/api/conversations")).json() == {"deleted": 2}
    for gone in (talk, other):
        ok(ann.get(gone.path), 404)
        ok(ann.get(f"/chat/{gone.id}", headers={"accept": "text/html"}), 404)
    assert len(olgas.everything()["messages"]) == 2


def test_nobody_reaches_the_conversation_of_another(home, ann, ok):
    talk = Talk(ann, ok)
    answer = talk.whole()
    home.person("bob", "manager")
    for name in ("olga", "bob"):
        stranger = home.client(name)
        message = f"{talk.path}/messages/{answer['id']}"
        own = Talk(stranger, ok)
        own.whole()
        for method, path, body in (
            ("GET", f"/chat/{talk.id}", None),
            ("GET", talk.path, None),
            ("PATCH", talk.path, {"consent": True}),
            ("DELETE", talk.path, None),
            ("POST", f"{talk.path}/questions", {"question": "Hello?", "model": "frog"}),
            ("POST", f"{talk.path}/messages/{talk.question['id']}/answers", {"model": "frog"}),
            ("POST", f"{message}/stop", None),
            ("POST", f"{message}/verdicts", {"verdict": "up", "key": "key number 1"}),
            ("GET", f"{message}/stream", None),
            # Their own conversation does not lead to messages of another either.
            ("GET", f"{own.path}/messages/{answer['id']}/stream", None),
            ("POST", f"{own.path}/messages/{answer['id']}/stop", None),
            ("POST", f"{own.path}/messages/{talk.question['id']}/answers", {"model": "frog"}),
            ("POST", f"{own.path}/questions", {"question": "Hello?", "model": "frog", "parent": answer["id"]}),
            ("POST", f"{own.path}/messages/{answer['id']}/verdicts", {"verdict": "up", "key": "key number 1"}),
        ):
            ok(stranger.request(method, path, json=body), 404)
        listed = ok(stranger.get("/api/conversations", params={"search": "frogs"})).json()["conversations"]
        assert [each["id"] for each in listed] == [own.id]
    ok(home.visitor().get(talk.path), 401)
    assert len(talk.everything()["messages"]) == 2


def test_markup_stays_text(ann, ok):
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"
    talk = Talk(ann, ok, question=evil)
    talk.whole()
    page = ok(ann.get(f"/chat/{talk.id}", headers={"accept": "text/html"})).text
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert talk.everything()["messages"][0]["content"] == evil


# ---------------------------------------------------------------- the line


def test_labels_that_the_script_chooses_are_translated():
    turns = (Path(words.__file__).parents[1] / "static" / "chat-turns.js").read_text(encoding="utf-8")
    chosen = re.findall(r'\["(?:better|worse|same|up|down)", "([^"]+)"(?:, "([^"]+)")?\]', turns)
    assert len(chosen) == 5
    assert {text for pair in chosen for text in pair if text} <= set(words.ZH)


class Bench:
    """Answering on its own, with a model that waits at every answer."""

    def __init__(self, home, **more):
        self.store = Conversations(home.state.database)
        self.model = Script(None, "done")
        self.services = Services(models={"frog": self.model})
        self.answering = Answering(self.store, self.services, **more)

    def ask(self, user):
        self.answering.check(user.id, "frog")
        talk = self.store.start(user, "frog", "Hello?")
        question = self.store.messages(user, talk.id)[0]
        return self.answering.begin(user.id, self.store.answer(user, talk.id, question.id, "frog"))


def test_one_answer_at_a_time_and_everybody_in_turn(home):
    bench = Bench(home)
    ann, bob, eve = (home.person(name, "chat") for name in ("ann", "bob", "eve"))
    drafts = [bench.ask(who) for who in (ann, ann, bob, eve)]
    assert [draft.place for draft in drafts] == [0, 3, 1, 2]  # ann's second waits for everybody's first
    for done, places in ((0, [2, 0, 1]), (2, [1, 0, 0]), (3, [0, 0, 0])):
        bench.model.gate.release()
        until(lambda which=done: drafts[which].said is not None)
        until(lambda wanted=places: [drafts[n].place for n in (1, 2, 3)] == wanted)
    bench.model.gate.release()
    until(lambda: all(draft.said is not None for draft in drafts))
    assert [draft.said.content for draft in drafts] == ["done"] * 4
    assert bench.model.closed == 4


def test_the_line_is_bounded_for_all_and_for_each(home):
    bench = Bench(home, line=2)
    ann, bob, eve = (home.person(name, "chat") for name in ("ann", "bob", "eve"))
    first, second = bench.ask(ann), bench.ask(ann)
    with pytest.raises(Conflict, match="of yours"):
        bench.ask(ann)
    bench.ask(bob)
    with pytest.raises(Conflict, match="too many people"):
        bench.ask(eve)
    bench.answering.stop(second.message)
    assert second.said.state == "stopped"
    bench.ask(eve)
    bench.answering.close()
    with pytest.raises(Conflict, match="stopping"):
        bench.ask(bob)
    assert first.said.state == "stopped"
    bench.model.let_on()


def test_models_that_can_write_several_answers_at_once(home):
    bench = Bench(home)
    bench.model.at_once = 2
    people = [home.person(name, "chat") for name in ("ann", "bob", "eve")]
    drafts = [bench.ask(who) for who in people]
    assert [draft.place for draft in drafts] == [0, 0, 1]
    bench.answering.close()
    bench.model.let_on()


def test_a_stopping_server_ends_streams(home, ann, ok):
    talk = Talk(ann, ok, "slow")
    found = []
    reader = threading.Thread(target=lambda: found.append(talk.follow()))
    reader.start()
    until(lambda: home.state.answering.find(talk.answer["id"]).text)
    home.state.answering.close()
    reader.join(20)
    assert found[0][-1][1]["state"] == "stopped"


def test_a_run_is_put_up_for_chat(home, tmp_path):
    services = Services(runs=tmp_path / "runs", load=lambda path: Script(path))
    assert services.offer(tmp_path / "runs" / "ppo" / "village") == "ppo/village"
    assert services.offer(tmp_path / "elsewhere" / "mine") == "mine"
    assert sorted(services.models) == ["mine", "ppo/village"]
    with pytest.raises(BadInput, match="loads no models"):
        Services().offer(tmp_path)
