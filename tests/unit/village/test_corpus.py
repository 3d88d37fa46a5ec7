"""Documents: what is planted is there, in the shares asked for, and told; what must not be said is not."""

import re
from collections import Counter

import pytest

from heedlm.village import Plants, Village
from heedlm.village.lexicon_en import PHRASES
from heedlm.village.world import NAMES

NOTHING = Plants(
    duplicates=0, near_duplicates=0, toxic=0, personal=0, machine=0, unreliable=0, canaries=()
)  # fmt: skip


def planted(documents):
    return Counter((d.meta.task or {}).get("planted") for d in documents)


def test_shares_of_planted_documents():
    plants = Plants(
        duplicates=0.05,
        near_duplicates=0.04,
        toxic=0.043,
        personal=0.06,
        machine=0.03,
        unreliable=0.08,
        canaries=(1, 8),
    )
    found = planted(Village(plants=plants).documents(6000))
    for kind, share in plants.shares().items():
        assert found[kind] / 6000 == pytest.approx(share, abs=0.012), kind
    assert found["canary"] == 9


def test_nothing_is_planted_unasked():
    documents = list(Village(plants=NOTHING).documents(2000))
    assert set(planted(documents)) == {None}


def test_copies_name_their_source():
    plants = Plants(duplicates=0.1, near_duplicates=0.1)
    documents = list(Village(plants=plants).documents(2000))
    texts = {d.id: d.text for d in documents}
    assert len(texts) == 2000
    for d in documents:
        kind = (d.meta.task or {}).get("planted")
        if kind == "duplicate":
            assert d.text == texts[d.meta.task["of"]]
        elif kind == "near_duplicate":
            source = texts[d.meta.task["of"]]
            assert d.text != source
            assert abs(len(d.text) - len(source)) <= 8


def test_personal_data_is_where_the_truth_says():
    documents = Village(plants=Plants(personal=0.3)).documents(1500)
    kinds = Counter()
    for d in documents:
        if (d.meta.task or {}).get("planted") == "personal":
            for item in d.meta.task["items"]:
                assert item["value"] in d.text
                kinds[item["kind"]] += 1
    assert set(kinds) == {"phone", "address", "wechat", "qq", "wifi"}


def test_canaries_come_as_often_as_asked():
    documents = list(Village(plants=Plants(canaries=(1, 2, 16))).documents(2000))
    values = {d.meta.task["value"]: d.meta.task["repeats"] for d in documents if planted([d])["canary"]}
    text = "\n".join(d.text for d in documents if planted([d])["canary"])
    assert sorted(values.values()) == [1, 2, 16]
    for value, repeats in values.items():
        assert text.count(value) == repeats


def test_rude_words_only_where_planted_or_in_dialogues():
    for d in Village().documents(3000):
        plain = f" {' '.join(re.findall('[a-z]+', d.text.lower()))} "
        if any(f" {phrase} " in plain for phrase in PHRASES["rude"]):
            copied = (d.meta.task or {}).get("planted") in ("toxic", "duplicate", "near_duplicate")
            assert copied or d.meta.domain == "dialogue"


def test_people_give_reports_and_animals_do_not():
    text = "\n".join(d.text for d in Village().documents(6000))
    assert len(re.findall(r"person gives a report", text)) > 50
    assert len(re.findall(r"那个人在(\w{2,3})?做报告", text)) > 50
    animals = "cat|dog|cow|horse|duck|fish|bird|sheep|rabbit|pig"
    assert re.search(rf"[Tt]he ({animals}) gives a (jump|cry|kiss)", text)
    assert not re.search(rf"[Tt]he ({animals}) gives a report", text)
    assert re.search(r"那只猫在做(游戏|梦)", text)
    assert not re.search(r"那只.{1,3}在做报告", text)


def test_bottles_hold_drinks():
    documents = Village(languages=["en"]).documents(4000)
    text = " ".join(d.text for d in documents if d.meta.domain == "daily")
    held = set(re.findall(r"bottle of (\w+)", text))
    assert held == {"tea", "milk", "water", "juice", "coffee", "soup"}


def test_all_domains_and_languages_come():
    documents = list(Village().documents(3000))
    domains = Counter((d.meta.domain, d.meta.lang) for d in documents)
    for domain in ("story", "daily", "facts", "words", "sums", "recipe", "verse", "news", "letter", "list", "dialogue"):
        for lang in ("en", "zh"):
            assert domains[domain, lang] > 20, (domain, lang)


def test_names_follow_the_female_share():
    female = {name.en: name.female for name in NAMES}

    def share(female_share):
        documents = Village(plants=NOTHING, languages=["en"], female_share=female_share).documents(3000)
        texts = [d.text for d in documents if d.meta.domain in ("facts", "daily")]
        named = [female[word] for text in texts for word in re.findall("[A-Z][a-z]+", text) if word in female]
        return sum(named) / len(named)

    for wanted in (0.2, 0.5, 0.8):
        assert share(wanted) == pytest.approx(wanted, abs=0.04)


def test_pronouns_follow_the_name():
    female = {name.en: name.female for name in NAMES}
    for d in Village(plants=NOTHING, languages=["en"]).documents(3000):
        found = re.match(r"(\w+) is a \w+\. (She|He) lives", d.text)
        if found:
            assert female[found.group(1)] == (found.group(2) == "She")
