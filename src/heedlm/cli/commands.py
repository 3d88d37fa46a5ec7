"""The commands, in the order of the path from text to an aligned model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """A command: the module with its `Config` and `run`, and what help says of it."""

    module: str
    group: str
    summary: str
    example: str = ""


GROUPS = ("Data", "Model", "Feedback", "Alignment", "Measure and use", "Runs", "Whole path")

# Other words for a command; help, presets and runs are the command's own.
ALIASES = {"rl": "ppo", "best-of-n": "best_of_n", "feedback import": "import", "feedback export": "export"}

COMMANDS = {
    "village": Command(
        "heedlm.stages.village",
        "Data",
        "generate a small world with known truth: corpora, demonstrations, prompts",
        "heed village tiny",
    ),
    "check": Command(
        "heedlm.stages.check",
        "Data",
        "tell what a data file holds: format, rows, lengths, duplicates, problems by line",
        "heed check comparisons.jsonl",
    ),
    "pretrain": Command(
        "heedlm.stages.pretrain",
        "Model",
        "train a base model on plain text",
        "heed pretrain tiny data=corpus.jsonl",
    ),
    "sft": Command(
        "heedlm.stages.sft",
        "Model",
        "fine-tune a model on demonstrations",
        "heed sft tiny model=runs/pretrain/NAME data=demonstrations.jsonl",
    ),
    "sample": Command(
        "heedlm.stages.sample",
        "Feedback",
        "let a model give several answers to each prompt",
        "heed sample model=runs/sft/NAME prompts=prompts.jsonl",
    ),
    "label": Command(
        "heedlm.stages.label",
        "Feedback",
        "rank the answers to each prompt by simulated annotators, or by a judge or grader",
        "heed label answers=runs/sample/NAME judge.name=local judge.path=MODEL",
    ),
    "critique": Command(
        "heedlm.stages.critique",
        "Feedback",
        "criticise and revise a model's answers by the principles of a constitution, into demonstrations",
        "heed critique answers=runs/sample/NAME reviewer=MODEL",
    ),
    "denoise": Command(
        "heedlm.stages.denoise",
        "Feedback",
        "find comparisons that are likely wrong, by many reward models, and mend them",
        "heed denoise model=runs/sft/NAME data=runs/label/NAME",
    ),
    "steps": Command(
        "heedlm.stages.steps",
        "Feedback",
        "label the steps of answers as right or wrong, by checking them or by completing from each",
        "heed steps answers=runs/sample/NAME",
    ),
    "agreement": Command(
        "heedlm.stages.agreement",
        "Feedback",
        "tell how far annotators agree, what sways them and who may not have read",
        "heed agreement comparisons.jsonl",
    ),
    "reward": Command(
        "heedlm.stages.reward",
        "Alignment",
        "train a reward model on comparisons",
        "heed reward tiny model=runs/sft/NAME data=comparisons.jsonl",
    ),
    "prefer": Command(
        "heedlm.stages.prefer",
        "Alignment",
        "train the policy on comparisons or thumbs without a reward model: DPO, IPO, KTO, ORPO, SimPO",
        "heed prefer tiny model=runs/sft/NAME data=comparisons.jsonl",
    ),
    "ppo": Command(
        "heedlm.stages.rl",
        "Alignment",
        "train the policy against a reward, held close by KL: PPO, RLOO, GRPO and others (also: heed rl)",
        "heed ppo tiny model=runs/sft/NAME reward=runs/reward/NAME prompts=prompts.jsonl",
    ),
    "best_of_n": Command(
        "heedlm.stages.best_of_n",
        "Alignment",
        "keep the best of n answers to each prompt by a reward: the answers, and demonstrations to fine-tune on",
        "heed best_of_n tiny model=runs/sft/NAME reward=runs/reward/NAME prompts=prompts.jsonl n=16",
    ),
    "evaluate": Command(
        "heedlm.stages.evaluate",
        "Measure and use",
        "measure a model against another: win rate, reward, KL, length, perplexity",
        "heed evaluate model=runs/ppo/NAME against=runs/sft/NAME prompts=prompts.jsonl",
    ),
    "score": Command(
        "heedlm.stages.score",
        "Measure and use",
        "log-probability and perplexity of texts, or the reward of answers",
        'heed score runs/sft/NAME text="The cat sat on the mat."',
    ),
    "chat": Command(
        "heedlm.stages.chat", "Measure and use", "talk to a model in the terminal", "heed chat runs/ppo/NAME"
    ),
    "serve": Command(
        "heedlm.stages.serve",
        "Measure and use",
        "the web application: chat, annotation, projects, runs",
        "heed serve feedback.db",
    ),
    "owner": Command(
        "heedlm.stages.owner",
        "Measure and use",
        "make the first owner of a feedback database, or give somebody a new password",
        "heed owner ada",
    ),
    "import": Command(
        "heedlm.stages.importing",
        "Feedback",
        "put answers and judgements from a file into a project: Heed's rows, Argilla's and Label Studio's exports",
        "heed import answers.jsonl project=Frogs",
    ),
    "export": Command(
        "heedlm.stages.export",
        "Feedback",
        "a project's labels, or what people said in chats, as rows that train a model",
        "heed export Frogs to=comparisons.jsonl",
    ),
    "backup": Command(
        "heedlm.stages.backup",
        "Feedback",
        "save a feedback database, also while people work in it",
        "heed backup feedback.db to=backups/monday.db",
    ),
    "restore": Command(
        "heedlm.stages.restore",
        "Feedback",
        "a feedback database from its backup; nothing is overwritten",
        "heed restore backups/monday.db to=feedback.db",
    ),
    "report": Command(
        "heedlm.stages.report",
        "Measure and use",
        "write a run's report: one self-contained HTML file",
        "heed report runs/ppo/NAME",
    ),
    "watch": Command(
        "heedlm.stages.watch",
        "Runs",
        "follow a run in the terminal: curves, state, newest sample",
        "heed watch runs/ppo/NAME",
    ),
    "monitor": Command(
        "heedlm.stages.monitor",
        "Runs",
        "tell from a training log, any trainer's, whether the policy collapsed (exit code 3) and since when",
        "heed monitor runs/ppo/NAME",
    ),
    "lineage": Command(
        "heedlm.stages.lineage",
        "Runs",
        "show what a run was made from, or what has seen a data set",
        "heed lineage runs/ppo/NAME",
    ),
    "resume": Command("heedlm.cli.resume", "Runs", "go on with a run that was stopped", "heed resume runs/ppo/NAME"),
    "compare": Command(
        "heedlm.pipelines.compare",
        "Whole path",
        "several methods over several seeds on the same feedback, tuned and measured alike",
        "heed compare model=runs/sft/NAME data=runs/label/NAME reward=runs/reward/NAME prompts=runs/village/NAME",
    ),
    "loop": Command(
        "heedlm.pipelines.loop",
        "Whole path",
        "rounds of sampling, comparing, refitting the reward model and training",
        "heed loop model=runs/sft/NAME prompts=runs/village/NAME",
    ),
    "align": Command(
        "heedlm.pipelines.align",
        "Whole path",
        "align a model of your own: every stage you give input for",
        "heed align --model PATH --demonstrations FILE --comparisons FILE --prompts FILE",
    ),
    "constitution": Command(
        "heedlm.pipelines.constitution",
        "Whole path",
        "a constitutional round: critique, revision, fine-tuning, comparisons by principle, reward model, PPO",
        "heed constitution tiny model=runs/sft/NAME prompts=runs/village/NAME",
    ),
    "self-reward": Command(
        "heedlm.pipelines.self_reward",
        "Whole path",
        "self-rewarding rounds: sample, grade by a rubric, train on best against worst, and again",
        "heed self-reward model=runs/sft/NAME prompts=prompts.jsonl grader.path=self",
    ),
    "demo": Command(
        "heedlm.pipelines.demo",
        "Whole path",
        "the whole path on the village, from nothing to a measured report",
        "heed demo seed=3",
    ),
}
