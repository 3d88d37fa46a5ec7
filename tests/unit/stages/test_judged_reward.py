"""PPO with a judge's rating as its reward, by a local model and through an endpoint."""

import pytest
from tests.unit.judges.server import Endpoint, serving
from tests.unit.train import tiny

from heedlm.errors import BadInput
from heedlm.judges import endpoint, frames
from heedlm.stages import best_of_n, rl


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    folder = tmp_path_factory.mktemp("material")
    tiny.folder(folder / "model", seed=1)
    tiny.folder(folder / "judge", seed=2, context=2048)
    tiny.prompts(folder / "prompts.jsonl", 8)
    return folder


def trained(material, out, judge):
    return tiny.run(
        rl, out, model=material / "model", prompts=material / "prompts.jsonl",
        reward={"name": "judged", "judge": judge},
        steps=2, rollouts=4, minibatch=2, critic={"pretrain": 1}, watch=2, sampling={"max_new_tokens": 6},
        cadence={"evaluate": 0},
    )  # fmt: skip


def test_a_local_judge_rewards_rollouts(material, tmp_path):
    run = trained(material, tmp_path, {"name": "local", "path": str(material / "judge")})
    scores = [row["reward/mean"] for row in run.read_metrics() if "reward/mean" in row]
    assert len(scores) == 2
    assert all(-1 < score < 1 for score in scores)
    assert {item.role: item.path for item in run.info.inputs}["reward_model"].endswith("judge")


def paid(server, tmp_path, **price):
    return {
        "name": "endpoint", "url": server.url, "model": "m", "replies": str(tmp_path / "replies.jsonl"),
        "price": {"tokens_in": 0.0, "tokens_out": 1e6} | price,
    }  # fmt: skip


def test_the_cost_of_a_judges_reward_is_shown_and_refused_before_the_first_question(material, tmp_path, capsys):
    """Two buffers, one that the critic starts on, and the watched prompts before and after: 3 · 4 + 2 · 2 ratings."""
    with serving(Endpoint(lambda question: "10")) as server:
        trained(material, tmp_path / "a", paid(server, tmp_path))
        told = capsys.readouterr().err
        assert "16 questions" in told
        assert f"cost at most {16 * frames.SHORT:.2f}" in told
        assert 0 < sum(server.delivered.values()) <= 16
        asked = len(server.bodies)
        for stage, more in ((rl, {"steps": 2, "rollouts": 4, "minibatch": 2}), (best_of_n, {"n": 4})):
            with pytest.raises(BadInput, match=r"max_cost: up to .* would be spent and 20\.00 may be"):
                tiny.run(
                    stage, tmp_path / "b", model=material / "model", prompts=material / "prompts.jsonl",
                    reward={"name": "judged", "judge": paid(server, tmp_path, max_cost=20.0)},
                    sampling={"max_new_tokens": 6}, **more,
                )  # fmt: skip
        assert len(server.bodies) == asked
        assert not (tmp_path / "b").exists()
    endpoint._client.cache_clear()


def test_an_endpoint_rewards_rollouts_and_is_asked_once_about_each(material, tmp_path):
    with serving(Endpoint(lambda question: "10")) as server:
        judge = {"name": "endpoint", "url": server.url, "model": "m", "replies": str(tmp_path / "replies.jsonl")}
        run = trained(material, tmp_path, judge)
    endpoint._client.cache_clear()
    assert [row["reward/mean"] for row in run.read_metrics() if "reward/mean" in row] == [1.0, 1.0]
    assert max(server.delivered.values()) == 1
