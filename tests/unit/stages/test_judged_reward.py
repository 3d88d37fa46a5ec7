"""PPO with a judge's rating as its reward, by a local model and through an endpoint."""

import pytest
from tests.unit.judges.server import Endpoint, serving
from tests.unit.train import tiny

from heedlm.judges import endpoint
from heedlm.stages import rl


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


def test_an_endpoint_rewards_rollouts_and_is_asked_once_about_each(material, tmp_path):
    with serving(Endpoint(lambda question: "10")) as server:
        judge = {"name": "endpoint", "url": server.url, "model": "m", "replies": str(tmp_path / "replies.jsonl")}
        run = trained(material, tmp_path, judge)
    endpoint._client.cache_clear()
    assert [row["reward/mean"] for row in run.read_metrics() if "reward/mean" in row] == [1.0, 1.0]
    assert max(server.delivered.values()) == 1
