"""Training straight from a database: a run sees the labels of its point in time, also when it is taken up again."""

import pytest
from tests.unit.train import tiny

from heedlm import runs
from heedlm.cli.main import main
from heedlm.errors import Interrupted
from heedlm.feedback.accounts import Accounts
from heedlm.feedback.assignment import Assigner
from heedlm.feedback.database import Database
from heedlm.feedback.projects import Projects
from heedlm.feedback.tasks import Content
from heedlm.records import Answer, Comparison, Message, read
from heedlm.runs import Run, lineage, models_that_saw
from heedlm.stages import prefer, reward, sft

TEXTS = ("In the red house.", "I do not know.")


class Team:
    """A database in which ann ranks pairs of answers."""

    def __init__(self, folder):
        self.file = folder / "feedback.db"
        self.database = Database(str(self.file))
        people = Accounts(self.database)
        self.ann = people.create("ann", "correct horse battery", "owner")
        self.projects, self.assigner = Projects(self.database), Assigner(self.database)

    def project(self, kind, answers, count=24):
        made = self.projects.create(self.ann, kind, kind)
        contents = [
            Content(
                prompt=(Message(role="user", content=f"Where? {n}"),),
                answers=tuple(Answer(text=text) for text in TEXTS[:answers]),
            )
            for n in range(count)
        ]
        self.projects.add_items(self.ann, made.id, contents)
        return made

    def label(self, project, reply, count):
        for _ in range(count):
            task = self.assigner.next(self.ann, project.id)
            self.assigner.submit(self.ann, task.id, reply(task), key=f"key {task.id}", base=0, seconds=1)


@pytest.fixture
def team(tmp_path):
    made = Team(tmp_path)
    tiny.folder(tmp_path / "model", seed=1)
    yield made
    made.database.close()


def ranks(task):
    return {"ranks": [answer + 1 for answer in task.order]}


def test_a_reward_run_sees_its_labels_alone_also_when_taken_up_again(team, tmp_path, monkeypatch):
    project = team.project("rank", 2)
    team.label(project, ranks, 16)
    data = f"{team.file}#rank"
    settings = {"model": tmp_path / "model", "data": data, "batch": 2, "epochs": 2, "cadence__checkpoint": 2}
    asked = iter([None] * 5 + [2] * 100)
    with monkeypatch.context() as patch:
        patch.setattr(runs, "stop_requested", lambda: next(asked))
        with pytest.raises(Interrupted):
            tiny.run(reward, tmp_path / "runs", **settings)
    (stopped,) = (tmp_path / "runs" / "reward").iterdir()
    source = Run.open(stopped).info.inputs[1]
    assert source.role == "comparisons"
    assert source.run.startswith("export/rank-")
    exported = source.locate(stopped)
    assert Run.open(exported).info.results["labels"]["upto"] == 16
    team.label(project, ranks, 8)
    assert main(["resume", str(stopped), "--quiet"]) == 0
    done = Run.open(stopped)
    assert done.info.status == "complete"
    assert done.info.results["prompts"] <= 16
    assert len(read(exported / "comparisons.jsonl", Comparison)) == 16
    later = tiny.run(reward, tmp_path / "runs", **settings)
    assert Run.open(later.info.inputs[1].locate(later.path)).info.results["labels"]["upto"] == 24
    earlier = tiny.run(reward, tmp_path / "runs", **settings | {"data": f"{data}@16", "name": "again"})
    assert earlier.info.inputs[1].fingerprint == source.fingerprint
    assert lineage(earlier).sources[1].sources == ()
    made = {each.path.rpartition("/")[2] for each in models_that_saw(exported, (tmp_path / "runs",))}
    assert made == {done.name, earlier.name}


def test_preferences_thumbs_and_demonstrations_are_read_too(team, tmp_path):
    pairs, thumbs, written = team.project("pair", 2), team.project("thumb", 1), team.project("write", 0)
    team.label(pairs, lambda task: {"better": task.order.index(0), "strength": "better"}, 8)
    places = iter(range(100))
    team.label(thumbs, lambda task: {"up": next(places) % 2 == 0}, 8)
    team.label(written, lambda task: {"text": TEXTS[0], "category": "open_qa"}, 8)
    common = {"model": tmp_path / "model", "batch": 4, "epochs": 1, "held_out_share": 0}
    made = [
        tiny.run(prefer, tmp_path / "runs", **common, data=f"{team.file}#pair"),
        tiny.run(
            prefer, tmp_path / "runs", **common, data=f"{team.file}#thumb", labels="thumbs", objective__name="kto"
        ),
        tiny.run(sft, tmp_path / "runs", **common, data=f"{team.file}#write"),
    ]
    assert all(run.info.status == "complete" for run in made)
    assert made[2].info.results["demonstrations"] == 8
