"""Answers in the making: each model writes one at a time, or as many as it says; the others wait in a fair line.

An answer is written by a thread of its own and kept when it ends, whether or not anybody is looking: who reloads the
page in the middle finds it again.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from heedlm.errors import HeedError
from heedlm.feedback.conversations import Begun, Conversations, Said
from heedlm.feedback.errors import BadInput, Conflict
from heedlm.records import Message
from heedlm.web.services import ChatModel, Cut, LeftOut, Services

LINE, EACH = 32, 2  # answers that may wait for a model, and that one person may have under way
LONGEST = 200_000  # characters of an answer
PATIENCE = 5.0  # seconds that the last answers have to be kept

_log = logging.getLogger(__name__)


class Draft:
    """An answer in the making: written by one thread, followed by any number of readers.

    Attributes:
        message: Its key.
        user: Whose it is (key).
        model: Which model writes it.
        turn: When it is its turn, in the count of its model's.
        place: Its place in the line, from 1; 0 once it is being written.
        text: What is there so far.
        left_out: How many of the oldest messages the model could not read.
        said: What was kept, once it has ended.
        ended: Whether it has, and nothing more is added.
    """

    def __init__(self, message: str, user: str, model: str, prompt: Sequence[Message]) -> None:
        self.message, self.user, self.model, self.prompt = message, user, model, prompt
        self.turn, self.place, self.text, self.left_out = 0, 0, "", 0
        self.writer: ChatModel | None = None
        self.seed = 0
        self.said: Said | None = None
        self.ended = False
        self._lock = threading.Lock()
        self._wakers: set[Callable[[], object]] = set()

    def add(self, piece: str) -> bool:
        """Add a piece; False if it has ended meanwhile."""
        with self._lock:
            if self.ended:
                return False
            self.text += piece
        self.wake()
        return True

    def end(self) -> bool:
        """Let nothing more be added; False if it had ended before."""
        with self._lock:
            before, self.ended = self.ended, True
        return not before

    def wake(self) -> None:
        """Tell the readers that something is new."""
        with self._lock:
            wakers = list(self._wakers)
        for waker in wakers:
            waker()

    async def follow(self) -> AsyncIterator[tuple[str, Any]]:
        """What happens from now on: `waiting` with the place in the line, the text so far, pieces, what was kept."""
        loop, woken = asyncio.get_running_loop(), asyncio.Event()

        def waker() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(woken.set)

        with self._lock:
            self._wakers.add(waker)
        place, sent = 0, -1
        try:
            while True:
                woken.clear()
                said, text = self.said, self.text
                if said is None and place != self.place:
                    place = self.place
                    yield "waiting", place
                if sent < 0:
                    yield "text", text
                elif len(text) > sent:
                    yield "piece", text[sent:]
                sent = len(text)
                if said is not None:
                    yield "done", said
                    return
                await woken.wait()
        finally:
            with self._lock:
                self._wakers.discard(waker)


class Answering:
    """Who writes what, and who waits for whom.

    Args:
        store: Where answers are kept.
        services: Its models, as they are at each moment.
        line: The most answers that may wait for one model.
        each: The most answers that one person may have under way.
    """

    def __init__(self, store: Conversations, services: Services, line: int = LINE, each: int = EACH) -> None:
        self.store, self.services, self.line, self.each = store, services, line, each
        self._lock = threading.Lock()
        self._fewer = threading.Condition(self._lock)
        self._drafts: dict[str, Draft] = {}
        self._waiting: list[Draft] = []
        self._writing: Counter[str] = Counter()
        self._turn: Counter[str] = Counter()  # of the answer that each model began last
        self._last: Counter[tuple[str, str]] = Counter()  # the turn after a person's last one with a model
        self._closed = False

    def check(self, user: str, model: str) -> None:
        """Whether one more answer may begin.

        Raises:
            BadInput: There is no such model.
            Conflict: Too many wait for it, or this person has enough under way.
        """
        if model not in self.services.models:
            raise BadInput(f"model: there is no model called {model!r} here")
        with self._lock:
            if self._closed:
                raise Conflict("the server is stopping: try again in a minute")
            if sum(draft.user == user for draft in self._drafts.values()) >= self.each:
                raise Conflict("enough answers of yours are being written: wait for one, or stop it")
            if sum(draft.model == model for draft in self._waiting) >= self.line:
                raise Conflict("too many people are waiting for this model: try again in a minute")

    def begin(self, user: str, begun: Begun, *, writer: ChatModel | None = None, seed: int | None = None) -> Draft:
        """Have an answer written, now or when it is its turn.

        Args:
            user: For whom (key).
            begun: The answer, and what it answers.
            writer: What writes it, in the line of the answer's model; that model itself unless given.
            seed: Decides all random choices; a random one unless given.
        """
        answer = begun.answer
        draft = Draft(answer.id, user, answer.model or "", begun.prompt)
        draft.writer, draft.seed = writer, seed if seed is not None else secrets.randbelow(2**31)
        with self._lock:
            # Fair queueing by start times: a person's second answer is a turn later than their first.
            mine = (draft.model, user)
            draft.turn = max(self._turn[draft.model], self._last[mine])
            self._last[mine] = draft.turn + 1
            self._drafts[draft.message] = draft
            self._waiting.append(draft)
            closed = self._closed
        if closed:
            self.stop(draft.message)
        self._go_on()
        return draft

    def find(self, message: str) -> Draft | None:
        """An answer that has not ended."""
        with self._lock:
            return self._drafts.get(message)

    def stop(self, message: str) -> None:
        """End an answer with what is there; what the model still says is dropped."""
        draft = self.find(message)
        if draft is not None:
            self._end(draft, "stopped")
            self._go_on()

    def stop_all(self, user: str | None = None) -> None:
        """End all answers, or those of one person (key)."""
        with self._lock:
            found = [draft.message for draft in self._drafts.values() if user in (None, draft.user)]
        for message in found:
            self.stop(message)

    def close(self) -> None:
        """End all answers, and begin no more; returns once all are kept."""
        with self._lock:
            self._closed = True
        self.stop_all()
        with self._fewer:
            self._fewer.wait_for(lambda: not self._drafts, timeout=PATIENCE)

    # ------------------------------------------------------------ the line

    def _go_on(self) -> None:
        """Let those write whose turn it is, and tell the others their place."""
        with self._lock:
            beginning = []
            for draft in self._in_order():
                if self._writing[draft.model] < self._at_once(draft.model):
                    self._writing[draft.model] += 1
                    self._turn[draft.model] = draft.turn
                    self._waiting.remove(draft)
                    draft.place = 0
                    beginning.append(draft)
            places: Counter[str] = Counter()
            waiting = self._in_order()
            for draft in waiting:
                places[draft.model] += 1
                draft.place = places[draft.model]
        for draft in beginning:
            name = f"answer-{draft.message}"
            threading.Thread(target=self._write, args=(draft,), name=name, daemon=True).start()
        for draft in waiting:
            draft.wake()

    def _in_order(self) -> list[Draft]:
        """Everybody's first answer before anybody's second, and else who came first."""
        return sorted(self._waiting, key=lambda draft: draft.turn)

    def _at_once(self, model: str) -> int:
        return int(getattr(self.services.models.get(model), "at_once", 1))

    # ------------------------------------------------------------ writing

    def _write(self, draft: Draft) -> None:
        state = "whole"
        problem: str | None = None
        try:
            writer = draft.writer or self.services.models[draft.model]
            pieces = writer.reply(draft.prompt, draft.seed)
            try:
                for piece in pieces:
                    if isinstance(piece, LeftOut):
                        draft.left_out = piece.count
                    elif isinstance(piece, Cut):
                        state = "cut"
                    elif not draft.add(piece) or len(draft.text) > LONGEST:
                        state = "stopped"
                        break
            finally:
                getattr(pieces, "close", lambda: None)()
        except HeedError as error:
            state, problem = "failed", str(error)
        except Exception:  # noqa: BLE001 - whatever breaks a model must not break the line
            _log.exception("%s failed while it answered", draft.model)
            state, problem = "failed", "the model failed; the server's log says why"
        finally:
            with self._lock:
                self._writing[draft.model] -= 1
        self._end(draft, state, problem)
        self._go_on()

    def _end(self, draft: Draft, state: str, problem: str | None = None) -> None:
        """Keep a draft as it is now, once."""
        if not draft.end():
            return
        with self._lock:
            if draft in self._waiting:
                self._waiting.remove(draft)
        try:
            kept = self.store.finish(draft.message, draft.text, state, left_out=draft.left_out, problem=problem)
        except Exception:  # noqa: BLE001 - those who wait for it must be told
            _log.exception("an answer could not be kept")
            kept, state, problem = None, "failed", "the answer could not be kept; the server's log says why"
        # Where nothing was kept the conversation is gone; who still looks is told how it ended.
        at = self.store.database.now()
        lost = Said(draft.message, None, "assistant", draft.text, draft.model, state, draft.left_out, problem, at)
        draft.said = kept or lost
        with self._lock:  # not before it is kept: whoever does not find it here finds it there
            self._drafts.pop(draft.message, None)
            self._fewer.notify_all()
        draft.wake()
