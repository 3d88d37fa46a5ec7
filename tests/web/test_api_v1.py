"""The API for programs: tokens, answers whole and streamed, refusals in the shape that clients read."""

import json

import pytest

from heedlm.errors import BadInput
from heedlm.feedback.tokens import Tokens
from heedlm.web.services import Cut, LeftOut

ASKED = [{"role": "user", "content": "How do frogs sing?"}]


class Frog:
    """Says how it was asked; None of its pieces is sent twice."""

    def __init__(self, pieces=("They ", "croak."), **sampling):
        self.pieces, self.sampling, self.seen = pieces, sampling, []

    def adjusted(self, **sampling):
        return Frog([f"{name}={value} " for name, value in sampling.items()])

    def reply(self, messages, seed):
        self.seen.append(([(m.role, m.content) for m in messages], seed))
        for piece in self.pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece


class Plain:
    def reply(self, messages, seed):
        yield "plain"


@pytest.fixture
def program(home):
    """A program of Ann's: no cookies, only a token."""
    ann = home.person("ann", "chat")
    home.state.services.models.update(frog=Frog(), plain=Plain())
    visitor = home.visitor()
    visitor.headers["authorization"] = f"Bearer {Tokens(home.state.database).make(ann, 'a program')}"
    yield visitor
    home.state.answering.close()


def ask(client, status=200, **more):
    answer = client.post("/v1/chat/completions", json={"model": "frog", "messages": ASKED, **more})
    assert answer.status_code == status, answer.text
    return answer


def test_an_answer(home, program):
    said = ask(program, seed=7).json()
    assert said["object"] == "chat.completion"
    choice = {"role": "assistant", "content": "They croak."}
    assert said["choices"] == [{"index": 0, "message": choice, "finish_reason": "stop"}]
    assert home.state.services.models["frog"].seen == [([("user", "How do frogs sing?")], 7)]
    assert home.state.conversations.mine(home.people["ann"]) == []


def test_an_answer_as_it_is_written(program):
    told = ask(program, stream=True)
    assert told.headers["content-type"].startswith("text/event-stream")
    lines = [line.removeprefix("data: ") for line in told.text.strip().split("\n\n")]
    assert lines[-1] == "[DONE]"
    chunks = [json.loads(line)["choices"][0] for line in lines[:-1]]
    assert "".join(chunk["delta"].get("content", "") for chunk in chunks) == "They croak."
    assert [chunk["finish_reason"] for chunk in chunks][-1] == "stop"
    assert {json.loads(line)["object"] for line in lines[:-1]} == {"chat.completion.chunk"}


def test_sampling_is_chosen_where_it_can_be(program):
    said = ask(program, temperature=0.5, top_p=0.9, max_tokens=5).json()["choices"][0]["message"]["content"]
    assert said == "temperature=0.5 top_p=0.9 max_new_tokens=5 "
    assert "cannot be chosen" in ask(program, 400, model="plain", temperature=1).json()["error"]["message"]
    assert ask(program, model="plain").json()["choices"][0]["message"]["content"] == "plain"


def test_an_answer_that_was_cut(home, program):
    home.state.services.models["frog"] = Frog(["They cr", Cut()])
    assert ask(program).json()["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("more", "status", "kind"),
    [
        ({"messages": [{"role": "wizard", "content": "Hello"}]}, 400, "invalid_request_error"),
        ({"messages": []}, 400, "invalid_request_error"),
        ({"messages": [{"role": "assistant", "content": "Hello"}]}, 400, "invalid_request_error"),
        ({"messages": [*ASKED, *ASKED]}, 400, "invalid_request_error"),
        ({"messages": "Hello"}, 400, "invalid_request_error"),
        ({"max_tokens": -1}, 400, "invalid_request_error"),
        ({"max_tokens": 0}, 400, "invalid_request_error"),
        ({"temperature": -0.1}, 400, "invalid_request_error"),
        ({"top_p": 2}, 400, "invalid_request_error"),
        ({"n": 2}, 400, "invalid_request_error"),
        ({"tools": []}, 400, "invalid_request_error"),
        ({"model": "nobody"}, 404, "not_found_error"),
    ],
)
def test_what_cannot_be_asked(program, more, status, kind):
    error = ask(program, status, **more).json()["error"]
    assert error["type"] == kind
    assert error["message"]
    assert set(error) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "pieces", [[BadInput("a prompt has 10000 tokens, but 512 fit: shorten its last message")], [LeftOut(2), "Hm."]]
)
def test_a_prompt_that_is_too_long(home, program, pieces, stream):
    home.state.services.models["frog"] = Frog(pieces)
    assert ask(program, 400, stream=stream).json()["error"]["code"] == "context_length_exceeded"


def test_a_model_that_fails(home, program, caplog):
    home.state.services.models["frog"] = Frog([RuntimeError("secret path")])
    assert "secret path" not in ask(program, 502).text
    home.state.services.models["frog"] = Frog(["They ", RuntimeError("secret path")])
    asked = {"model": "frog", "messages": ASKED, "stream": True}
    told = program.post("/v1/chat/completions", json=asked)
    assert told.status_code in (200, 502)  # by then it may have begun to answer, or not
    assert "server_error" in told.text
    assert "secret path" not in told.text
    assert "secret path" in caplog.text


def test_who_may_ask(home, program, ok):
    assert [each["id"] for each in ok(program.get("/v1/models")).json()["data"]] == ["frog", "plain"]
    for header in ({}, {"authorization": "Bearer heed-made-up"}, {"authorization": "Basic b2xnYTp4"}):
        visitor = home.visitor()
        visitor.headers.update(header)
        assert ok(visitor.get("/v1/models"), 401).json()["error"]["type"] == "authentication_error"
        ask(visitor, 401)
    # A browser's cookie opens nothing here, and a token nothing elsewhere.
    ask(home.client("olga"), 401)
    ok(program.get("/api/conversations"), 401)
    home.state.accounts.disable(home.people["olga"], home.people["ann"].id)
    ask(program, 401)


def test_tokens_are_made_listed_and_revoked(home, ok):
    home.person("ann", "chat")
    ann, olga = home.client("ann"), home.client("olga")
    home.state.services.models["frog"] = Frog()
    made = ok(ann.post("/api/tokens", json={"name": "my script"}), 201).json()
    token = made["token"]
    visitor = home.visitor()
    visitor.headers["authorization"] = f"Bearer {token}"
    ask(visitor)
    page = ok(ann.get("/tokens")).text
    assert "my script" in page
    assert token not in page
    (mine,) = Tokens(home.state.database).mine(home.people["ann"])
    assert mine.used is not None
    assert (made["id"], made["name"], made["used"]) == (mine.id, "my script", None)
    ok(olga.delete(f"/api/tokens/{mine.id}"), 404)
    ok(ann.delete(f"/api/tokens/{mine.id}"))
    ask(visitor, 401)
    ok(ann.post("/api/tokens", json={"name": " "}), 422)
    for number in range(20):
        ok(ann.post("/api/tokens", json={"name": f"script {number}"}), 201)
    ok(ann.post("/api/tokens", json={"name": "one more"}), 422)
