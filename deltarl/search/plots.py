"""Optuna's plots of a study in one HTML page, which needs no network."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deltarl.search.engines import quietly
from deltarl.training import folder as files

if TYPE_CHECKING:
    import optuna

LEAST = 2  # finished trials that there is anything to plot of
STYLE = "body{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:2em auto;padding:0 1em}h2{margin:1.5em 0 0}"


def write_page(study: optuna.Study, path: Path) -> None:
    """Write the page; it names the plots that need more trials."""
    sections = "".join(_sections(study))
    name = html.escape(study.study_name)
    files.write_text(
        path,
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{name}</title><style>{STYLE}</style>'
        f"</head><body><h1>{name}</h1>{sections}</body></html>\n",
    )


def _plots() -> dict[str, tuple[str, Callable[[optuna.Study], Any]]]:
    from optuna import visualization  # noqa: PLC0415 - an extra

    return {
        "History": ("The score of each trial, and the best so far.", visualization.plot_optimization_history),
        "Evaluations": (
            "Evaluations of each trial during training; the runs of several seeds follow one another.",
            visualization.plot_intermediate_values,
        ),
        "Importances": (
            "How much of the difference between good trials and all others each parameter accounts for (PED-ANOVA).",
            visualization.plot_param_importances,
        ),
        "Slices": ("The score against each parameter.", visualization.plot_slice),
        "Parallel coordinates": ("Each line is a trial.", _parallel),
    }


def _parallel(study: optuna.Study) -> Any:
    from optuna import visualization  # noqa: PLC0415

    finished = [trial for trial in study.get_trials(deepcopy=False) if trial.state.name == "COMPLETE"]
    # Optuna leaves out trials without one of the parameters, so those with conditions are.
    shared = set.intersection(*(set(trial.params) for trial in finished))
    return visualization.plot_parallel_coordinate(study, params=sorted(shared))


def _sections(study: optuna.Study) -> Iterator[str]:
    from plotly.io import to_html  # noqa: PLC0415

    finished = sum(trial.state.name == "COMPLETE" for trial in study.get_trials(deepcopy=False))
    is_first = True
    for title, (about, plot) in _plots().items():
        yield f"<h2>{title}</h2><p>{about}</p>"
        if finished < LEAST:
            yield f"<p>Nothing yet: {finished} of at least {LEAST} trials have finished.</p>"
            continue
        try:
            with quietly():
                figure = plot(study)
        except (ValueError, RuntimeError, ZeroDivisionError) as error:  # equal scores, for instance
            yield f"<p>Nothing yet: {html.escape(str(error))}</p>"
            continue
        yield to_html(figure, full_html=False, include_plotlyjs=is_first)
        is_first = False
