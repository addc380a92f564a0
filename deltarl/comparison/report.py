"""The report of a comparison: a self-contained HTML page, its figures as files, its numbers as CSV."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import matplotlib as mpl
import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from deltarl import disk, places
from deltarl.comparison import tables, words
from deltarl.comparison.analysis import METRICS, Analysis, analyse
from deltarl.comparison.coverage import WORLDS
from deltarl.comparison.drawing import COLOURS, INK, RULE
from deltarl.comparison.erasure import ERASURE, measure_erasure, unmeasured, worths
from deltarl.comparison.estimates import ESTIMATES, OF_A_PAIR, OF_AN_ARM, OVER_TASKS
from deltarl.comparison.figures import figures
from deltarl.comparison.looks import record_look
from deltarl.comparison.records import Study, read_study
from deltarl.comparison.sensitivity import pooled_deviations, sensitivities
from deltarl.comparison.spec import COMPARISON, COSTS, SIZES, TUNING, UNTUNED
from deltarl.comparison.tuned_arms import tuned_arms
from deltarl.errors import ConfigError, suggestion
from deltarl.launch.display import default_console
from deltarl.training import folder as files
from deltarl.training.differences import leaves
from deltarl.training.spec import Part, fields_of

PAGE = "report.html"
SOURCES = "sources.sha256"
# The files of a run that the report uses; the last two exist for runs that measure gates, and that erase.
_OF_A_RUN = (files.CONFIG, files.PROVENANCE, files.EVALUATIONS, files.METRICS, files.RESULT, files.GATES, ERASURE)
PIXELS_AN_INCH = 160
_OPTIONS: Any = {"svg.fonttype": "none", "svg.hashsalt": "deltarl", "font.family": "sans-serif", "font.size": 9}
# The name and place of a run do not describe what it is.
_OF_THE_CELL = fields_of(Part.PLACE, Part.MACHINE)


def write_report(folder: Path | str, reference: str | None = None, out: Path | str | None = None) -> Path:
    """Write the report of a comparison's finished runs.

    The same records give the same bytes. Policies that erase are first evaluated without erasing, if their weights are
    available and this has not been done before.

    Args:
        folder: the comparison's folder.
        reference: the arm that the others are compared with; default: the comparison's.
        out: the output folder; default: `report/` in the comparison's folder.

    Returns:
        The page's path; next to it are the tables as CSV, and `figures/` as SVG and PNG.

    Raises:
        ConfigError: if the folder contains no comparison, no task on which every arm has finished, or a damaged record;
            if there is no such arm; if `out` cannot be written.
    """
    sources, study = sources_of(Path(folder)), read_study(folder)
    if reference is not None and reference not in study.spec.arms:
        raise ConfigError(f"--reference: no arm '{reference}'{suggestion(reference, study.spec.arms)}")
    out = Path(folder) / "report" if out is None else Path(out)
    places.check_folder(out, "--out")
    if unmeasured(study.records):
        measure_erasure(study.records, default_console())
        sources, study = sources_of(Path(folder)), read_study(folder)
    page = write_analysis(analyse(study, reference), out, sources)
    if out == Path(folder) / "report":
        record_look(study)
    return page


def sources_of(folder: Path) -> str:
    """A digest of everything a report depends on: the records of finished runs, the comparison, and this version."""
    runs = [path.parent for root in (folder, folder / UNTUNED) for path in root.glob(f"*/*/seed-*/{files.RESULT}")]
    of_runs = [run / name for run in runs for name in _OF_A_RUN]
    digests = [version("deltarl")]
    for path in sorted([folder / COMPARISON, folder / SIZES, folder / COSTS, folder / TUNING, *of_runs]):
        if path.is_file():
            digests.append(f"{path.relative_to(folder)} {disk.digest(path.read_bytes())}")
    return disk.digest("\n".join(digests).encode())


def is_of(report: Path, sources: str, reference: str) -> bool:
    """Whether the report in a folder is complete, made from these sources, and compares with this arm."""
    path = report / SOURCES
    return (report / PAGE).exists() and path.is_file() and path.read_bytes() == _stamp(sources, reference)


def _stamp(sources: str, reference: str) -> bytes:
    return f"{sources} {reference}\n".encode()


def write_analysis(analysis: Analysis, out: Path, sources: str) -> Path:
    """Write the report of an existing analysis; return the page's path.

    Args:
        analysis: the analysis.
        out: the output folder.
        sources: from `sources_of`, called before the records were read, so that later records make the report stale.
    """
    try:
        (out / "figures").mkdir(parents=True, exist_ok=True)
        (out / SOURCES).unlink(missing_ok=True)
        tables.write_tables(analysis, out)
        drawn = {}
        with mpl.rc_context(_OPTIONS):
            for name, description, figure in figures(analysis):
                drawn[name] = _inline(save_figure(figure, out / "figures" / name), name, description)
        (out / PAGE).write_text(_page(analysis, drawn), encoding="utf-8")
        (out / SOURCES).write_bytes(_stamp(sources, analysis.reference))
    except OSError as error:
        raise ConfigError(f"{out}: cannot be written: {error.strerror or error}") from None
    return out / PAGE


def save_figure(figure: Figure, path: Path) -> str:
    """Write a figure as SVG and PNG, and return its SVG."""
    figure.savefig(
        path.with_name(f"{path.name}.png"), dpi=PIXELS_AN_INCH, facecolor="white", metadata={"Software": None}
    )
    held = io.StringIO()
    figure.savefig(held, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = "\n".join(line.rstrip() for line in held.getvalue().splitlines()) + "\n"
    path.with_name(f"{path.name}.svg").write_text(svg, encoding="utf-8")
    return svg


def _inline(svg: str, name: str, description: str) -> Markup:
    """An SVG to embed in a page: in the page's colours, as wide as available, and with unique ids."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.S)
    body = re.sub(r'\b(id="|xlink:href="#|url\(#)', rf"\g<1>{name}-", body)
    opening, rest = body.split(">", 1)
    body = re.sub(r' (width|height)="[^"]*"', "", opening) + ">" + rest
    # The first colour is too dark for a dark page.
    body = body.replace(INK, "currentColor").replace(RULE, "var(--rule)").replace(COLOURS[0], "var(--blue)")
    label = Markup.escape(description)
    return Markup(body.replace("<svg", f'<svg role="img" aria-label="{label}"', 1))


def _page(analysis: Analysis, drawn: dict[str, Markup]) -> str:
    study = analysis.study
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": words.number,
        "p": words.probability,
        "interval": words.interval,
        "signed": _signed,
        "count": _count,
        "percent": _percent,
    }
    specs = [study.of(task, arm)[0].spec for task in study.tasks for arm in study.arms]
    return environment.get_template("report.html.jinja").render(
        analysis=analysis,
        study=study,
        figures=drawn,
        gates=[name for name in drawn if name.startswith("gates-")],
        against=[name for name in drawn if name.startswith("against-")],
        erasure=worths(study),
        tuned=tuned_arms(study),
        sensitivity=sensitivities(study),
        deviations=pooled_deviations(study),
        of_an_arm=OF_AN_ARM,
        of_a_pair=OF_A_PAIR,
        over_tasks=OVER_TASKS,
        estimates=ESTIMATES,
        worlds=list(WORLDS),
        metrics=METRICS,
        headline=words.headline(analysis),
        caution=words.caution(analysis),
        warnings=list(words.warnings(analysis)),
        common=words.common(analysis),
        costs=list(tables.costs(study)),
        commands=sorted({record.provenance["command"] for record in study.records}),
        differences=list(_differences(study, analysis.reference)),
        seeds=words.seeds(analysis),
        agents=_distinct(spec.agent.algorithm.upper() for spec in specs),
        steps=_distinct(f"{spec.total_timesteps:,}" for spec in specs),
        episodes=_distinct(str(spec.eval.episodes) for spec in specs),
    )


def _differences(study: Study, reference: str) -> Iterator[tuple[str, str]]:
    """How each arm's config differs from the reference's on the first task, as YAML."""
    task = study.tasks[0]
    base = leaves(study.of(task, reference)[0].spec.model_dump(mode="json", exclude=set(_OF_THE_CELL)))
    for arm in study.arms:
        own = leaves(study.of(task, arm)[0].spec.model_dump(mode="json", exclude=set(_OF_THE_CELL)))
        other = {key: value for key, value in own.items() if key not in base or base[key] != value}
        yield arm, yaml.safe_dump(other, sort_keys=False).strip() if other else "the reference"


def _distinct(texts: Iterable[str]) -> str:
    return " or ".join(dict.fromkeys(texts))


def _count(value: float | None) -> str:
    """A large number in thousands, millions, ..."""
    if value is None:
        return words.number(None)
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.3g}"


def _signed(weights: Mapping[str, float]) -> str:
    """A contrast as a signed sum, such as `0.5 a + 0.5 b` minus `c`."""
    terms = [
        f"{'+' if weight > 0 else words.MINUS} {'' if abs(weight) == 1 else f'{abs(weight):g} '}{arm}"
        for arm, weight in sorted(weights.items(), key=lambda item: -item[1])
    ]
    return " ".join(terms).removeprefix("+ ")


def _percent(value: float | None) -> str:
    return words.number(None) if value is None else f"{value:+.1%}".replace("-", words.MINUS)
