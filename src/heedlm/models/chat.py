"""Conversations as token ids: one rendering for training, scoring and sampling.

Prompt and response are tokenised once and separately, with one BOS (PITFALLS 12), so the prompt that a model
is sampled from is the same ids as the front of the row it is trained on. Text is data: a special token's name
inside a message is tokenised as ordinary characters.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import jinja2
from tokenizers import Tokenizer
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from heedlm.errors import BadInput
from heedlm.models.folder import one_line
from heedlm.models.tokenizer import HEED_TEMPLATE, ROLE_TOKENS

if TYPE_CHECKING:
    from heedlm.records import Message

# For tokenizers without role tokens of their own; the header's last space is left to the answer.
PLAIN_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}{{ message['content'] + eos_token }}"
    "{% else %}{{ message['role'].capitalize() + ': ' + message['content'] + '\\n\\n' }}"
    "{% if message['role'] == 'user' %}{{ 'Assistant: ' }}{% endif %}{% endif %}{% endfor %}"
)
_FILLER = "\ue000"


class Chat:
    """Renders messages and documents for one tokenizer.

    The tokenizer's own chat template is used if it has one. Otherwise Heed's is installed (and saved with the
    model): role tokens where the vocabulary has them, "User: … Assistant: …" in plain text where it does not.

    Args:
        tokenizer: Any tokenizer of transformers with an EOS token.

    Raises:
        BadInput: The tokenizer has no EOS token.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        if tokenizer.eos_token_id is None:
            raise BadInput("the tokenizer has no EOS token: name one as eos_token in tokenizer_config.json")
        self.tokenizer = tokenizer
        if not tokenizer.chat_template:
            known = tokenizer.get_vocab()
            own = all(token in known for token in ROLE_TOKENS.values())
            tokenizer.chat_template = HEED_TEMPLATE if own else PLAIN_TEMPLATE
        self._encoder = _plain_encoder(tokenizer)
        names = sorted((t for t in tokenizer.all_special_tokens if t), key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, names)))
        self._eos = _one(tokenizer.eos_token_id)
        self._start = [] if tokenizer.bos_token_id is None else [_one(tokenizer.bos_token_id)]
        self._template = tokenizer.chat_template
        if self._template == HEED_TEMPLATE:
            self._roles = {role: _one(tokenizer.convert_tokens_to_ids(t)) for role, t in ROLE_TOKENS.items()}
        self.eos_id = self._eos if self._template in (HEED_TEMPLATE, PLAIN_TEMPLATE) else self._turn_end()

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """Ids of a conversation that the assistant is to answer: they end with the assistant's header."""
        return self._render(messages, prompt=True)[0]

    def response_ids(self, text: str) -> list[int]:
        """Ids of an assistant's answer, ending with EOS."""
        return [*self._encode(text), self.eos_id]

    def conversation(self, messages: Sequence[Message]) -> tuple[list[int], list[bool]]:
        """Ids of a whole conversation and its loss mask: true exactly on assistant contents and their EOS."""
        return self._render(messages, prompt=False)

    def document_ids(self, text: str) -> list[int]:
        """Ids of plain text, from BOS (if the tokenizer has one) to EOS."""
        return [*self._start, *self._encode(text), self._eos]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of the ids, without special tokens and without a torn character that a cut left at the end."""
        text = str(self.tokenizer.decode(list(ids), skip_special_tokens=True))
        if text.endswith("�"):
            plain = [i for i in ids if i not in self.special_ids]
            if self._encode(text) != plain:
                text = text.rstrip("�")
        return text

    @property
    def special_ids(self) -> frozenset[int]:
        """Ids that stand for no text."""
        return frozenset(self.tokenizer.all_special_ids)

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

    def _encode(self, text: str) -> list[int]:
        """Ids of untrusted text: no special token comes out of it."""
        if self._encoder is None:
            ids = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        else:
            ids = self._encoder.encode(text, add_special_tokens=False).ids
        return list(ids)

    def _render(self, messages: Sequence[Message], prompt: bool) -> tuple[list[int], list[bool]]:
        if self._template == HEED_TEMPLATE:
            return self._heed(messages, prompt)
        if self._template == PLAIN_TEMPLATE:
            return self._plain(messages)
        return self._by_template(messages, prompt)

    def _heed(self, messages: Sequence[Message], prompt: bool) -> tuple[list[int], list[bool]]:
        ids, mask = list(self._start), [False] * len(self._start)
        for message in messages:
            content = self._encode(message.content)
            ids += [self._roles[message.role], *content, self._eos]
            mask += [False, *([message.role == "assistant"] * (len(content) + 1))]
        if prompt:
            ids.append(self._roles["assistant"])
            mask.append(False)
        return ids, mask

    def _plain(self, messages: Sequence[Message]) -> tuple[list[int], list[bool]]:
        ids, mask = list(self._start), [False] * len(self._start)
        head = ""
        for message in messages:
            if message.role != "assistant":
                head += f"{message.role.capitalize()}: {message.content}\n\n"
                continue
            for part, learn in (
                (self._encode(head + "Assistant:"), False),
                (self.response_ids(message.content), True),
            ):
                ids += part
                mask += [learn] * len(part)
            head = ""
        if head:
            part = self._encode(head + "Assistant:")
            ids += part
            mask += [False] * len(part)
        return ids, mask

    def _by_template(self, messages: Sequence[Message], prompt: bool) -> tuple[list[int], list[bool]]:
        """Split what the template renders at the assistant's contents, found as differences of prefixes."""
        ids: list[int] = []
        mask: list[bool] = []
        done = 0  # characters of the rendered text that are in ids already
        ends = [i for i, message in enumerate(messages) if message.role == "assistant"]
        for i in ends:
            before = self._text(messages[:i], True)
            after = self._text(messages[: i + 1], False)
            content = messages[i].content
            tail = after[len(before) :]
            shown = content if tail.startswith(content) else content.strip()
            if not after.startswith(before) or not tail.startswith(shown) or len(before) < done:
                return self._last_turn(messages, prompt)
            head = self._encode_rendered(before[done:], messages[:i])
            answer = self.response_ids(content)
            ids += head + answer
            mask += [False] * len(head) + [True] * len(answer)
            end = str(self.tokenizer.convert_ids_to_tokens(self.eos_id))
            done = len(before) + len(shown)
            done += len(end) if after.startswith(end, done) else 0
        whole = self._text(messages, prompt)
        rest = self._encode_rendered(whole[done:], messages)
        return ids + rest, mask + [False] * len(rest)

    def _last_turn(self, messages: Sequence[Message], prompt: bool) -> tuple[list[int], list[bool]]:
        """For templates that rewrite earlier turns: the prompt in one piece, only the last answer learned."""
        last = not prompt and messages[-1].role == "assistant"
        before = messages[:-1] if last else messages
        head = self._encode_rendered(self._text(before, prompt or last), before)
        answer = self.response_ids(messages[-1].content) if last else []
        return head + answer, [False] * len(head) + [True] * len(answer)

    def _text(self, messages: Sequence[Message], prompt: bool) -> str:
        if not messages:
            return ""
        rows = [{"role": message.role, "content": message.content} for message in messages]
        try:
            return str(self.tokenizer.apply_chat_template(rows, tokenize=False, add_generation_prompt=prompt))
        except (jinja2.TemplateError, TypeError, KeyError) as error:
            roles = ", ".join(message.role for message in messages)
            raise BadInput(
                f"the model's chat template refuses the roles {roles}: {one_line(error)}"
            ) from error

    def _encode_rendered(self, text: str, messages: Sequence[Message]) -> list[int]:
        """Ids of rendered text: special tokens are those the template wrote, not those in the contents."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _turn_end(self) -> int:
        """The id that the template puts after an assistant's content, if it is a special token; else EOS."""
        return self._eos


def _one(token: int | list[int] | None) -> int:
    assert isinstance(token, int)
    return token


def stop_ids(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel | None = None) -> frozenset[int]:
    """Ids that end an answer: the chat template's end of turn, the tokenizer's EOS, the model's own list."""
    found = {Chat(tokenizer).eos_id, tokenizer.eos_token_id}
    listed = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    found.update(listed if isinstance(listed, list) else [listed])
    return frozenset(int(i) for i in found if isinstance(i, int))


def _plain_encoder(tokenizer: PreTrainedTokenizerBase) -> Tokenizer | None:
    """A copy of a fast tokenizer's backend that reads special tokens' names as text; None for slow ones."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        return None
    copy = Tokenizer.from_str(backend.to_str())
    copy.encode_special_tokens = True
    copy.no_padding()
    copy.no_truncation()
    return copy
