"""Collects the outcome of a verb for each function and prints one line each at the end, with a summary.

A failure is printed in full on stderr as it happens, and in one line among the results.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TypeVar

from rescoldo.cli.gateway import GatewayClosed
from rescoldo.cli.output import brief, complain, note, say, say_columns, say_json
from rescoldo.model.errors import RescoldoError
from rescoldo.model.names import DEFAULT_NAMESPACE
from rescoldo.stack.file import StackFunction

DEPLOYED, UNCHANGED, BUILT, SKIPPED, REMOVED = "deployed", "unchanged", "built", "skipped", "removed"
DEPLOYING, FAILED, LEFT = "deploying", "failed", "not tried"
_ORDER = (DEPLOYED, UNCHANGED, BUILT, REMOVED, SKIPPED, DEPLOYING, LEFT, FAILED)
_UNDONE = frozenset((DEPLOYING, FAILED, LEFT))  # the verb did not reach its goal


Key = tuple[str, str]  # a function's name and namespace
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a verb for one function."""

    state: str  # one of the states above
    text: str = ""  # for people: the function's URL, or the reason of the failure
    data: Mapping[str, object] = field(default_factory=dict)  # for scripts, besides name, namespace and state
    notes: Sequence[str] = ()  # requested settings without effect

    def to_json(self) -> dict[str, object]:
        """Return the JSON fields besides name and namespace."""
        return {"state": self.state, **self.data, **({"notes": list(self.notes)} if self.notes else {})}


class Results:
    """The outcomes of a verb, in the order of `names`, in whatever order they arrive."""

    def __init__(self, names: Iterable[Key]) -> None:
        self._names = list(dict.fromkeys(names))
        self._found: dict[Key, Outcome] = {}
        self._saying = threading.Lock()

    @classmethod
    def of(cls, functions: Iterable[StackFunction], namespace: str = "") -> Results:
        """Return results for functions of a stack file, deployed in `namespace` if it is given."""
        return cls(reference_of(function, namespace) for function in functions)

    @property
    def failed(self) -> bool:
        """Whether a function failed, has not started yet, or was not tried after the failure of another."""
        return any(outcome.state in _UNDONE for _, outcome in self._all())

    @property
    def open(self) -> bool:
        """Whether a function has no outcome yet."""
        return any(map(self.is_open, self._names))

    def add(self, function: Key, outcome: Outcome) -> None:
        self._found[function] = outcome

    def leave(self, function: Key) -> None:
        """Make DEPLOYED UNCHANGED, as the deployment made no new revision; what it said of its settings is known."""
        if (outcome := self._found[function]).state == DEPLOYED:
            self.add(function, replace(outcome, state=UNCHANGED))

    def notes(self, function: Key) -> Sequence[str]:
        """Return the notes of a function's outcome."""
        return self._found[function].notes if function in self._found else ()

    def fail(self, function: Key, error: RescoldoError) -> None:
        """Print why a function failed, and keep the reason for the end."""
        with self._saying:
            complain(error.message)
        self.add(function, Outcome(FAILED, error.message, {"reason": error.message}))

    def is_open(self, function: Key) -> bool:
        """Return whether a function has no outcome yet."""
        return function not in self._found

    def to_json(self) -> list[dict[str, object]]:
        """Return one object for each function: `name`, `namespace`, `state` and the fields of that state."""
        return [
            {"name": name, "namespace": namespace, **outcome.to_json()}
            for (name, namespace), outcome in self._all()
        ]

    def show(self, as_json: bool) -> int:
        """Print all outcomes and the summary; return the verb's exit status."""
        if as_json:
            say_json(self.to_json())
        else:
            # two columns, the free text last: a long reason then moves no other column
            rows = [(shown(key), outcome.state, brief(outcome.text)) for key, outcome in self._all()]
            if rows:
                say_columns(rows[0], rows[1:])
        self.summarize(as_json)
        return 1 if self.failed else 0

    def summarize(self, as_json: bool) -> None:
        """Print the number of functions in each state if there are several functions."""
        if len(self._names) > 1:
            counts = Counter(outcome.state for _, outcome in self._all())
            told = ", ".join(f"{counts[state]} {state}" for state in _ORDER if counts[state])
            (note if as_json else say)(f"{len(self._names)} functions: {told}.")

    def _all(self) -> list[tuple[Key, Outcome]]:
        left = Outcome(LEFT)
        return [(key, self._found.get(key, left)) for key in self._names]


def for_each(
    functions: Iterable[StackFunction], namespace: str, results: Results, work: Callable[[StackFunction], Outcome]
) -> None:
    """Call `work` for each function without an outcome; a failure of one function does not stop the others."""
    for function in functions:
        key = reference_of(function, namespace)
        if results.is_open(key):
            try:
                results.add(key, work(function))
            except RescoldoError as error:
                results.fail(key, error)


def for_each_at_once(
    items: Mapping[Key, Item], results: Results, work: Callable[[Item], Outcome], parallel: int
) -> None:
    """Call `work` for each item, by function, without an outcome, `parallel` items at once. A failure of one does
    not stop the others. A closed gateway would fail all others, too: then no further item starts, and GatewayClosed
    is raised once the running ones have ended."""
    closed: GatewayClosed | None = None
    with ThreadPoolExecutor(parallel) as pool:
        under_way = {key: pool.submit(work, item) for key, item in items.items() if results.is_open(key)}
        try:
            for key, each in under_way.items():
                try:
                    if closed is None or not each.cancelled():
                        results.add(key, each.result())
                except GatewayClosed as error:
                    # added without results.fail: the command prints the error that is raised below
                    results.add(key, Outcome(FAILED, error.message, {"reason": error.message}))
                    closed = closed or error
                    pool.shutdown(wait=False, cancel_futures=True)
                except RescoldoError as error:
                    results.fail(key, error)
        finally:
            pool.shutdown(cancel_futures=True)  # after Ctrl-C no waiting item starts either
    if closed is not None:
        raise closed


def reference_of(function: StackFunction, namespace: str = "") -> Key:
    """Return the name and namespace of a function that is deployed with --namespace `namespace`."""
    return function.name, namespace or function.namespace or DEFAULT_NAMESPACE


def shown(key: Key) -> str:
    """Format a function's name as users write it."""
    name, namespace = key
    return name if namespace == DEFAULT_NAMESPACE else f"{name}.{namespace}"
