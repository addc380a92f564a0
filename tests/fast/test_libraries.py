"""Tells the libraries' own code from replacements."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
from stable_baselines3.sac import sac
from torch.nn import functional

from deltarl.fast.libraries import is_theirs


def somebody_elses(*_: object) -> None:
    """A function that is not from a library."""


@pytest.mark.parametrize("module", [sac, functional])
def test_a_module_is_theirs_until_one_of_its_functions_is_replaced(
    module: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert is_theirs(module)  # type: ignore[arg-type]
    monkeypatch.setattr(module, "polyak_update" if module is sac else "mse_loss", somebody_elses)
    assert not is_theirs(module)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "is_still_theirs"),
    [("__resume_at_30_2", True), ("__compiled_fn_3_ab", True), ("len", False), ("super", False)],
)
@pytest.mark.parametrize("value", [somebody_elses, partial(somebody_elses)])
def test_a_new_name_changes_nothing_unless_it_hides_a_builtin(
    name: str, is_still_theirs: bool, value: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    # PyTorch's compiler leaves the first two in the modules of the functions it has compiled.
    monkeypatch.setattr(sac, name, value, raising=False)
    assert is_theirs(sac) is is_still_theirs
