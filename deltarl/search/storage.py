"""The study that trials belong to: where Optuna stores it, and which process works on which trial.

A process holds a lock on the folder of its trial. A trial that Optuna calls running, and whose lock is free, has been
left: its process was stopped or killed. Any other process takes it over, and its runs resume from their checkpoints.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deltarl import yaml_text
from deltarl.errors import ConfigError
from deltarl.reading import check_plain, read_yaml, readable
from deltarl.search.engines import CMAESSpec, make_pruner, make_sampler, quietly
from deltarl.search.space import Value
from deltarl.search.spec import TRIALS, Search, trial_name
from deltarl.training import folder as files
from deltarl.training.differences import leaves
from deltarl.training.locks import is_locked, locked
from deltarl.training.spec import Part, fields_of

if TYPE_CHECKING:
    import optuna

STUDY = "study.yaml"
DATABASE = "study.db"
LOCK = ".lock"
JOURNAL = "journal:"  # of the URL of a journal file
SECONDS = 60  # that a process waits for another one's transaction in SQLite
MOST_DEATHS = 3  # of processes on one trial, before it is taken to be the trial's fault
# User attributes of Optuna's trials.
VALUES, SCORES, REASON, DEATHS, LEFT = "values", "scores", "reason", "deaths", "left"


@dataclass(frozen=True)
class Place:
    """Where a study is stored.

    Attributes:
        folder: the study's folder.
        url: Optuna's URL; None for SQLite in the folder.
    """

    folder: Path
    url: str | None = None

    @property
    def shown(self) -> str | None:
        """The URL without its password."""
        return None if self.url is None else re.sub(r"(://[^/@:]*):[^@/]*@", r"\1:***@", self.url)

    def trial(self, number: int) -> Path:
        """The folder of a trial."""
        return self.folder / TRIALS / trial_name(number)


def check_packages(search: Search) -> None:
    """Check that Optuna is installed, and what the sampler needs.

    Raises:
        ConfigError: if not; says what to install.
    """
    needed = ["optuna", "plotly", *(["cmaes"] if isinstance(search.spec.sampler, CMAESSpec) else [])]
    if missing := [name for name in needed if find_spec(name) is None]:
        raise ConfigError(f"tune: {', '.join(missing)} not installed; install with: pip install 'deltarl[tune]'")


def check_same(search: Search, place: Place) -> None:
    """Check that a folder is free, or contains a study that the search can resume; nothing is changed.

    Raises:
        ConfigError: names the first key that differs.
    """
    folder = place.folder
    if not folder.exists():
        return
    check_plain(folder)
    path = folder / STUDY
    if not path.exists():
        if any(each.name not in {LOCK, f"{STUDY}.tmp", DATABASE} for each in folder.iterdir()):
            raise ConfigError(f"{folder}: contains files but no {STUDY}; give another name= or out=")
        return
    with readable(path):
        stored, given = leaves(read_yaml(path)), leaves(json.loads(json.dumps(_told(search, place))))
    free = ("pruner", "sampler", *(f"run.{name}" for name in fields_of(Part.PLACE, Part.CADENCE)))
    for key in sorted(stored.keys() | given.keys()):
        ours, theirs = given.get(key, "nothing"), stored.get(key, "nothing")
        if not key.startswith(free) and not yaml_text.is_same(ours, theirs):
            raise ConfigError(
                f"{folder}: this study has {key} {theirs}, but it is now {ours}; change it back, or give another name="
            )


def write_study(search: Search, place: Place) -> None:
    """Write the study's definition, which later calls compare with theirs."""
    files.write_text(place.folder / STUDY, yaml_text.dump(_told(search, place)))


def _told(search: Search, place: Place) -> dict[str, Any]:
    run = search.run.model_dump(mode="json", exclude={"seeds"})
    return {"storage": place.shown, **search.spec.model_dump(mode="json"), "run": run}


def open_study(search: Search, place: Place) -> optuna.Study:
    """Open a study, or begin one.

    Raises:
        ConfigError: if the storage cannot be reached.
    """
    import optuna  # noqa: PLC0415 - an extra
    from optuna import storages  # noqa: PLC0415
    from optuna.storages import journal  # noqa: PLC0415

    with quietly():
        try:
            storage: storages.BaseStorage
            if place.url is None:
                options = {"connect_args": {"timeout": SECONDS}}
                storage = storages.RDBStorage(f"sqlite:///{place.folder / DATABASE}", engine_kwargs=options)
            elif place.url.startswith(JOURNAL):
                path = place.url.removeprefix(JOURNAL).removeprefix("//")
                storage = storages.JournalStorage(journal.JournalFileBackend(path))
            else:
                storage = storages.RDBStorage(place.url)
            return optuna.create_study(
                storage=storage,
                study_name=search.run.name,
                direction="maximize",
                load_if_exists=True,
                pruner=make_pruner(search.spec.pruner, search.evaluations * len(search.seeds)),
            )
        except Exception as error:  # whatever the database's package raises
            shown = place.shown or str(place.folder / DATABASE)
            hint = str(error)
            if isinstance(error, ModuleNotFoundError):
                hint = f"its package is not installed: {error.name}"
            # The text may be long, and may contain the password.
            reason = " ".join(hint.replace(place.url or shown, shown).split())[:200]
            raise ConfigError(f"--storage: {shown} cannot be opened: {reason}") from None


@dataclass(frozen=True)
class Claim:
    """A trial that this process works on.

    Attributes:
        trial: Optuna's trial.
        values: what it gives the options, by path.
    """

    trial: optuna.Trial
    values: Mapping[str, Value]


@contextmanager
def claimed(search: Search, place: Place, study: optuna.Study, most: int | None) -> Iterator[Claim | None]:
    """Take over a trial that was left, or ask for a new one; None if there are `most` trials.

    The trial's folder is locked within the context. One process at a time chooses, so that none is chosen twice.
    """
    from optuna.trial import TrialState  # noqa: PLC0415

    with ExitStack() as held:
        with locked(place.folder / LOCK, wait=True), quietly():
            trial = _left(search, place, study, held)
            # Trials with given values wait until they are asked for.
            known = sum(each.state != TrialState.WAITING for each in study.get_trials(deepcopy=False))
            if trial is None and (most is None or known < most):
                study.sampler = make_sampler(search.spec.sampler, known)
                trial = study.ask()
                held.enter_context(_held(place.trial(trial.number)))
            claim = None if trial is None else _begun(search, trial)
        yield claim


def _begun(search: Search, trial: optuna.Trial) -> Claim:
    values: dict[str, Value] = {}
    for path, parameter in search.spec.space.items():
        if search.is_searched(path, values):
            values[path] = parameter.draw(trial, path)
    trial.set_user_attr(VALUES, values)
    trial.set_user_attr(LEFT, False)
    return Claim(trial, values)


def _left(search: Search, place: Place, study: optuna.Study, held: ExitStack) -> optuna.Trial | None:
    """A trial marked as running whose process is gone; its folder is now locked by this one."""
    from optuna.trial import Trial, TrialState  # noqa: PLC0415

    for found in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        folder = place.trial(found.number)
        # Without a folder, it is another machine's, or its process died before it made one.
        if (not folder.exists() and place.url is not None) or is_locked(folder / LOCK):
            continue
        study.sampler = make_sampler(search.spec.sampler, found.number)
        trial = Trial(study, found._trial_id)
        deaths = int(found.user_attrs.get(DEATHS, 0)) + (not found.user_attrs.get(LEFT, False))
        if deaths >= MOST_DEATHS:
            fail(study, trial, f"its process died {deaths} times")
            continue
        held.enter_context(_held(folder))
        trial.set_user_attr(DEATHS, deaths)
        return trial
    return None


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / LOCK):
        yield


def fail(study: optuna.Study, trial: optuna.Trial, reason: str) -> None:
    """Mark a trial as failed, with its reason."""
    from optuna.trial import TrialState  # noqa: PLC0415

    trial.set_user_attr(REASON, reason)
    study.tell(trial, state=TrialState.FAIL)
