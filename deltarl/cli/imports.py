"""The option `--import`, for verbs that read configs or build environments."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer

from deltarl import plugins

ImportOption = Annotated[
    list[str] | None,
    typer.Option(
        "--import",
        metavar="MODULE",
        help="A module or file of your own with environments or blocks; may be given several times.",
        show_default=False,
    ),
]


def importing(verb: Callable[..., None]) -> Callable[..., None]:
    """Add the option to a verb; modules are imported before anything else happens."""

    @wraps(verb)
    def run(*arguments: Any, imports: list[str] | None = None, **options: Any) -> None:
        plugins.add(imports or [])
        verb(*arguments, **options)

    own = inspect.signature(verb, eval_str=True)
    option = inspect.Parameter("imports", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=ImportOption)
    run.__signature__ = own.replace(parameters=[*own.parameters.values(), option])  # type: ignore[attr-defined]
    return run
