"""Serving: settings, the models behind chat, a whole process with a tiny model, its end."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
import uvicorn
from tests.unit.train import tiny

from heedlm import config
from heedlm.errors import BadInput, HeedError
from heedlm.feedback.database import Database
from heedlm.models import Chat, load_with_tokenizer
from heedlm.records import Message, Prompt
from heedlm.rollout import Native, Sampling, Transformers
from heedlm.rollout.answering import answer
from heedlm.rollout.streaming import stream
from heedlm.stages.serve import Config
from heedlm.stages.serve.models import Echo, Local, Manner, load, load_all, shown_name
from heedlm.stages.serve.server import greeting, listen, services, site
from heedlm.web.services import Cut, LeftOut

ASKED = [Message(role="user", content="Where is 小猫?")]
PASSWORD = "correct horse battery"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.folder(tmp_path_factory.mktemp("model") / "tiny-1", seed=1, spread=0.3)


def test_connections_send_what_they_have_at_once():
    with listen(uvicorn.Config(None, "127.0.0.1", 0, log_level="warning")) as listener:
        listener.listen()
        with socket.create_connection(listener.getsockname()), listener.accept()[0] as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def settings(*words):
    return config.load(Config, words, stage="serve")


# ---------------------------------------------------------------- models


@pytest.mark.parametrize("engine", [Native(), Transformers()], ids=["native", "transformers"])
def test_a_stream_says_what_the_whole_answer_says(model, engine):
    loaded, tokenizer = load_with_tokenizer(model)
    chat, bound = Chat(tokenizer), engine.bind(loaded, tokenizer)
    for seed in range(4):
        sampling = Sampling(temperature=1.0, max_new_tokens=24)
        whole, _ = answer(bound, chat, [Prompt(messages=tuple(ASKED))], sampling, seed)
        pieces = list(stream(bound, chat, ASKED, sampling, seed))
        assert "".join(pieces) == whole[0]
        assert len(pieces) > 3


def test_a_local_model_leaves_out_the_oldest_turns(model):
    loaded, tokenizer = load_with_tokenizer(model)
    local = Local(loaded, tokenizer, Manner(max_new_tokens=8))
    long = [Message(role=role, content="red") for role in ("user", "assistant") * 9]
    said = list(local.reply([*long, *ASKED], 3))
    assert isinstance(said[0], LeftOut)
    assert 0 < said[0].count < len(long)
    assert said[0].count % 2 == 0
    assert all(isinstance(piece, str | Cut) for piece in said[1:])
    assert isinstance(next(iter(local.reply(ASKED, 3))), str)
    with pytest.raises(BadInput, match="shorten"):
        list(local.reply([Message(role="user", content="red house " * 200)], 0))


def test_an_answer_that_did_not_end_is_called_cut(model):
    loaded, tokenizer = load_with_tokenizer(model)
    local = Local(loaded, tokenizer, Manner(max_new_tokens=12, temperature=1.0))
    cuts = 0
    for seed in range(12):
        prompt = [Prompt(messages=tuple(ASKED))]
        _, whole = answer(local.engine, local.chat, prompt, local.sampling, seed)
        cut = list(local.reply(ASKED, seed))[-1] == Cut()
        assert cut == (not bool(whole.ended[0]))
        cuts += cut
    assert cuts > 0


def test_echo_repeats():
    said = ["".join(Echo(pause=0).reply([Message(role="user", content=" two  words\n")], seed)) for seed in range(3)]
    assert said[0] == "You said:  two  words\n"
    assert len(set(said)) == 3


def test_names_of_models(model, tmp_path, monkeypatch):
    monkeypatch.setenv("SOME_KEY", "sk-secret")
    assert shown_name("https://api.example.com/v1#frog-large@SOME_KEY") == "frog-large"
    assert shown_name("org/frog") == "frog"
    found = load_all(
        ["echo", str(model), "http://localhost:1/v1#frog", "http://localhost:1/v1#toad@SOME_KEY"], Manner()
    )
    assert list(found) == ["echo", "tiny-1", "frog", "toad"]
    for bad, why in (
        ("https://api.example.com/v1", "is written https://HOST"),
        ("https://ann:sk-secret@api.example.com/v1#frog", "is written https://HOST"),
        ("https://api.example.com/v1#frog@NOT_SET", "NOT_SET is not set"),
        (str(tmp_path / "nothing"), "no such model"),
    ):
        with pytest.raises(BadInput, match=why) as told:
            load(bad, Manner())
        assert "sk-secret" not in str(told.value)
    with pytest.raises(BadInput, match="named twice"):
        load_all(["echo", "echo"], Manner())


# ---------------------------------------------------------------- endpoints


@contextmanager
def endpoint(lines, status=200):
    """An endpoint that answers with these lines; yields its address and what it was sent."""
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen.append((self.path, self.headers.get("Authorization"), body))
            self.send_response(status)
            self.end_headers()
            for line in lines:
                time.sleep(line) if isinstance(line, float) else self.wfile.write(f"{line}\n".encode())
                self.wfile.flush()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def event(text, end=None):
    return "data: " + json.dumps({"choices": [{"delta": {"content": text}, "finish_reason": end}]}) + "\n"


def test_an_endpoint_streams(monkeypatch):
    monkeypatch.setenv("SOME_KEY", "sk-secret")
    lines = [": hello", "", event("They "), event("croak."), event(None, "stop"), "data: [DONE]"]
    with endpoint(lines) as (url, seen):
        model = load(f"{url}#frog@SOME_KEY", Manner(temperature=0.5, max_new_tokens=9))
        assert "".join(model.reply(ASKED, 1)) == "They croak."
        path, key, body = seen[0]
    with endpoint([event("They "), event("cr", "length")]) as (url, _):
        assert list(load(f"{url}#frog", Manner()).reply(ASKED, 1)) == ["They ", "", "cr", Cut()]
    assert (path, key) == ("/v1/chat/completions", "Bearer sk-secret")
    assert body == {
        "model": "frog",
        "messages": [{"role": "user", "content": "Where is 小猫?"}],
        "stream": True,
        "temperature": 0.5,
        "top_p": 1.0,
        "max_tokens": 9,
    }


@pytest.mark.parametrize(
    ("lines", "status", "why"),
    [
        ([json.dumps({"error": {"message": "key sk-secret is bad"}})], 401, r"status 401: key \[key\] is bad"),
        ([event("They ")], 200, "broke off"),
        (["data: {torn"], 200, "no answer"),
        ([json.dumps("no")], 500, "status 500"),
        ([event("They "), 2.0], 200, "does not answer"),
    ],
)
def test_an_endpoint_that_fails_says_so_without_its_key(monkeypatch, lines, status, why):
    monkeypatch.setenv("SOME_KEY", "sk-secret")
    with endpoint(lines, status) as (url, _):
        model = load(f"{url}#frog@SOME_KEY", Manner(timeout=0.5 if why == "does not answer" else 30.0))
        with pytest.raises(HeedError, match=why) as told:
            list(model.reply(ASKED, 1))
        assert "sk-secret" not in str(told.value)


def test_an_endpoint_that_is_not_there():
    with pytest.raises(HeedError, match="broke off"):
        list(load("http://127.0.0.1:9/v1#frog", Manner()).reply(ASKED, 1))


# ---------------------------------------------------------------- settings


def test_settings_become_a_site_and_services(tmp_path):
    found = settings("chat=echo", "names=heed.example.org", "https=true", "models.temperature=0", f"runs={tmp_path}")
    assert "heed.example.org" in site(found).hosts
    assert "testserver" not in site(found).hosts
    assert site(found).https
    assert list(services(found).models) == ["echo"]
    with pytest.raises(BadInput, match="temperature"):
        settings("models.temperature=-1")


def test_the_greeting_says_what_is_missing(tmp_path):
    database = Database(str(tmp_path / "feedback.db"))
    told = greeting(settings("host=0.0.0.0"), database, [], 8321)
    for part in ("http://localhost:8321", "heed owner NAME", "chat=RUN", "names=", "https=true"):
        assert part in told
    assert "https=true" not in greeting(settings(), database, ["echo"], 8321)
    database.close()


def test_torch_is_not_needed_without_local_models():
    code = "import sys; from heedlm.stages.serve import server; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# ---------------------------------------------------------------- a whole process


def heed(folder, *words, **more):
    command = [sys.executable, "-c", "import sys; from heedlm.cli import main; sys.exit(main())", *words]
    return subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **more)


@contextmanager
def process(folder, *words):
    """`heed serve` with an owner, on any free port; yields the process, its address and its first lines."""
    made = heed(folder, "owner", "olga", env={**os.environ, "HEED_PASSWORD": PASSWORD})
    assert made.communicate(timeout=60)[0].startswith("olga is an owner")
    server = heed(folder, "serve", "port=0", *words)
    try:
        told = []
        while server.poll() is None and not (told and told[-1].startswith("serving on ")):
            told.append(server.stderr.readline())
        assert told[-1].startswith("serving on "), told
        yield server, told[-1].split()[2]
    finally:
        if server.poll() is None:
            server.kill()
        server.communicate(timeout=20)


@contextmanager
def logged_in(address):
    with httpx.Client(base_url=address, timeout=60, trust_env=False) as client:
        assert client.post("/login", data={"name": "olga", "password": PASSWORD}).status_code == 303
        page = client.get("/chat").text
        client.headers["x-csrf-token"] = page.split('name="csrf" content="')[1].split('"')[0]
        yield client


def ask(client, model, question):
    opened = client.post("/api/conversations", json={"model": model, "question": question})
    assert opened.status_code == 201, opened.text
    talk = opened.json()
    return f"/api/conversations/{talk['conversation']['id']}/messages/{talk['messages'][1]['id']}"


def followed(client, message):
    """The events of an answer as they come."""
    with client.stream("GET", f"{message}/stream") as told:
        assert told.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in told.iter_lines() if line.startswith(("event: ", "data: "))]
    names, found = lines[::2], lines[1::2]
    return [(name[7:], json.loads(data[6:])) for name, data in zip(names, found, strict=True)]


def test_a_tiny_model_streams_and_a_signal_ends_all_well(model, tmp_path):
    with process(tmp_path, f"chat={json.dumps([str(model), 'echo'])}", "models.max_new_tokens=20") as (server, address):
        with logged_in(address) as client:
            said = followed(client, ask(client, "tiny-1", "Where is the cat?"))[-1]
            assert said[0] == "done"
            assert said[1]["state"] in ("whole", "cut")
            assert said[1]["content"]
            events = [event for event, _ in followed(client, ask(client, "echo", "word " * 20))]
            assert events.count("piece") > 1
            assert events[-1] == "done"
            ask(client, "echo", "word " * 4000)
        began = time.monotonic()
        server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=30) == 0
        assert time.monotonic() - began < 20
        assert "Traceback" not in server.stderr.read()
    database = Database(str(tmp_path / "feedback.db"))
    with database.read() as connection:
        states = {row[0] for row in connection.exec_driver_sql("SELECT state FROM messages WHERE model = 'echo'")}
    database.close()
    assert states == {"whole", "stopped"}


def test_a_taken_port_is_one_line(tmp_path):
    with process(tmp_path) as (_, address):
        second = heed(tmp_path, "serve", f"port={address.rsplit(':', 1)[1]}", "database=other.db")
        _, told = second.communicate(timeout=60)
        assert second.returncode == 2
        assert "cannot listen on 127.0.0.1: taken" in told
        assert "Traceback" not in told
        assert httpx.get(f"{address}/healthz", trust_env=False).json() == {"status": "ok"}
        assert not Path(tmp_path / "runs").exists()
