"""Puts a report together: reads the run, works out its sections, and writes one HTML file."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup

from heedlm import __version__
from heedlm.report.answers import Exchange, Figures, exchanges, in_figures
from heedlm.report.charts import Chart, chart
from heedlm.report.headline import Headline, headline
from heedlm.report.health import Fact, facts
from heedlm.report.panels import arrange
from heedlm.report.series import Series, collect
from heedlm.report.source import Source
from heedlm.report.stability import Stability, stability
from heedlm.report.words import duration, number, percent
from heedlm.runs import Run
from heedlm.runs.files import write_whole
from heedlm.runs.lineage import Node

_CJK = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]")
_LISTED = 400  # facts and settings listed at most
_OWN_GROUPS_SHORT = ("Outcome", "Loss", "Reward")  # what is shown of an earlier run


@dataclass(frozen=True)
class Earlier:
    """A run this one grew from, with the few charts that tell how it went."""

    name: str
    stage: str
    brief: str
    facts: list[tuple[str, str]]
    charts: list[Chart]


@dataclass(frozen=True)
class Branch:
    """One line of the lineage as the template draws it."""

    role: str
    name: str
    detail: str
    fingerprint: str
    sources: list[Branch] = field(default_factory=list)


@dataclass(frozen=True)
class Page:
    """Everything the template shows."""

    source: Source
    headline: Headline
    exchanges: list[Exchange]
    figures: Figures | None
    stability: Stability | None
    curves_of: str
    groups: list[tuple[str, list[Chart]]]
    facts: list[Fact]
    lineage: Branch
    earlier: list[Earlier]
    given: list[tuple[str, str]]
    defaults: list[tuple[str, str]]
    results: list[tuple[str, str]]
    command: str
    version: str = __version__

    @property
    def sections(self) -> list[tuple[str, str]]:
        """Anchors and names of the sections that have something to show."""
        shown = [
            ("result", "Result", True),
            ("answers", "Answers", bool(self.exchanges or self.figures)),
            ("stability", "Stability", self.stability is not None),
            ("curves", "Curves", bool(self.groups)),
            ("health", "Health", True),
            ("inputs", "What went in", True),
            ("earlier", "Other runs", bool(self.earlier)),
            ("quarantine", "Rows put aside", bool(self.source.quarantined)),
            ("numbers", "All results", bool(self.results)),
            ("again", "Run it again", True),
        ]
        return [(anchor, name) for anchor, name, wanted in shown if wanted]

    @property
    def wrong(self) -> bool:
        """Whether the health has a finding worse than "look at this"."""
        return any(fact.level == "bad" for fact in self.facts)

    @property
    def warning(self) -> str:
        """What stands under the headline where something is wrong."""
        bad, warn = (sum(fact.level == level for fact in self.facts) for level in ("bad", "warn"))
        parts = [f"{bad} finding{'s' if bad > 1 else ''} of trouble"] if bad else []
        parts += [f"{warn} to look at"] if warn else []
        return ", ".join(parts)

    def all_charts(self) -> Iterator[Chart]:
        """Every chart on the page."""
        yield from self.stability.charts if self.stability else ()
        for _, charts in self.groups:
            yield from charts
        for each in self.earlier:
            yield from each.charts


def write_report(path: str | Path) -> Path:
    """Write `report.html` into a run directory and return its path.

    Raises:
        BadInput: The folder is no run, or its `run.json` is damaged.
    """
    source = Source.read(path)
    target = Path(path) / "report.html"
    write_whole(target, render(source))
    return target


def render(source: Source) -> str:
    """The report of a run as one HTML text that refers to nothing outside itself.

    Everything read from the run is untrusted and escaped; the page's own content security policy lets no
    script run but the one whose hash it names, and nothing be fetched.
    """
    page = _page(source)
    script = _asset("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = Environment(
        loader=DictLoader({"report.html": _asset("report.html"), "parts.html": _asset("parts.html")}),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["lang"] = _lang
    environment.filters["number"] = number
    environment.filters["duration"] = duration
    return environment.get_template("report.html").render(
        page=page,
        info=source.info,
        style=Markup(_asset("report.css")),
        script=Markup(script),
        script_hash=digest,
        data=Markup(embedded({each.id: each.data for each in page.all_charts()})),
    )


def embedded(value: Any) -> str:
    """JSON that cannot end the script element it stands in, whatever texts it holds."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    unsafe = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
    return "".join(unsafe.get(char, char) for char in text)


def _page(source: Source) -> Page:
    subject, series = source.subject, collect(source.metrics)
    given = _flat(source.given)
    settings = _flat(source.settings)
    return Page(
        source=source,
        headline=headline(source, series),
        exchanges=exchanges(source.samples),
        figures=in_figures(source.results),
        stability=stability(source, series),
        curves_of="" if subject is source.run else f"{subject.info.stage}/{subject.name}",
        groups=_groups(series, "c"),
        facts=facts(source, series),
        lineage=_branch(source.lineage, set()),
        earlier=list(_earlier(source)),
        given=sorted(given.items()),
        defaults=sorted((key, value) for key, value in settings.items() if key not in given)[:_LISTED],
        results=list(_flat(source.info.results).items())[:_LISTED],
        command=command(source.info.argv),
    )


def command(argv: Sequence[str]) -> str:
    """The command as one would type it: the program by its name, whatever folder it lay in."""
    if not argv:
        return ""
    program = Path(argv[0])
    name = "heed" if program.name in ("heed", "__main__.py", "cli.py") else program.name
    return shlex.join([name, *argv[1:]])


def _groups(series: Mapping[str, Series], prefix: str) -> list[tuple[str, list[Chart]]]:
    groups, index = [], 0
    for group, panels in arrange(series).items():
        charts = []
        for panel, values in panels:
            charts.append(chart(f"{prefix}{index}", panel, values))
            index += 1
        groups.append((group, charts))
    return groups


def _earlier(source: Source) -> Iterator[Earlier]:
    """The other runs of this path, oldest first, each with its main charts and figures."""
    for place, run in enumerate(source.others):
        groups = _groups(collect(run.read_metrics()), f"e{place}-")
        charts = [each for name, charts in groups if name in _OWN_GROUPS_SHORT for each in charts][:3]
        found = [(key, value) for key, value in _flat(run.info.results).items() if "." not in key][:8]
        outputs = [(item.role, f"{item.rows} rows") for item in run.info.outputs if item.rows is not None]
        time = [("seed", str(run.info.seed)), ("time", duration(run.info.seconds))]
        yield Earlier(run.name, run.info.stage, _brief(run), [*time, *found, *outputs], charts)


def _brief(run: Run) -> str:
    """The one figure that tells most about an earlier run."""
    results = run.info.results
    accuracy = results.get("accuracy")
    interval = accuracy.get("accuracy") if isinstance(accuracy, Mapping) else None
    if isinstance(interval, Mapping) and isinstance(interval.get("estimate"), float):
        return f"held-out accuracy {percent(interval['estimate'])}"
    if isinstance(results.get("held_out_loss"), float):
        return f"held-out loss {number(results['held_out_loss'])} nats"
    rows = [f"{number(item.rows)} {item.role.replace('_', ' ')}" for item in run.info.outputs if item.rows is not None]
    return ", ".join(rows[:3])


def _branch(node: Node, seen: set[str]) -> Branch:
    """A node of the lineage; one that came up already is named but not unfolded again."""
    again = node.path in seen and bool(node.sources)
    seen.add(node.path)
    facts = [
        f"seed {node.seed}" if node.seed is not None else "",
        node.status if node.status not in (None, "complete") else "",
        "see above" if again else "",
    ]
    name = node.path if node.stage is None else f"{node.stage}/{Path(node.path).name}"
    mark = "" if "\n" in node.fingerprint or " " in node.fingerprint else node.fingerprint.removeprefix("sha256:")[:12]
    sources = [] if again else [_branch(source, seen) for source in node.sources]
    return Branch(node.role.replace("_", " "), name, ", ".join(fact for fact in facts if fact), mark, sources)


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested facts as dotted names and short texts."""
    found: dict[str, str] = {}
    for key, each in value.items():
        name = f"{prefix}{key}"
        if isinstance(each, Mapping) and each:
            found |= _flat(each, f"{name}.")
        elif isinstance(each, list) and each and isinstance(each[0], Mapping):
            for index, row in enumerate(each[:20]):
                found |= _flat(row, f"{name}.{index + 1}.") if isinstance(row, Mapping) else {}
        else:
            found[name] = _short(each)
    return found


def _short(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        shown = ", ".join(_short(each) for each in value[:24])
        return f"{shown} … ({len(value)} values)" if len(value) > 24 else shown or "empty"
    text = str(value)
    return text if len(text) <= 300 else f"{text[:300]}…"


def _lang(text: str) -> str:
    return "zh" if _CJK.search(text) else "en"


def _asset(name: str) -> str:
    return (resources.files("heedlm.report") / "templates" / name).read_text(encoding="utf-8")
