"""Searches: Optuna's studies over configs, whose trials are runs of this library."""

from typing import TYPE_CHECKING

from deltarl import lazily

if TYPE_CHECKING:
    from deltarl.search.conduct import Tuned, tune
    from deltarl.search.load import load_search
    from deltarl.search.spec import Search, SearchSpec
else:
    __getattr__, __dir__ = lazily.names(
        __name__,
        {
            **dict.fromkeys(("Tuned", "tune"), "deltarl.search.conduct"),
            **dict.fromkeys(("Search", "SearchSpec"), "deltarl.search.spec"),
            "load_search": "deltarl.search.load",
        },
    )

__all__ = ["Search", "SearchSpec", "Tuned", "load_search", "tune"]
