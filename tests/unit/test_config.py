import json
import string
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, PositiveFloat, field_validator, model_validator

from heedlm import config as config_module
from heedlm.config import Config, StageConfig, config_hash, from_json, keys, load, presets, to_toml
from heedlm.errors import BadInput


class Dpo(Config):
    name: Literal["dpo"] = "dpo"
    beta: PositiveFloat = Field(0.1, description="strength of the pull")
    label_smoothing: float = Field(0.0, ge=0, lt=0.5, description="share of flipped labels")


class Ipo(Config):
    name: Literal["ipo"] = "ipo"
    tau: float = Field(0.05, gt=0, description="regularisation")


class Sampling(Config):
    temperature: float = Field(1.0, ge=0, description="0 is greedy")
    limit: int | None = Field(None, ge=1, description="longest answer")


class Stage(StageConfig):
    model: Path = Field(description="the model to train")
    objective: Annotated[Dpo | Ipo, Field(discriminator="name")] = Field(Dpo(beta=0.3), description="the loss")
    sampling: Sampling = Field(Sampling(limit=5), description="how to sample")
    languages: tuple[str, ...] = Field(("en",), description="languages")
    clip: float | None = Field(0.2, description="bound")
    reduction: Literal["none", "mean"] = Field("mean", description="over examples")
    shuffle: bool = Field(True, description="whether to shuffle")
    mixture: dict[str, float] = Field({}, description="weights")

    @field_validator("clip")
    @classmethod
    def _not_seven(cls, clip: float | None) -> float | None:
        if clip == 7:
            raise ValueError("seven is unlucky")
        return clip


class Positional(StageConfig):
    positional: ClassVar[str | None] = "file"
    file: Path = Field(description="file to look at")
    other: int = Field(1, description="a number")


def stage(*words: str) -> Stage:
    return load(Stage, ["model=m", *words], stage="nothing")


def fault(*words: str) -> str:
    with pytest.raises(BadInput) as caught:
        load(Stage, words, stage="nothing")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("words", "read"),
    [
        (["seed=3"], {"seed": 3}),
        (["clip=1e-5"], {"clip": 1e-5}),
        (["clip=none"], {"clip": None}),
        (["reduction=none"], {"reduction": "none"}),
        (["name=frogs"], {"name": "frogs"}),
        (["name=2024-01-01"], {"name": "2024-01-01"}),
        (["name=3"], {"name": "3"}),
        (['name="quoted"'], {"name": "quoted"}),
        (["shuffle=false"], {"shuffle": False}),
        (["languages=en,zh"], {"languages": ("en", "zh")}),
        (["languages=zh"], {"languages": ("zh",)}),
        (["languages=a sentence, with a comma"], {"languages": ("a sentence, with a comma",)}),
        (['languages=["en", "zh"]'], {"languages": ("en", "zh")}),
        (["model=a=b"], {"model": Path("a=b")}),
        (["mixture.books=0.5", "mixture.web=1"], {"mixture": {"books": 0.5, "web": 1.0}}),
        (["seed=1", "seed=2"], {"seed": 2}),
    ],
)
def test_a_word_is_read_as_its_field_wants(words, read):
    made = stage(*words)
    assert {key: getattr(made, key) for key in read} == read


def test_nested_overrides_keep_the_other_settings_of_the_default():
    made = stage("sampling.temperature=0", "objective.label-smoothing=0.1")
    assert made.sampling == Sampling(temperature=0, limit=5)
    assert made.objective == Dpo(beta=0.3, label_smoothing=0.1)


def test_another_member_of_a_union_drops_the_settings_of_the_first(tmp_path):
    file = tmp_path / "base.toml"
    file.write_text("[objective]\nname = 'dpo'\nbeta = 0.7\n")
    made = stage(str(file), "objective.name=ipo", "objective.tau=0.9")
    assert made.objective == Ipo(tau=0.9)
    assert stage(str(file), "objective.name=dpo").objective == Dpo(beta=0.7)


def test_later_layers_win_over_earlier_ones(tmp_path):
    first, second = tmp_path / "a.toml", tmp_path / "b.toml"
    first.write_text("seed = 1\nclip = 'none'\n[sampling]\ntemperature = 0.5\nlimit = 9\n")
    second.write_bytes(b"\xef\xbb\xbfseed = 2\r\n[sampling]\r\ntemperature = 0.25\r\n")
    made = stage(str(first), str(second), "sampling.limit=1")
    assert (made.seed, made.clip, made.sampling) == (2, None, Sampling(temperature=0.25, limit=1))


def test_presets_are_found_by_name(tmp_path, monkeypatch):
    folder = tmp_path / "presets" / "ppo"
    folder.mkdir(parents=True)
    (folder / "tiny.toml").write_text("seed = 7\n")
    monkeypatch.setattr(config_module.words.resources, "files", lambda package: tmp_path)
    assert presets("ppo") == ["tiny"]
    assert load(Stage, ["tiny", "model=m"], stage="ppo").seed == 7
    with pytest.raises(BadInput, match=r"'tny' is no preset of ppo \(nearest: tiny\); there are: tiny"):
        load(Stage, ["tny", "model=m"], stage="ppo")


def test_the_first_word_fills_the_positional_field():
    assert load(Positional, ["data.jsonl", "other=2"], stage="none").file == Path("data.jsonl")
    with pytest.raises(BadInput, match="is no preset"):
        load(Positional, ["word", "file=data.jsonl"], stage="none")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "model: is required (the model to train); give model=…"),
        (["model=m", "seed=x"], "seed: must be a valid integer, got 'x'"),
        (["model=m", "seed=1.5"], "seed: must be a valid integer, got 1.5"),
        (["model=m", "seed=true"], "seed: must be a number, got True"),
        (["model=m", "seed=-1"], "seed: must be greater than or equal to 0, got -1"),
        (["model=m", "clip=nan"], "clip: must be a finite number, got nan"),
        (["model=m", "clip=7"], "clip: seven is unlucky, got 7"),
        (["model=m", "sede=1"], "sede: no such setting (nearest: seed)"),
        (["model=m", "beta=1"], "beta: no such setting (nearest: objective.beta)"),
        (["model=m", "qqqq=1"], "qqqq: no such setting"),
        (["model=m", "objective.bta=1"], "objective.bta: no such setting (nearest: objective.beta)"),
        (["model=m", "objective.beta=0"], "objective.beta: must be greater than 0, got 0"),
        (["model=m", "objective.name=ipp"], "objective: must be one of dpo, ipo, got 'ipp' (nearest: ipo)"),
        (
            ["model=m", "objective.name=ipo", "objective.beta=1"],
            "objective.beta: no such setting (nearest: objective.tau)",
        ),
        (["model=m", "reduction=men"], "reduction: must be one of none, mean, got 'men' (nearest: mean)"),
        (["model=m", "sampling=3"], "sampling: is a table of settings, got 3; give sampling.…=…"),
        (["model=m", "name=a/b"], "name: must consist of letters, digits"),
        (["model=m", "sampling=3", "sampling.limit=1"], "sampling.limit: sampling is given both as one value"),
        (["tiny"], "'tiny' is no preset of nothing; it has none"),
        (["missing.toml"], "missing.toml: cannot be read (No such file or directory)"),
        (["model=m", "seed=x", "clip=y"], "seed: must be a valid integer, got 'x' (also wrong or missing: clip)"),
    ],
)
def test_a_fault_is_one_line_with_field_problem_and_remedy(words, message):
    assert fault(*words).startswith(message)


def test_a_fault_in_a_file_names_the_file(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text("model = 'm'\nseed = = 3\n")
    assert fault(str(file)) == f"{file}: not valid TOML: Invalid value (at line 2, column 8)"
    file.write_text("model = 'm'\n[sampling]\ntemprature = 1\n")
    assert fault(str(file)) == f"{file}: sampling.temprature: no such setting (nearest: sampling.temperature)"
    file.write_bytes(b"model = '\xff'\n")
    assert fault(str(file)) == f"{file}: is not UTF-8 (byte 9); save it as UTF-8"


def test_a_fault_of_the_whole_names_the_table():
    class Pair(Config):
        low: int = 0
        high: int = 1

        @model_validator(mode="after")
        def _ordered(self):
            if self.low > self.high:
                raise ValueError("low must not exceed high")
            return self

    class Outer(StageConfig):
        pair: Pair = Pair()

    with pytest.raises(BadInput, match=r"^pair: low must not exceed high$"):
        load(Outer, ["pair.low=3"], stage="none")


def test_keys_follow_the_chosen_member():
    assert "objective.beta" in set(keys(Stage, {}))
    assert "objective.tau" in set(keys(Stage, {"objective": {"name": "ipo"}}))
    assert "objective.beta" not in set(keys(Stage, {"objective": {"name": "ipo"}}))


numbers = st.floats(allow_nan=False, allow_infinity=False)
words_ = st.text(alphabet=string.printable + "é中\x7f\u2028😀", max_size=12).filter(lambda text: text != "none")
stages = st.builds(
    Stage,
    out=st.just(Path("runs")),
    name=st.none() | st.from_regex(r"\A[a-z]\w{0,8}\Z").filter(lambda text: text != "none"),
    seed=st.integers(0, 2**32 - 1),
    threads=st.none() | st.integers(1, 64),
    model=words_.filter(lambda text: "\0" not in text).map(Path),
    objective=st.builds(Dpo, beta=st.floats(1e-9, 1e9), label_smoothing=st.floats(0, 0.49))
    | st.builds(Ipo, tau=st.floats(1e-9, 1e9)),
    sampling=st.builds(Sampling, temperature=st.floats(0, 9), limit=st.none() | st.integers(1, 99)),
    languages=st.lists(words_, max_size=3).map(tuple),
    clip=st.none() | numbers.filter(lambda value: value != 7),
    reduction=st.sampled_from(["none", "mean"]),
    shuffle=st.booleans(),
    mixture=st.dictionaries(words_, numbers, max_size=3),
)


@given(stages)
def test_toml_and_json_load_equal(tmp_path_factory, made):
    folder = tmp_path_factory.mktemp("settings")
    (folder / "run.toml").write_text(to_toml(made), encoding="utf-8", newline="")
    (folder / "run.json").write_text(json.dumps(made.model_dump(mode="json")), encoding="utf-8")
    assert load(Stage, [str(folder / "run.toml")], stage="nothing") == made
    assert from_json(Stage, folder / "run.json") == made


def test_only_what_was_given_is_written_on_request(tmp_path):
    made = stage("objective.name=ipo", "clip=none")
    text = to_toml(made, only_given=True)
    assert text == 'model = "m"\nclip = "none"\n\n[objective]\nname = "ipo"\n'
    (tmp_path / "given.toml").write_text(text)
    assert load(Stage, [str(tmp_path / "given.toml")], stage="nothing") == made


def test_the_hash_covers_all_settings_but_the_place_and_the_name():
    base = stage()
    assert config_hash(base) == config_hash(stage("name=other", "out=elsewhere"))
    assert config_hash(base) != config_hash(stage("sampling.temperature=0.5"))
    assert config_hash(base) != config_hash(base, ["sha256:0"])


def test_settings_are_frozen_and_know_their_keys():
    made = stage()
    with pytest.raises(ValueError, match="frozen"):
        made.seed = 1
    with pytest.raises(ValueError, match="Extra inputs"):
        Stage(model=Path("m"), sede=1)
