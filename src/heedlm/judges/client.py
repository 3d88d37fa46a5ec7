"""The way to a chat-completions endpoint: bounded retries, replies kept on disk, requests and money counted."""

from __future__ import annotations

import email.utils
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from heedlm.errors import BadInput, HeedError
from heedlm.records import content_id
from heedlm.runs.files import read_lines

LONGEST_WAIT = 300.0  # seconds; an endpoint that asks for more is left alone until the job is resumed
_FIRST_WAIT, _MOST_BACKOFF = 0.5, 30.0
_FAILURES = 5  # questions in a row without any answer after which the endpoint is taken to be down
_OPTIONAL = ("logprobs", "top_logprobs", "seed", "temperature")  # what some endpoints refuse and all can do without
_LARGEST = 8 * 2**20  # bytes of a reply


class Completion(NamedTuple):
    """What came back: the text, and for its first tokens the likeliest ones with their log-probabilities (nats).

    `cut` says that the text was not at its end when it had as many tokens as it may.
    """

    text: str
    top: tuple[tuple[tuple[str, float], ...], ...] = ()
    cut: bool = False


class Received(NamedTuple):
    """A whole response: status, headers, and what the endpoint sent."""

    status: int
    headers: httpx.Headers
    content: bytes


class Spent(NamedTuple):
    """Tokens in and out, and their price where one is known."""

    tokens_in: int
    tokens_out: int
    cost: float | None


@dataclass
class Replies:
    """Replies on disk under the hash of what was asked, one JSON object a line; nothing is ever taken out."""

    path: Path
    known: dict[str, Completion] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        for row in read_lines(self.path):
            if isinstance(row.get("key"), str) and isinstance(row.get("text"), str):
                top = tuple(tuple((str(t), float(p)) for t, p in place) for place in row.get("top", ()))
                self.known[row["key"]] = Completion(row["text"], top, row.get("cut") is True)

    def keep(self, key: str, reply: Completion) -> None:
        """Put a reply on the disk before anything is done with it."""
        row = {"key": key, "text": reply.text, "top": reply.top} | ({"cut": True} if reply.cut else {})
        line = json.dumps(row, ensure_ascii=False) + "\n"
        with self._lock:
            self.known[key] = reply
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab+") as file:
                size = file.seek(0, os.SEEK_END)
                if size and (file.seek(size - 1), file.read(1))[1] != b"\n":
                    line = "\n" + line  # a crash tore the last line; what comes next must not hang on to it
                file.write(line.encode("utf-8", "surrogatepass"))
                file.flush()
                os.fsync(file.fileno())


class Client:
    """Asks one model of one endpoint.

    Args:
        url: Base of the API, such as http://localhost:8000/v1.
        model: The model's name there.
        key: Name of the environment variable that holds the API key, if one is needed. The key is sent, never kept.
        timeout: Seconds for one attempt.
        retries: Further attempts after a failed one.
        parallel: Questions under way at once.
        replies: File that keeps replies.
        prices: Price of a million tokens in and out, if known.
        max_cost: What may be spent by this client; once it is reached no further question is sent.
        sleep: How to wait.

    Attributes:
        counts: Of requests sent, replies used again, retries, timeouts, refusals for haste (429), server errors,
            dropped connections, broken replies, questions left without an answer, and tokens in and out.

    Raises:
        BadInput: The environment variable is not set.
    """

    def __init__(
        self,
        url: str,
        model: str,
        key: str | None = None,
        *,
        timeout: float = 60.0,
        retries: int = 5,
        parallel: int = 4,
        replies: Path,
        prices: tuple[float, float] | None = None,
        max_cost: float | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._key = None if key is None else os.environ.get(key)
        if key is not None and not self._key:
            raise BadInput(f"key: the environment variable {key} is not set; export it with the API key")
        self.url, self.model, self.retries, self.parallel = url.rstrip("/"), model, retries, parallel
        self.prices, self.max_cost, self._sleep = prices, max_cost, sleep
        self.replies = Replies(replies)
        self.counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._refused: set[str] = set()
        self._failed_in_row = 0
        self._timeout = timeout

    def cost(self, tokens_in: float, tokens_out: float) -> float | None:
        """What so many tokens cost, where the prices are known."""
        if self.prices is None:
            return None
        return (tokens_in * self.prices[0] + tokens_out * self.prices[1]) / 1e6

    def spent(self) -> Spent:
        """What was used up so far."""
        used = self.counts["tokens_in"], self.counts["tokens_out"]
        return Spent(*used, self.cost(*used))

    def fresh(self, bodies: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """The requests that no kept reply answers, each once."""
        keyed = {self._id(body): body for body in bodies}
        return [body for key, body in keyed.items() if key not in self.replies.known]

    def complete(self, bodies: Sequence[Mapping[str, Any]]) -> list[Completion | None]:
        """The replies to requests (bodies without the model), in order; None where every attempt failed.

        Equal requests are sent once, and none that was ever answered is sent again.

        Raises:
            BadInput: The endpoint refuses the request or the key, or `max_cost` is reached.
            HeedError: The endpoint is down, or asks for a longer wait than is sensible.
        """
        fresh = self.fresh(bodies)
        with self._lock:
            self.counts["reused"] += len(bodies) - len(fresh)
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        near = httpx.URL(self.url).host in {"localhost", "127.0.0.1", "::1"}  # no proxy of the environment between
        http = httpx.Client(timeout=self._timeout, headers=headers, trust_env=not near)
        with http, ThreadPoolExecutor(max_workers=max(1, min(self.parallel, len(fresh)))) as pool:
            waiting = [pool.submit(self._ask, http, body) for body in fresh]
            try:
                for each in waiting:
                    each.result()
            except BaseException:
                for each in waiting:
                    each.cancel()
                raise
        return [self.replies.known.get(self._id(body)) for body in bodies]

    def _id(self, body: Mapping[str, Any]) -> str:
        return content_id(self.url, self.model, dict(body))

    def _ask(self, http: httpx.Client, body: Mapping[str, Any]) -> None:
        """Send one request until it is answered or its attempts are used up."""
        last = ""
        for attempt in range(self.retries + 1):
            cost = self.spent().cost
            if self.max_cost is not None and cost is not None and cost >= self.max_cost:
                raise BadInput(
                    f"max_cost: {cost:.2f} of {self.max_cost:.2f} is spent; what was answered is kept in "
                    f"{self.replies.path}, heed resume goes on from there and may spend as much again"
                )
            last, wait = self._attempt(http, body)
            if not last:
                with self._lock:
                    self._failed_in_row = 0
                return
            self._count(last)
            if attempt < self.retries:
                self._count("retries")
                self._sleep(min(_FIRST_WAIT * 2**attempt, _MOST_BACKOFF) if wait is None else wait)
        self._count("unanswered")
        with self._lock:
            self._failed_in_row += 1
            down = self._failed_in_row >= _FAILURES
        if down:
            raise HeedError(
                f"{self.url}: no answer to {_FAILURES} questions in a row (last: {last.replace('_', ' ')}); "
                f"what was answered is kept in {self.replies.path}, go on later with heed resume"
            )

    def _attempt(self, http: httpx.Client, body: Mapping[str, Any]) -> tuple[str, float | None]:
        """Send a request once: what went wrong ("" for nothing), and how long the endpoint asks to wait."""
        sent = {name: value for name, value in body.items() if name not in self._refused}
        self._count("requests")
        try:
            # A server that knows this header does not charge twice for a request that it answered too late.
            response = self._post(http, {"model": self.model, **sent}, {"Idempotency-Key": self._id(body)})
        except httpx.TimeoutException:
            return "timeouts", None
        except httpx.HTTPError:
            return "dropped", None
        except httpx.InvalidURL as error:
            raise BadInput(f"url: {error}") from None
        status = response.status
        if status == 200:
            raw = _json(response.content)
            reply = _read(raw)
            if reply is None:
                return "broken", None
            self._pay(sent, raw, reply)
            self.replies.keep(self._id(body), reply)
            return "", None
        if status == 429 or status >= 500 or status == 408:
            kind = "too_many" if status == 429 else "timeouts" if status == 408 else "server_errors"
            return kind, self._wished_wait(response)
        told = self._told(response)
        complained = {name for name in _OPTIONAL if name in sent and name in told}
        if status in {400, 422} and complained:
            with self._lock:
                self._refused |= complained | ({"top_logprobs"} if "logprobs" in complained else set())
            return self._attempt(http, body)
        raise BadInput(f"{self.url}: refuses the request with status {status}: {told[:300]}")

    def _post(self, http: httpx.Client, body: Mapping[str, Any], headers: Mapping[str, str]) -> Received:
        """The response, which must be there in whole within the attempt's seconds, however slowly it drips.

        Raises:
            TimeoutException: It is not.
            HTTPError: There is none, or only a part of one.
        """
        until, content = time.monotonic() + self._timeout, bytearray()
        with http.stream("POST", f"{self.url}/chat/completions", json=body, headers=headers) as response:
            for part in response.iter_bytes():
                content += part
                if time.monotonic() > until:
                    raise httpx.ReadTimeout("the reply was not whole in time", request=response.request)
                if len(content) > _LARGEST:
                    break  # what it holds so far is no JSON, and more is not read
        return Received(response.status_code, response.headers, bytes(content))

    def _wished_wait(self, response: Received) -> float | None:
        """Seconds of the Retry-After header, which holds a number or a date."""
        wished = response.headers.get("retry-after", "").strip()
        if not wished:
            return None
        try:
            wait = float(wished)
        except ValueError:
            try:
                wait = email.utils.parsedate_to_datetime(wished).timestamp() - time.time()
            except ValueError:
                return None
        if wait > LONGEST_WAIT:
            raise HeedError(
                f"{self.url}: asks to wait {wait:.0f} seconds; what was answered is kept in {self.replies.path}, "
                "go on later with heed resume"
            )
        return max(0.0, wait) if wait == wait else None

    def _told(self, response: Received) -> str:
        """The endpoint's own words in one line, without the key."""
        raw = _json(response.content)
        try:
            text = str(raw["error"]["message"] if isinstance(raw["error"], dict) else raw["error"])
        except (KeyError, TypeError):
            text = response.content.decode("utf-8", "replace")
        line = " ".join(text.split()) or "no message"
        return line.replace(self._key, "[key]") if self._key else line

    def _pay(self, sent: Mapping[str, Any], raw: Any, reply: Completion) -> None:
        """Count the tokens that the endpoint says it used, or an estimate."""
        usage = raw.get("usage") if isinstance(raw.get("usage"), dict) else {}
        guessed = (tokens_of(request_text(sent)), tokens_of(reply.text))
        for name, key, guess in zip(
            ("tokens_in", "tokens_out"), ("prompt_tokens", "completion_tokens"), guessed, strict=True
        ):
            value = usage.get(key)
            self._count(name, value if isinstance(value, int) and value >= 0 else guess)

    def _count(self, what: str, amount: int = 1) -> None:
        with self._lock:
            self.counts[what] += amount


def request_text(body: Mapping[str, Any]) -> str:
    """All that a request says."""
    return "\n".join(str(message["content"]) for message in body["messages"])


def tokens_of(text: str) -> int:
    """A rough count of tokens: four ASCII characters make one, every other character is one."""
    plain = sum(char.isascii() for char in text)
    return 1 + plain // 4 + len(text) - plain


def _json(content: bytes) -> Any:
    """What the bytes say, or None if they are no JSON; nesting without end is none either."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _read(raw: Any) -> Completion | None:
    """The reply in a response with status 200, or None if it is not what it should be."""
    try:
        choice = raw["choices"][0]
        text = choice["message"]["content"]
    except (KeyError, IndexError, TypeError):
        return None
    if not isinstance(text, str):
        return None
    try:
        places = (choice.get("logprobs") or {}).get("content") or []
        top = tuple(
            tuple((str(each["token"]), float(each["logprob"])) for each in place["top_logprobs"])
            for place in places[:2]
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        top = ()
    return Completion(text, top, choice.get("finish_reason") == "length")
