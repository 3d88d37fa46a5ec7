"""Every text of the pages has a Chinese one, with the same names to fill in."""

import re
from pathlib import Path

import pytest
from jinja2 import Environment, nodes

from heedlm.feedback.accounts import ROLES
from heedlm.feedback.kinds import CATEGORIES, FLAGS, FirstWrong, Pair, Rank, Rate, Thumbs, Write
from heedlm.web import words
from heedlm.web.pages.annotate import CRITERIA

WEB = Path(words.__file__).parents[1]
TEMPLATES = sorted((WEB / "templates").rglob("*.html"))
SCRIPTS = sorted((WEB / "static").rglob("*.js"))
IN_SCRIPT = re.compile(r'\bword\(\s*"((?:[^"\\]|\\.)*)"')
NAME = re.compile(r"\{(\w+)\}")


def in_template(text):
    """What a template hands to `_`, where it is written out."""
    calls = Environment(autoescape=True).parse(text).find_all(nodes.Call)
    said = [call.args[0] for call in calls if isinstance(call.node, nodes.Name) and call.node.name == "_"]
    branches = [
        each for arg in said for each in ((arg.expr1, arg.expr2) if isinstance(arg, nodes.CondExpr) else (arg,))
    ]
    return {each.value for each in branches if isinstance(each, nodes.Const)}


def test_words_are_found():
    assert in_template(
        "{{ _('a') }} {{ _(\"b\" if x else 'c', n=1) }} {% for t in [_('d')] %}{{ _(t) }}{% endfor %}"
    ) == set("abcd")
    assert IN_SCRIPT.findall('word("a", {}) keyword("b") word(\n"c")') == ["a", "c"]


@pytest.mark.parametrize("file", TEMPLATES, ids=lambda file: file.name)
def test_templates_are_translated(file):
    assert sorted(in_template(file.read_text(encoding="utf-8")) - set(words.ZH)) == []


@pytest.mark.parametrize("file", SCRIPTS, ids=lambda file: str(file.relative_to(WEB / "static")))
def test_scripts_are_translated(file):
    text = file.read_text(encoding="utf-8")
    assert sorted(set(IN_SCRIPT.findall(text)) - set(words.ZH)) == []
    assert re.findall(r"\bword\(\s*[`']", text) == []  # another quote would go unseen here


def test_what_the_program_names_is_translated():
    kinds = [kind.title for kind in (Rank, Pair, Rate, Thumbs, Write, FirstWrong)]
    named = {
        *kinds,
        *FLAGS.values(),
        *CATEGORIES.values(),
        *ROLES,
        *(text for pair in CRITERIA.values() for text in pair),
    }
    assert sorted(named - set(words.ZH)) == []


def test_translations_are_chinese_and_fill_in_the_same_names():
    for english, chinese in words.ZH.items():
        # A name such as PPO is the same in both.
        assert re.search(r"[\u4e00-\u9fff]", chinese) or chinese == english == english.upper(), english
        assert sorted(set(NAME.findall(english))) == sorted(set(NAME.findall(chinese))), english


def test_one_english_text_has_one_chinese_text():
    parts = {name: getattr(words, name).ZH for name in ("base", "chat", "annotate", "manage", "runs")}
    seen: dict[str, str] = {}
    for name, part in parts.items():
        for english, chinese in part.items():
            assert seen.setdefault(english, chinese) == chinese, f"{name}: {english!r}"
