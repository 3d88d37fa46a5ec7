"""The models behind chat for programs: OpenAI's chat completions, and the personal tokens they are called with."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from heedlm.feedback.accounts import User
from heedlm.feedback.conversations import Begun, Said
from heedlm.feedback.errors import BadInput, Refused
from heedlm.feedback.tokens import Tokens
from heedlm.records import Message
from heedlm.records.types import check_turns
from heedlm.web.access import EVERYBODY, Me, roles
from heedlm.web.answering import Draft
from heedlm.web.render import page
from heedlm.web.services import Adjustable, Services

router = APIRouter(tags=["programs"])

_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
_ENDS = {"whole": "stop", "cut": "length", "stopped": "length"}


def refusal(status: int, message: str, headers: dict[str, str] | None = None, code: str | None = None) -> Response:
    """A refusal in the shape that clients of this API read."""
    status = {409: 429, 422: 400}.get(status, status)
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    error = {"message": message, "type": kind, "param": None, "code": code}
    return JSONResponse({"error": error}, status, headers)


# ---------------------------------------------------------------- completions


class Turn(BaseModel):
    """One message of a request."""

    model_config = ConfigDict(extra="forbid")

    role: Literal["system", "user", "assistant"]
    content: str = Field(max_length=1_000_000)
    name: str | None = Field(None, max_length=64)


class Wanted(BaseModel):
    """A request. Settings that change nothing here are taken if they ask for nothing."""

    model_config = ConfigDict(extra="forbid")

    model: str = Field(max_length=200)
    messages: list[Turn] = Field(min_length=1, max_length=1000)
    stream: bool = False
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    max_tokens: int | None = Field(None, ge=1, le=1_000_000)
    max_completion_tokens: int | None = Field(None, ge=1, le=1_000_000)
    seed: int | None = Field(None, ge=0, lt=2**63)
    n: Literal[1] = 1
    user: str | None = Field(None, max_length=200)

    def sampling(self) -> dict[str, float]:
        """What is asked for of how answers are sampled."""
        longest = self.max_completion_tokens or self.max_tokens
        given = {"temperature": self.temperature, "top_p": self.top_p, "max_new_tokens": longest}
        return {name: value for name, value in given.items() if value is not None}


@router.get("/v1/models", openapi_extra=roles(*EVERYBODY))
def models(request: Request) -> Response:
    """The models that can be asked."""
    found = [{"id": name, "object": "model", "owned_by": "heed"} for name in request.app.state.services.models]
    return JSONResponse({"object": "list", "data": found})


@router.post("/v1/chat/completions", openapi_extra=roles(*EVERYBODY))
async def complete(request: Request, me: Me, wanted: Wanted) -> Response:
    """An answer to a conversation, whole or as it is written; nothing of it is kept."""
    draft = await run_in_threadpool(_begin, request, me, wanted)
    events = draft.follow()
    head = {"id": f"chatcmpl-{draft.message}", "created": int(request.app.state.database.now()), "model": wanted.model}
    # Nothing is sent before there is something to send: what cannot be answered is refused with a status.
    first: list[tuple[str, Any]] = []
    try:
        async for event, what in events:
            if event == "done" or (event in ("text", "piece") and what) or draft.left_out:
                first.append((event, what))
                break
        problem = _problem(draft)
        if problem is not None:
            return problem
        if wanted.stream:
            body = _chunks(request, draft, first, events, head)
            return StreamingResponse(body, media_type="text/event-stream", headers={"x-accel-buffering": "no"})
        async for _ in events:
            pass
    finally:
        if not wanted.stream:
            await run_in_threadpool(request.app.state.answering.stop, draft.message)
    problem = _problem(draft)
    if problem is not None:
        return problem
    said = draft.said
    assert said is not None
    choice = {"index": 0, "message": {"role": "assistant", "content": said.content}, "finish_reason": _ENDS[said.state]}
    return JSONResponse({**head, "object": "chat.completion", "choices": [choice]})


def _begin(request: Request, me: User, wanted: Wanted) -> Draft:
    services: Services = request.app.state.services
    answering = request.app.state.answering
    if wanted.model not in services.models:
        raise Refused(f"model: there is no model called {wanted.model!r} here")
    messages = tuple(Message(role=turn.role, content=turn.content) for turn in wanted.messages)
    try:
        check_turns(messages, "user")
    except ValueError as error:
        raise BadInput(f"messages: {error}") from None
    writer, sampling = services.models[wanted.model], wanted.sampling()
    if sampling:
        if not isinstance(writer, Adjustable):
            raise BadInput(f"{', '.join(sampling)}: cannot be chosen for this model")
        writer = writer.adjusted(**sampling)
    answering.check(me.id, wanted.model)
    now = request.app.state.database.now()
    answer = Said(secrets.token_hex(12), None, "assistant", "", wanted.model, "writing", 0, None, now)
    draft: Draft = answering.begin(me.id, Begun(answer, messages), writer=writer, seed=wanted.seed)
    return draft


def _problem(draft: Draft) -> Response | None:
    """Why there is no answer, if there is none."""
    if draft.left_out:  # people are told which turns a model could not read; a program is refused
        return refusal(400, "messages: are longer than the model's context", code="context_length_exceeded")
    if draft.said is None or draft.said.state != "failed":
        return None
    problem = draft.said.problem or "the model failed"
    if "shorten" in problem:
        return refusal(400, problem, code="context_length_exceeded")
    return refusal(502, problem)


async def _chunks(
    request: Request,
    draft: Draft,
    first: list[tuple[str, Any]],
    events: AsyncIterator[tuple[str, Any]],
    head: dict[str, Any],
) -> AsyncIterator[str]:
    def line(delta: dict[str, str], end: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": end}
        return _event({**head, "object": "chat.completion.chunk", "choices": [choice]})

    async def all_events() -> AsyncIterator[tuple[str, Any]]:
        for event in first:
            yield event
        if first and first[-1][0] != "done":
            async for later in events:
                yield later

    try:
        yield line({"role": "assistant", "content": ""})
        async for event, what in all_events():
            if event in ("text", "piece") and what:
                yield line({"content": what})
            elif event == "done" and what.state == "failed":
                yield _event({"error": {"message": what.problem, "type": "server_error", "param": None, "code": None}})
                return
            elif event == "done":
                yield line({}, _ENDS[what.state])
        yield "data: [DONE]\n\n"
    finally:  # whoever hangs up wants no more
        request.app.state.answering.stop(draft.message)


def _event(what: dict[str, Any]) -> str:
    return f"data: {json.dumps(what, ensure_ascii=False)}\n\n"


# ---------------------------------------------------------------- tokens


class Named(BaseModel):
    """A token to be made."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=64)]


@router.get("/tokens", openapi_extra=roles(*EVERYBODY))
def tokens_page(request: Request, me: Me) -> Response:
    """One's own tokens."""
    values = {"tokens": Tokens(request.app.state.database).mine(me), "models": list(request.app.state.services.models)}
    return page(request, "chat_tokens.html", {**values, "base": f"{request.base_url}v1"})


@router.post("/api/tokens", openapi_extra=roles(*EVERYBODY))
def make_token(request: Request, me: Me, wanted: Named) -> Response:
    """A new token, shown once, and its line in the list."""
    kept = Tokens(request.app.state.database)
    token = kept.make(me, wanted.name)
    return JSONResponse({"token": token, **asdict(kept.entry(token))}, 201)


@router.delete("/api/tokens/{token}", openapi_extra=roles(*EVERYBODY))
def revoke_token(request: Request, me: Me, token: str) -> Response:
    """Make a token void."""
    Tokens(request.app.state.database).revoke(me, token)
    return JSONResponse({"revoked": 1})
