"""What became of each function that a verb was for: a line each at the end, and what they come to.

A failure is printed whole on stderr when it happens, and in one line among the results.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from rescoldo.cli.gateway import GatewayClosed
from rescoldo.cli.output import brief, complain, note, say, say_columns, say_json
from rescoldo.model.errors import RescoldoError
from rescoldo.model.names import DEFAULT_NAMESPACE
from rescoldo.stack.file import StackFunction

DEPLOYED, UNCHANGED, BUILT, SKIPPED, REMOVED = "deployed", "unchanged", "built", "skipped", "removed"
DEPLOYING, FAILED, LEFT = "deploying", "failed", "not tried"
_ORDER = (DEPLOYED, UNCHANGED, BUILT, REMOVED, SKIPPED, DEPLOYING, LEFT, FAILED)
_UNDONE = frozenset((DEPLOYING, FAILED, LEFT))  # the verb has not done what it was for


Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one function."""

    state: str  # one of those above
    text: str = ""  # for people: where it is, or why it failed
    data: Mapping[str, object] = field(default_factory=dict)  # for scripts, besides name, namespace and state
    notes: Sequence[str] = ()  # what was asked for and has no effect

    def to_json(self) -> dict[str, object]:
        """What a script reads of it, besides name and namespace."""
        return {"state": self.state, **self.data, **({"notes": list(self.notes)} if self.notes else {})}


class Results:
    """The outcomes of a verb, in the order of `names` (name and namespace), whatever the order they come in."""

    def __init__(self, names: Iterable[tuple[str, str]]) -> None:
        self._names = list(dict.fromkeys(names))
        self._found: dict[tuple[str, str], Outcome] = {}
        self._saying = threading.Lock()

    @classmethod
    def of(cls, functions: Iterable[StackFunction], namespace: str = "") -> Results:
        """For functions of a stack file, deployed in `namespace` where that is given."""
        return cls(reference_of(function, namespace) for function in functions)

    @property
    def failed(self) -> bool:
        """Whether any function failed, has not started yet, or was not tried for a failure of another."""
        return any(outcome.state in _UNDONE for _, outcome in self._all())

    @property
    def open(self) -> bool:
        """Whether there is a function of which nothing is known yet."""
        return any(map(self.is_open, self._names))

    def add(self, function: tuple[str, str], outcome: Outcome) -> None:
        self._found[function] = outcome

    def fail(self, function: tuple[str, str], error: RescoldoError) -> None:
        """Tell why a function failed, and keep it for the end."""
        with self._saying:
            complain(error.message)
        self.add(function, Outcome(FAILED, error.message, {"reason": error.message}))

    def is_open(self, function: tuple[str, str]) -> bool:
        """Whether nothing is known of it yet."""
        return function not in self._found

    def to_json(self) -> list[dict[str, object]]:
        """One object each: `name`, `namespace`, `state`, and what belongs to the state."""
        return [
            {"name": name, "namespace": namespace, **outcome.to_json()}
            for (name, namespace), outcome in self._all()
        ]

    def show(self, as_json: bool) -> int:
        """Print them all and what they come to; the verb's exit status."""
        if as_json:
            say_json(self.to_json())
        else:
            # two columns of which the last one is free text: a long reason does not push others aside
            rows = [(shown(key), outcome.state, brief(outcome.text)) for key, outcome in self._all()]
            if rows:
                say_columns(rows[0], rows[1:])
        self.summarize(as_json)
        return 1 if self.failed else 0

    def summarize(self, as_json: bool) -> None:
        """How many there are of each state, where there are several functions."""
        if len(self._names) > 1:
            counts = Counter(outcome.state for _, outcome in self._all())
            told = ", ".join(f"{counts[state]} {state}" for state in _ORDER if counts[state])
            (note if as_json else say)(f"{len(self._names)} functions: {told}.")

    def _all(self) -> list[tuple[tuple[str, str], Outcome]]:
        left = Outcome(LEFT)
        return [(key, self._found.get(key, left)) for key in self._names]


def for_each(
    functions: Iterable[StackFunction], namespace: str, results: Results, work: Callable[[StackFunction], Outcome]
) -> None:
    """Do `work` for each function that `results` knows nothing of yet; one that fails stops no other."""
    for function in functions:
        key = reference_of(function, namespace)
        if results.is_open(key):
            try:
                results.add(key, work(function))
            except RescoldoError as error:
                results.fail(key, error)


def for_each_at_once(
    items: Mapping[tuple[str, str], Item], results: Results, work: Callable[[Item], Outcome], parallel: int
) -> None:
    """Do `work` for each item, by function, of which `results` knows nothing yet, `parallel` of them at once; one that
    fails stops no other. Raises GatewayClosed when those under way have ended: it would be the failure of all others,
    too."""
    closed: GatewayClosed | None = None
    with ThreadPoolExecutor(parallel) as pool:
        under_way = {key: pool.submit(work, item) for key, item in items.items() if results.is_open(key)}
        try:
            for key, each in under_way.items():
                try:
                    if closed is None or not each.cancelled():
                        results.add(key, each.result())
                except GatewayClosed as error:
                    results.add(key, Outcome(FAILED, error.message, {"reason": error.message}))
                    closed = closed or error
                    pool.shutdown(wait=False, cancel_futures=True)
                except RescoldoError as error:
                    results.fail(key, error)
        finally:
            pool.shutdown(cancel_futures=True)
    if closed is not None:
        raise closed


def reference_of(function: StackFunction, namespace: str = "") -> tuple[str, str]:
    """Name and namespace of a function, as it is deployed with --namespace `namespace`."""
    return function.name, namespace or function.namespace or DEFAULT_NAMESPACE


def shown(key: tuple[str, str]) -> str:
    """A function's name as a user writes it."""
    name, namespace = key
    return name if namespace == DEFAULT_NAMESPACE else f"{name}.{namespace}"
