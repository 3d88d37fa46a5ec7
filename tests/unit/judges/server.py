"""A chat-completions endpoint on loopback that misbehaves as told, and remembers what it would charge for."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[str], str]
DRIP = 0.06  # seconds between two bytes; no judge of the tests waits long enough for all of them


class Endpoint:
    """Answers questions; one fault of the list, if any is left, comes first.

    Args:
        answer: The reply to a question.
        faults: late (after the judge has gone), drip (a byte now and then), 429, 429 date, 500, 503, broken, deep
            (brackets), empty, half, cut (a reply that was not at its end), drop.
        logprobs: Whether log-probabilities of the first token are given; a request for them is refused if not.
        charges_once: Whether it keeps an answer that did not arrive and does not charge for it again.
    """

    def __init__(
        self, answer: Answer, faults: Sequence[str] = (), *, logprobs: bool = False, charges_once: bool = True
    ) -> None:
        self.answer, self.faults, self.logprobs, self.charges_once = answer, list(faults), logprobs, charges_once
        self.charged: Counter[str] = Counter()
        self.delivered: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.at: list[float] = []
        self.url = ""
        self.lock = threading.Lock()

    def next_fault(self) -> str:
        with self.lock:
            return self.faults.pop(0) if self.faults else ""

    def reply(self, body: dict[str, Any], finish: str = "stop") -> bytes:
        """The whole answer, charged for."""
        question = body["messages"][0]["content"]
        said = self.answer(question)
        key = json.dumps(body["messages"]) + str(body.get("seed"))
        with self.lock:
            if not (self.charges_once and self.charged[key]):
                self.charged[key] += 1
        choice: dict[str, Any] = {
            "index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": finish,
        }  # fmt: skip
        if self.logprobs:
            top = [{"token": said, "logprob": -0.1}, {"token": "B" if said == "A" else "A", "logprob": -2.5}]
            choice["logprobs"] = {"content": [{"token": said, "logprob": -0.1, "top_logprobs": top}]}
        usage = {"prompt_tokens": len(question) // 4, "completion_tokens": 1}
        return json.dumps({"choices": [choice], "usage": usage}).encode()


def drip(handler: Any, whole: bytes) -> None:
    """Send an answer that is never silent for long, and never done in time."""
    handler.send(200, whole[:1], {"Content-Length": str(len(whole))})
    handler.close_connection = True
    for at in range(1, len(whole)):
        time.sleep(DRIP)
        try:
            handler.wfile.write(whole[at : at + 1])
        except OSError:
            return


@contextlib.contextmanager
def serving(endpoint: Endpoint) -> Iterator[Endpoint]:
    """The endpoint at `endpoint.url`, until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            """Nothing on stderr."""

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with endpoint.lock:
                endpoint.bodies.append(body)
                endpoint.headers.append(dict(self.headers))
                endpoint.at.append(time.monotonic())
            fault = endpoint.next_fault()
            if not endpoint.logprobs and "logprobs" in body:
                with endpoint.lock:
                    endpoint.faults[:0] = [fault] if fault else []
                return self.send(400, json.dumps({"error": {"message": "logprobs is not supported"}}).encode())
            return self.fail(fault, body) if fault else self.deliver(body)

        def deliver(self, body: dict[str, Any]) -> None:
            whole = endpoint.reply(body)
            with endpoint.lock:
                endpoint.delivered[json.dumps(body["messages"]) + str(body.get("seed"))] += 1
            self.send(200, whole)

        def fail(self, fault: str, body: dict[str, Any]) -> None:
            if fault == "late":
                whole = endpoint.reply(body)
                self.connection.settimeout(60)
                with contextlib.suppress(OSError):
                    self.connection.recv(1)  # comes back when the judge has hung up
                self.send(200, whole)
            elif fault == "drip":
                drip(self, endpoint.reply(body))
            elif fault == "cut":
                self.send(200, endpoint.reply(body, "length"))
            elif fault == "deep":
                self.send(200, b'{"choices": ' + b"[" * 100_000)
            elif fault.startswith("429"):
                wait = "Wed, 21 Oct 2015 07:28:00 GMT" if fault == "429 date" else fault.partition(" ")[2] or "0.05"
                self.send(429, b'{"error": {"message": "slow down"}}', {"Retry-After": wait})
            elif fault in {"500", "503"}:
                self.send(int(fault), b"<html>oh</html>")
            elif fault in {"401", "404"}:
                told = f"wrong key {self.headers.get('Authorization', '')[7:]}"
                self.send(int(fault), json.dumps({"error": {"message": told}}).encode())
            elif fault in {"broken", "empty"}:
                self.send(200, b'{"choices": [{"mess' if fault == "broken" else b'{"choices": []}')
            else:
                whole = endpoint.reply(body) if fault == "half" else b""
                self.send(200, whole[: len(whole) // 2], {"Content-Length": str(len(whole) + 10)})
                self.close_connection = True

        def send(self, status: int, content: bytes, more: dict[str, str] | None = None) -> None:
            try:
                self.send_response(status)
                headers = {"Content-Type": "application/json", "Content-Length": str(len(content))} | (more or {})
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)
            except OSError:
                self.close_connection = True  # the judge waits no longer

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        endpoint.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        try:
            yield endpoint
        finally:
            server.shutdown()
            thread.join()
