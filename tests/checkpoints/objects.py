"""Objects of many classes, and the operations that tests of captured state apply to them."""

from __future__ import annotations

import collections
import copy
import dataclasses
import enum
import json
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

from deltarl.checkpoints.state import capture, restore


class Holder:
    """Any object with attributes."""

    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes)


def through_json(root: Any, into: Any) -> Any:
    """Fill `into` from a capture of `root` that was written as JSON."""
    snapshot = capture(root)
    assert snapshot.unsupported == {}
    snapshot.tree = json.loads(json.dumps(snapshot.tree, allow_nan=False))
    filled, missing = restore(into, snapshot)
    assert missing == []
    return filled


def reported(root: Any, into: Any) -> tuple[Any, list[str]]:
    """Like `through_json`, but also returns what could not be stored or restored."""
    snapshot = capture(root)
    snapshot.tree = json.loads(json.dumps(snapshot.tree, allow_nan=False))
    filled, missing = restore(into, snapshot)
    return filled, [*snapshot.unsupported, *missing]


def resumed(value: Any, fresh: Any) -> tuple[Any, list[str]]:
    """`fresh` after a capture of `value`, written as JSON, is restored into it; and the paths that are reported."""
    snapshot = capture(Holder(value=value))
    snapshot.tree = json.loads(json.dumps(snapshot.tree, allow_nan=False))
    snapshot.tensors = {path: tensor.clone() for path, tensor in snapshot.tensors.items()}
    back, missing = restore(Holder(value=fresh), snapshot)
    return back.value, [*snapshot.unsupported, *missing]


class Bag(dict[Any, Any]):
    """A dict with an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0


class Row(list[Any]):
    """A subclass of list."""


class Names(set[Any]):
    """A subclass of set."""


class Line(collections.deque[Any]):
    """A subclass of deque."""


class Level(int):
    """A subclass of a number."""


class Slotted:
    """An object with slots."""

    __slots__ = ("_hidden", "n", "never")

    def __init__(self) -> None:
        self.n, self._hidden = 0, [0]


class SlottedChild(Slotted):
    """An object with slots and a `__dict__`."""

    def __init__(self) -> None:
        super().__init__()
        self.more = 0


@dataclasses.dataclass(frozen=True)
class Frozen:
    """Immutable, so it is replaced instead of changed."""

    n: int
    where: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class FrozenSlots:
    """The same with slots."""

    n: int


class Pair(NamedTuple):
    """A named tuple."""

    x: Any
    y: Any


class Mode(enum.Enum):
    """An enum of two members."""

    walk = 1
    run = 2


class Bits(enum.Flag):
    """A flag of two members."""

    a = 1
    b = 2


class Machine:
    """A state machine whose state is a bound method."""

    total = 0

    def __init__(self) -> None:
        self.n = 0
        self.act = self.idle

    def idle(self) -> str:
        return f"idle {self.n}"

    def move(self) -> str:
        self.n += 1
        return f"move {self.n}"

    @classmethod
    def count(cls) -> int:
        return cls.total


def one() -> int:
    return 1


def two() -> int:
    return 2


def counter() -> Callable[[], int]:
    n = 0

    def count() -> int:
        nonlocal n
        n += 1
        return n

    return count


def remembering() -> Callable[[int], list[int]]:
    def remember(item: int, seen: list[int] = []) -> list[int]:  # noqa: B006
        seen.append(item)
        return list(seen)

    return remember


def attributed() -> Any:
    def calls() -> int:
        calls.n += 1  # type: ignore[attr-defined]
        return calls.n  # type: ignore[attr-defined,no-any-return]

    calls.n = 0  # type: ignore[attr-defined]
    return calls


def own() -> Holder:
    holder = Holder(n=0)
    holder.own = holder  # type: ignore[attr-defined]
    return holder


def let(value: Any, build: Callable[[Any], Any]) -> Any:
    """What `build` makes of a value; binds a name within an expression."""
    return build(value)


def does(*actions: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A change of a value: apply all of these, and return the value."""

    def change(value: Any) -> Any:
        for action in actions:
            action(value)
        return value

    return change


def becomes(make: Callable[[], Any]) -> Callable[[Any], Any]:
    return lambda _: make()


def layout(value: Any) -> Any:
    own = isinstance(value.base, np.ndarray)
    return value.dtype.str, value.dtype.descr, value.shape, value.strides, value.flags.writeable, own, value.tolist()


def tensor_layout(t: torch.Tensor) -> Any:
    size = t.untyped_storage().nbytes()
    return t.dtype, t.shape, t.stride(), t.storage_offset(), size, t.requires_grad, t.tolist(), vars(t)


def shared(pair: Any) -> Any:
    """Both arrays after writing into a copy of the first, which shows whether they share memory."""
    one, other = copy.deepcopy(pair)
    one[0] = 9
    return one.tolist(), other.tolist()


def shared_tensors(pair: Any) -> Any:
    pair[0][0] = 9
    return [each.tolist() for each in pair]


def drawn(generator: Any) -> Any:
    return [float(generator.random()) for _ in range(3)]


def popped(items: Any) -> list[Any]:
    return [items.pop() for _ in range(len(items))]


def pop_and_add(items: set[int]) -> None:
    items.add(items.pop())


def same_nan(value: Any) -> Any:
    return value["nan"] is value["again"], value["nan"] in [value["again"]], len(value)


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of object.

    Attributes:
        make: builds the object, as an environment's constructor does.
        change: changes it, as training does.
        look: returns everything observable about it.
        exact: whether it is restored, rather than reported.
        late: the same for an object that did not exist in the new environment.
    """

    make: Callable[[], Any]
    change: Callable[[Any], Any] = lambda value: value
    look: Callable[[Any], Any] = repr
    exact: bool = True
    late: bool | None = None


def value(make: Callable[[], Any], **options: Any) -> Kind:
    """A value that replaces another and need not exist beforehand."""
    return Kind(lambda: None, becomes(make), late=options.get("exact", True), **options)


def assert_restored_or_reported(kind: Kind, *, late: bool = False) -> None:
    """With `late`, nothing of that name existed in the new environment."""
    trained, fresh = kind.change(kind.make()), None if late else kind.make()
    back, named = resumed(trained, fresh)
    assert (named == []) == (kind.late if late else kind.exact), named
    if not named:
        assert type(back) is type(trained)
        assert kind.look(back) == kind.look(trained)
