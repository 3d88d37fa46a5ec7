"""A judge behind an OpenAI-compatible endpoint: a server of your own, or one that is paid for."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from heedlm.config import Config
from heedlm.errors import BadInput
from heedlm.judges import frames
from heedlm.judges.asked import Asked, Choice
from heedlm.judges.client import Client, Completion, tokens_of

_KNOWN = 0.5  # share of the probability that must lie on the options for their log-probs to count


class Price(Config):
    """What a million tokens cost, in any currency, and what may be spent."""

    tokens_in: NonNegativeFloat | None = Field(None, description="price of a million tokens of questions")
    tokens_out: NonNegativeFloat | None = Field(None, description="price of a million tokens of replies")
    max_cost: PositiveFloat | None = Field(None, description="most that may be spent; more is refused before it starts")

    @model_validator(mode="after")
    def _both(self) -> Self:
        known = self.tokens_in is not None and self.tokens_out is not None
        if not known and (self.max_cost is not None or self.tokens_in != self.tokens_out):
            raise ValueError("needs both tokens_in and tokens_out to know a cost")
        return self


class Endpoint(Asked):
    """A model behind `url`/chat/completions; P(option) from its log-probabilities, or else from what it says.

    Replies are kept in `replies`, so nothing is asked, or paid for, twice: not by a resumed job, nor by the next.
    """

    name: Literal["endpoint"] = "endpoint"
    url: str = Field(description="base of the API, such as http://localhost:8000/v1")
    model: str = Field(min_length=1, description="the model's name at the endpoint")
    key: str | None = Field(None, description="NAME of the environment variable that holds the API key; never the key")
    timeout: PositiveFloat = Field(60.0, description="seconds for one attempt")
    retries: NonNegativeInt = Field(5, le=20, description="further attempts at a question that got no answer")
    parallel: PositiveInt = Field(4, le=64, description="questions under way at once")
    replies: Path = Field(Path("runs/replies.jsonl"), description="file that keeps all replies, for use again")
    price: Price = Field(Price(), description="what tokens cost and what may be spent")

    @field_validator("key")
    @classmethod
    def _a_name(cls, key: str | None) -> str | None:
        if key is not None and not re.fullmatch(r"[A-Z_][A-Z0-9_]{0,63}", key):
            # Perhaps it is the key itself: then it must not be repeated, not even in this message.
            raise BadInput("key: give the NAME of an environment variable in capitals, such as OPENAI_API_KEY")
        return key

    @field_validator("url")
    @classmethod
    def _a_base(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.username or parts.password or parts.query:
            raise BadInput("url: must hold no password and no query, since settings are written down; use key=")
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("must be the base of an API, such as http://localhost:8000/v1")
        return url

    def choose(self, questions: Sequence[str], options: Sequence[str]) -> list[Choice]:
        """How likely each option is as the reply to each question.

        Raises:
            BadInput: The endpoint refuses the request or the key.
            HeedError: The endpoint is down.
        """
        wish = {"max_tokens": frames.SHORT, "temperature": 0, "logprobs": True, "top_logprobs": 20}
        return [_choice(reply, options) for reply in self._client().complete([_body(q, wish) for q in questions])]

    def write(
        self, questions: Sequence[str], *, tokens: int, temperature: float, seed: int, whole: bool = False
    ) -> list[str | None]:
        """A reply of at most so many tokens to each question; None where there was none; see `Asked.write`."""
        wish = {"max_tokens": tokens, "temperature": temperature, "seed": seed}
        replies = self._client().complete([_body(q, wish) for q in questions])
        return [None if reply is None or (whole and reply.cut) else reply.text for reply in replies]

    def prepare(self, questions: Sequence[str], tokens: int) -> None:
        """Say on stderr what so many questions will cost at most.

        Raises:
            BadInput: That is more than `price.max_cost`.
        """
        client = self._client()
        asked = sum(tokens_of(question) for question in questions)
        cost = client.cost(asked, len(questions) * tokens)
        told = "cost unknown, set price.tokens_in and price.tokens_out" if cost is None else f"cost at most {cost:.2f}"
        host, most, limit = urlsplit(self.url).netloc, len(questions) * tokens, self.price.max_cost
        print(
            f"judge: {self.model} at {host}, {len(questions)} questions, about {asked} tokens in, at most {most} out, "
            f"{told}; what {self.replies} holds is not asked again",
            file=sys.stderr,
            flush=True,
        )
        if cost is not None and limit is not None and cost > limit:
            raise BadInput(
                f"max_cost: up to {cost:.2f} would be spent and {limit:.2f} may be; raise price.max_cost, "
                "or give fewer answers to judge"
            )

    def usage(self) -> dict[str, float]:
        """Counts of requests, of what went wrong, and of tokens, with their cost where prices are known."""
        client = self._client()
        cost = client.spent().cost
        return {**client.counts, **({} if cost is None else {"cost": cost})}

    def _client(self) -> Client:
        return _client(self)


@lru_cache(maxsize=8)
def _client(judge: Endpoint) -> Client:
    """One client for each set of settings, so that all its questions are counted together."""
    price = judge.price
    prices = None if price.tokens_in is None or price.tokens_out is None else (price.tokens_in, price.tokens_out)
    return Client(
        judge.url,
        judge.model,
        judge.key,
        timeout=judge.timeout,
        retries=judge.retries,
        parallel=judge.parallel,
        replies=judge.replies,
        prices=prices,
        max_cost=price.max_cost,
    )


def _body(question: str, wish: Mapping[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}], **wish}


def _choice(reply: Completion | None, options: Sequence[str]) -> Choice:
    """Probabilities of the options: from log-probs where they are given and lie on the options, else from the text."""
    if reply is None:
        return Choice(None, "no reply")
    found = _from_logprobs(reply, options)
    if found is not None:
        return Choice(found, "log-probs")
    said = frames.read_option(reply.text, options)
    if said is None:
        return Choice(None, "the reply is none of the options")
    return Choice(tuple(float(place == said) for place in range(len(options))), f"said {options[said]}")


def _from_logprobs(reply: Completion, options: Sequence[str]) -> tuple[float, ...] | None:
    """Shares of the first token's probability. Where the tokenizer parts "10" in two, a reply "10" owns that of "1"."""
    if not reply.top:
        return None
    found = dict.fromkeys(options, 0.0)
    said = frames.read_option(reply.text, options)
    for token, logp in reply.top[0]:
        place = frames.read_option(token, options)
        if place is not None and logp == logp:
            found[options[place]] += math.exp(min(logp, 0.0))
    if said is not None and found[options[said]] == 0.0:
        start = next((o for o in options if found[o] and options[said].startswith(o)), None)
        if start is not None:
            found[options[said]], found[start] = found[start], 0.0
    total = sum(found.values())
    return tuple(found[option] / total for option in options) if total >= _KNOWN else None
