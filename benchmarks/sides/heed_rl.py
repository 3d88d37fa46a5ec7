"""Heed's side of one step of reinforcement learning: the stage's own trainer, fed without files."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from typing import Any

from benchmarks import data
from benchmarks.flops import Decoder
from benchmarks.job import Absent, Job, Outcome, Pass, answered
from benchmarks.sides.heed import budget, computing, load, newest_engine
from heedlm import rollout
from heedlm.models.scalar import new_critic, new_reward
from heedlm.records import Message, Prompt
from heedlm.rewards.learned import LearnedReward
from heedlm.stages import rl
from heedlm.stages.rl.watching import Watch
from heedlm.train.optim import Optim


class Unrecorded:
    """Stands where a run directory would be: nothing of a timed step belongs on the disk."""

    def note(self, **values: Any) -> None:
        """Forget the values."""


def rl_step(job: Job) -> Outcome:
    """PPO: K answers to each prompt, a reward model, KL to a reference, one update of policy and of critic."""
    policy, _, chat = load(job)
    known = job.settings
    each = known["rollouts"] // known["answers"]
    asked = data.questions(chat, each * (1 + known["passes"]), known["longest_prompt"], toy=job.model == "toy")
    scorer = new_reward(policy, seed=0)
    reference, critic = copy.deepcopy(policy), new_critic(scorer)
    for model in (policy, reference, scorer, critic):
        computing(model, job.precision)
    optim = Optim(lr=1e-5, schedule="constant", warmup=0.0)
    config = rl.Config(
        model="m", prompts="p", reward={"name": "learned", "path": "r"}, seed=job.seed, steps=1 + known["passes"],
        rollouts=known["rollouts"], minibatch=known["rollouts"], passes=1, optim=optim,
        critic={"pretrain": 0, "optim": optim}, engine=_engine(job),
        sampling={"max_new_tokens": known["max_new_tokens"]}, budget=budget(job, rl),
    )  # fmt: skip
    reward = LearnedReward(scorer, config.budget)
    watch = Watch([], reward, None, chat, config.sampling, job.seed)
    prompts = _repeated(asked[:each], known["answers"])
    method = rl.Reinforcement(config, Unrecorded(), policy, reference, critic, reward, chat, prompts, watch, [])
    lengths = _remembering(method.engine)
    critic_seconds = _timing_critic(method)
    seconds = 0.0
    for index in range(1 + known["passes"]):
        if index == 1:
            critic_seconds.clear()
        method.prompts = _repeated(asked[index * each : (index + 1) * each], known["answers"])
        began = time.perf_counter()
        method.step(index)
        seconds += time.perf_counter() - began if index else 0.0
    counted = lengths[1:]
    prompts, answers = [n for a, _ in counted for n in a], [n for _, a in counted for n in a]
    detail: dict[str, Any] = answered(prompts, answers, known["max_new_tokens"])
    detail |= {"steps": known["passes"], "critic": True, "critic_seconds": round(sum(critic_seconds), 4)}
    flops = Decoder.of(policy.config).rl_step(prompts, answers, critic=True)
    return Outcome([Pass(seconds, sum(answers), flops)], detail)


def _engine(job: Job) -> dict[str, Any]:
    name = job.options.get("engine", newest_engine())
    asked = {"name": name}
    if job.precision != "float32":
        kind = getattr(rollout, name.capitalize(), None)
        field = next((f for f in ("precision", "dtype", "compute") if kind and f in kind.model_fields), None)
        if field is None:
            raise Absent("not yet built: an engine that computes in bfloat16 beside float32 weights")
        asked[field] = job.precision
    return asked


def _repeated(asked: Sequence[tuple[Message, ...]], times: int) -> list[Prompt]:
    """Every prompt as often as it gets answers."""
    return [Prompt(id=f"{i}-{k}", messages=messages) for i, messages in enumerate(asked) for k in range(times)]


def _remembering(engine: Any) -> list[tuple[list[int], list[int]]]:
    """Lengths of the prompts and answers of every buffer that the engine makes from now on."""
    seen: list[tuple[list[int], list[int]]] = []
    generate = engine.generate

    def kept(*known: Any, **more: Any) -> Any:
        rollouts = generate(*known, **more)
        seen.append((rollouts.prompt_lengths.tolist(), rollouts.response_lengths.tolist()))
        return rollouts

    engine.generate = kept
    return seen


def _timing_critic(method: Any) -> list[float]:
    """Seconds of each of the critic's updates from now on, so that a step without a critic can be told."""
    spent: list[float] = []
    learn = method._learn_critic

    def timed(*known: Any) -> Any:
        began = time.perf_counter()
        found = learn(*known)
        spent.append(time.perf_counter() - began)
        return found

    method._learn_critic = timed
    return spent
