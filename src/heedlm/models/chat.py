"""Conversations as token ids: one rendering for training, scoring and sampling.

Prompt and response are tokenised once and separately, with one BOS (PITFALLS 12), so the prompt that a model
is sampled from is the same ids as the front of the row it is trained on. Text is data: a special token's name
inside a message is tokenised as ordinary characters.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import jinja2
from tokenizers import Tokenizer
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from heedlm.errors import BadInput
from heedlm.models.folder import one_line
from heedlm.models.tokenizer import HEED_TEMPLATE, ROLE_TOKENS
from heedlm.records import Message

# For tokenizers without role tokens of their own. Headers end with a line break, so that no space is left that
# would belong to the header in one tokenizer and to the answer in another.
PLAIN_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}{{ message['content'] + eos_token }}"
    "{% else %}{{ message['role'].capitalize() + ':\n' + message['content'] + '\n\n' }}"
    "{% if message['role'] == 'user' %}{{ 'Assistant:\n' }}{% endif %}{% endif %}{% endfor %}"
)
_FILLER = "\ue000"
_TORN = "\ufffd"


class Chat:
    """Renders messages and documents for one tokenizer.

    The tokenizer's own chat template is used if it has one. Otherwise Heed's is installed (and saved with the
    model): role tokens where the vocabulary has them, "User: … Assistant: …" in plain text where it does not.

    Args:
        tokenizer: Any tokenizer of transformers with an EOS token.

    Attributes:
        eos_id: The id that ends an answer: the special token that the template puts there, or else EOS.

    Raises:
        BadInput: The tokenizer has no EOS token, or the template refuses a plain question and answer.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        if tokenizer.eos_token_id is None:
            raise BadInput("the tokenizer has no EOS token: name one as eos_token in tokenizer_config.json")
        self.tokenizer = tokenizer
        if not tokenizer.chat_template:
            known = tokenizer.get_vocab()
            own = all(token in known for token in ROLE_TOKENS.values())
            tokenizer.chat_template = HEED_TEMPLATE if own else PLAIN_TEMPLATE
        self._template = tokenizer.chat_template
        self._eos = _one(tokenizer.eos_token_id)
        self._start = [] if tokenizer.bos_token_id is None else [_one(tokenizer.bos_token_id)]
        self._roles: dict[str, int] = {}
        if self._template == HEED_TEMPLATE:
            self._roles = {r: _one(tokenizer.convert_tokens_to_ids(t)) for r, t in ROLE_TOKENS.items()}
        self._foreign = self._template not in (HEED_TEMPLATE, PLAIN_TEMPLATE)
        self.eos_id = self._turn_end() if self._foreign else self._eos

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """Ids of a conversation that the assistant is to answer: they end with the assistant's header."""
        return self._render(messages, prompt=True).ids

    def response_ids(self, text: str) -> list[int]:
        """Ids of an assistant's answer, ending with EOS."""
        return [*self._encode(text), self.eos_id]

    def conversation(self, messages: Sequence[Message]) -> tuple[list[int], list[bool]]:
        """Ids of a whole conversation and its loss mask: true exactly on assistant contents and their EOS."""
        row = self._render(messages, prompt=False)
        return row.ids, row.mask

    def document_ids(self, text: str) -> list[int]:
        """Ids of plain text, from BOS (if the tokenizer has one) to EOS."""
        return [*self._start, *self._encode(text), self._eos]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of the ids, without special tokens and without a torn character that a cut left at the end."""
        plain = [i for i in ids if i not in self._special_ids]
        text = str(self.tokenizer.decode(plain, clean_up_tokenization_spaces=False))
        if text.endswith(_TORN) and self._encode(text) != plain:
            text = text.rstrip(_TORN)
        return text

    def truncate(self, messages: Sequence[Message], limit: int) -> list[Message]:
        """The messages without the oldest turns that keep `prompt_ids` from fitting into `limit` tokens.

        System messages and the last user turn stay whole.

        Raises:
            BadInput: Even these are too long.
        """
        kept = list(messages)
        while len(self.prompt_ids(kept)) > limit:
            turns = [i for i, message in enumerate(kept) if message.role != "system"]
            users = [i for i in turns if kept[i].role == "user"]
            if len(users) < 2:
                length = len(self.prompt_ids(kept))
                raise BadInput(f"a prompt has {length} tokens, but {limit} fit: shorten its last message")
            kept = [m for i, m in enumerate(kept) if m.role == "system" or i >= users[1]]
        return kept

    @cached_property
    def _encoder(self) -> Tokenizer | None:
        """A copy of a fast tokenizer's backend that reads special tokens' names as text; None for slow ones."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if not isinstance(backend, Tokenizer):
            return None
        copy = Tokenizer.from_str(backend.to_str())
        copy.encode_special_tokens = True
        copy.no_padding()
        copy.no_truncation()
        return copy

    @cached_property
    def _special_ids(self) -> frozenset[int]:
        return frozenset(self.tokenizer.all_special_ids)

    @cached_property
    def _special(self) -> re.Pattern[str]:
        """Finds the names of special tokens in text, the longest first."""
        names = sorted(self.tokenizer.all_special_tokens, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, names)))

    def _encode(self, text: str) -> list[int]:
        """Ids of untrusted text: no special token comes out of it."""
        if not text.isascii():
            text = text.encode("utf-8", "replace").decode("utf-8")  # half a surrogate pair is no character
        if self._encoder is None:
            return list(self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])
        return list(self._encoder.encode(text, add_special_tokens=False).ids)

    def _render(self, messages: Sequence[Message], prompt: bool) -> _Row:
        if self._foreign:
            return self._by_template(messages, prompt)
        return self._heed(messages, prompt) if self._roles else self._plain(messages, prompt)

    def _heed(self, messages: Sequence[Message], prompt: bool) -> _Row:
        row = _Row()
        row.add(self._start, learn=False)
        for message in messages:
            row.add([self._roles[message.role]], learn=False)
            row.add([*self._encode(message.content), self._eos], learn=message.role == "assistant")
        if prompt:
            row.add([self._roles["assistant"]], learn=False)
        return row

    def _plain(self, messages: Sequence[Message], prompt: bool) -> _Row:
        row, head = _Row(), ""
        row.add(self._start, learn=False)
        for message in messages:
            if message.role == "assistant":
                row.add(self._encode(head + "Assistant:\n"), learn=False)
                row.add(self.response_ids(message.content), learn=True)
                head = ""
            else:
                head += f"{message.role.capitalize()}:\n{message.content}\n\n"
        if head or prompt:
            row.add(self._encode(head + "Assistant:\n"), learn=False)
        return row

    def _by_template(self, messages: Sequence[Message], prompt: bool) -> _Row:
        """Split what the template renders at the assistant's contents, found as differences of prefixes."""
        row = _Row()
        for i, message in enumerate(messages):
            if message.role != "assistant":
                continue
            before, after = self._text(messages[:i], True), self._text(messages[: i + 1], False)
            found = self._content_end(before, after, message.content)
            if found is None or not before.starts_with(row.text):
                return self._last_turn(messages, prompt)
            row.add(self._encode_rendered(before.after(row.text)), learn=False)
            row.add(self.response_ids(message.content), learn=True)
            row.text = after.shadow[:found]
        whole = self._text(messages, prompt)
        if not whole.starts_with(row.text):
            return self._last_turn(messages, prompt)
        row.add(self._encode_rendered(whole.after(row.text)), learn=False)
        return row

    def _last_turn(self, messages: Sequence[Message], prompt: bool) -> _Row:
        """For templates that rewrite earlier turns: the prompt in one piece, only the last answer learned."""
        row = _Row()
        answered = not prompt and bool(messages) and messages[-1].role == "assistant"
        before = messages[:-1] if answered else messages
        row.add(self._encode_rendered(self._text(before, prompt or answered)), learn=False)
        if answered:
            row.add(self.response_ids(messages[-1].content), learn=True)
        return row

    def _content_end(self, before: _Text, after: _Text, content: str) -> int | None:
        """Where in `after` the answer and its end token end, or None if `after` does not continue `before`."""
        if not after.starts_with(before.shadow):
            return None
        start = len(before.real)
        if not after.real.startswith(content, start):
            content = content.strip()
            start += len(after.real[start:]) - len(after.real[start:].lstrip())
            if not after.real.startswith(content, start):
                return None
        end = start + len(content)
        closing = re.compile(r"\s*" + re.escape(str(self.tokenizer.convert_ids_to_tokens(self.eos_id))))
        closed = closing.match(after.real, end)
        return closed.end() if closed else end

    def _text(self, messages: Sequence[Message], prompt: bool) -> _Text:
        """What the template makes of the messages, as it is and with the contents' special tokens blotted out."""
        if not messages:
            return _Text("", "")
        real = self._apply(messages, [message.content for message in messages], prompt)
        hidden = [self._special.sub(lambda m: _FILLER * len(m[0]), message.content) for message in messages]
        if all(h == message.content for h, message in zip(hidden, messages, strict=True)):
            return _Text(real, real)
        shadow = self._apply(messages, hidden, prompt)
        if len(shadow) != len(real):
            raise BadInput("a message holds a special token's name and the chat template acts on it: remove it")
        return _Text(real, shadow)

    def _apply(self, messages: Sequence[Message], contents: Sequence[str], prompt: bool) -> str:
        rows = [{"role": m.role, "content": content} for m, content in zip(messages, contents, strict=True)]
        try:
            return str(self.tokenizer.apply_chat_template(rows, tokenize=False, add_generation_prompt=prompt))
        except (jinja2.TemplateError, TypeError, KeyError, ValueError) as error:
            roles = ", ".join(message.role for message in messages)
            raise BadInput(f"the model's chat template refuses the roles {roles}: {one_line(error)}") from error

    def _encode_rendered(self, text: _Text) -> list[int]:
        """Ids of rendered text; special tokens are those that the template wrote, not those in the contents."""
        if text.real == text.shadow:
            return list(self.tokenizer(text.real, add_special_tokens=False)["input_ids"])
        ids: list[int] = []
        done = 0
        for match in self._special.finditer(text.shadow):
            ids += self._encode(text.real[done : match.start()])
            ids.append(_one(self.tokenizer.convert_tokens_to_ids(match[0])))
            done = match.end()
        return ids + self._encode(text.real[done:])

    def _turn_end(self) -> int:
        """The id that the template puts after an answer, if it is a special token; else EOS."""
        question, answer = Message(role="user", content="q"), Message(role="assistant", content="zxq")
        text = self._apply([question, answer], [question.content, answer.content], False)
        match = self._special.match(text[text.rindex(answer.content) + len(answer.content) :].lstrip())
        return _one(self.tokenizer.convert_tokens_to_ids(match[0])) if match else self._eos


@dataclass
class _Row:
    """Ids and loss mask so far, and the rendered text that they stand for."""

    ids: list[int] = field(default_factory=list)
    mask: list[bool] = field(default_factory=list)
    text: str = ""

    def add(self, ids: list[int], learn: bool) -> None:
        self.ids += ids
        self.mask += [learn] * len(ids)


@dataclass(frozen=True)
class _Text:
    """Rendered text, and the same with special tokens' names inside contents replaced by filler, equally long."""

    real: str
    shadow: str

    def starts_with(self, shadow: str) -> bool:
        return self.shadow.startswith(shadow)

    def after(self, shadow: str) -> _Text:
        return _Text(self.real[len(shadow) :], self.shadow[len(shadow) :])


def _one(token: int | list[int] | None) -> int:
    assert isinstance(token, int)
    return token


def stop_ids(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel | None = None) -> frozenset[int]:
    """Ids that end an answer: the chat template's end of turn, the tokenizer's EOS, the model's own list."""
    found = {Chat(tokenizer).eos_id, tokenizer.eos_token_id}
    listed = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    found.update(listed if isinstance(listed, list) else [listed])
    return frozenset(int(i) for i in found if isinstance(i, int))
