"""A chat model behind an OpenAI-compatible endpoint, streamed."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx

from heedlm.errors import BadInput, HeedError
from heedlm.records import Message
from heedlm.web.services import Cut, Piece

if TYPE_CHECKING:
    from heedlm.stages.serve.models import Manner


class Endpoint:
    """Streams answers of `url`/chat/completions.

    Args:
        url: Base of the API, such as https://api.example.com/v1.
        model: The model's name there.
        key: Name of the environment variable that holds the API key, if one is needed. The key is sent, never shown.
        manner: Sampling and patience.

    Raises:
        BadInput: The environment variable is not set, or the address holds a password.
    """

    at_once = 4

    def __init__(self, url: str, model: str, key: str | None, manner: Manner) -> None:
        parts = urlsplit(url)
        if parts.username or parts.password or not parts.hostname:
            raise BadInput("chat: an endpoint's address holds no password; name a variable with @VARIABLE")
        self._key = os.environ.get(key) if key else None
        if key and not self._key:
            raise BadInput(f"chat: the environment variable {key} is not set; export it with the API key")
        self.url, self.model, self.manner = url.rstrip("/"), model, manner
        headers = {"authorization": f"Bearer {self._key}"} if self._key else {}
        near = parts.hostname in {"localhost", "127.0.0.1", "::1"}
        timeout = httpx.Timeout(manner.timeout, connect=min(10.0, manner.timeout))
        self._http = httpx.Client(timeout=timeout, headers=headers, trust_env=not near)

    def adjusted(self, **sampling: float) -> Endpoint:
        """The same endpoint with another temperature, top_p or max_new_tokens."""
        other = copy.copy(self)
        other.manner = self.manner.model_copy(update=sampling)
        return other

    def reply(self, messages: Sequence[Message], seed: int) -> Iterator[Piece]:
        """An answer, in the pieces the endpoint sends.

        Raises:
            HeedError: It does not answer, refuses, or breaks off.
        """
        body = {
            "model": self.model,
            "messages": [message.model_dump() for message in messages],
            "stream": True,
            "temperature": self.manner.temperature,
            "top_p": self.manner.top_p,
            "max_tokens": self.manner.max_new_tokens,
        }
        try:
            with self._http.stream("POST", f"{self.url}/chat/completions", json=body) as response:
                if response.status_code != 200:
                    response.read()
                    raise HeedError(f"the endpoint refuses with status {response.status_code}: {self._told(response)}")
                yield from self._pieces(response)
        except httpx.TimeoutException:
            raise HeedError("the endpoint does not answer") from None
        except (httpx.HTTPError, httpx.InvalidURL):
            raise HeedError("the endpoint broke off") from None

    def _pieces(self, response: httpx.Response) -> Iterator[Piece]:
        for line in response.iter_lines():
            if not line.startswith("data:"):
                yield ""  # a sign of life, at which it can be stopped
                continue
            told = line.removeprefix("data:").strip()
            if told == "[DONE]":
                return
            piece, reason = _piece(told)
            yield piece
            if reason == "length":
                yield Cut()
            if reason is not None:
                return
        raise HeedError("the endpoint broke off")

    def _told(self, response: httpx.Response) -> str:
        """The endpoint's own words in one short line, without the key."""
        try:
            raw = response.json()["error"]
            text = str(raw["message"] if isinstance(raw, dict) else raw)
        except (ValueError, KeyError, TypeError):
            text = response.text
        line = " ".join(text.split())[:300] or "no message"
        return line.replace(self._key, "[key]") if self._key else line


def _piece(told: str) -> tuple[str, str | None]:
    """The text of one event, and, of the last, why the answer ends."""
    try:
        raw: Any = json.loads(told)
        if "error" in raw:
            raise HeedError("the endpoint broke off")
        choices = raw.get("choices") or []
        if not choices:  # such as the one that tells the usage
            return "", None
        text = (choices[0].get("delta") or {}).get("content")
        reason = choices[0].get("finish_reason")
        return (text if isinstance(text, str) else ""), None if reason is None else str(reason)
    except (ValueError, AttributeError, TypeError, IndexError, KeyError):
        raise HeedError("the endpoint sent something that is no answer") from None
