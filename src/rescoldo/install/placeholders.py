"""Places in an object that a value fills: what the objects of an installation are written in.

The objects are written once, as plain dictionaries with these places in them. rendering.py fills the places from
`Values`, for `manifests` and `install`; chart.py writes each place as the template action that makes Helm fill it. So
whatever decides about an object has to be one of these few forms, and never an `if` in Python.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

NAMESPACE = "namespace"  # the path of the installation's own namespace, which Helm takes from `helm install -n`


@dataclass(frozen=True, slots=True)
class Field:
    """A value by its path among the values, `worker.replicas`: a scalar, a list or a whole table."""

    path: str


@dataclass(frozen=True, slots=True)
class Variable:
    """What an `Each` around this goes through, by the name it gives it."""

    name: str


Place: TypeAlias = Field | Variable


@dataclass(frozen=True, slots=True)
class Entry:
    """The value of a table under what an `Each` goes through, which is no 0; without an entry, another value."""

    table: Field
    key: Variable
    otherwise: Field


@dataclass(frozen=True, slots=True)
class Text:
    """A text with places in it: `http://rescoldo-gateway.{}.svc` and the value of the namespace."""

    form: str  # one {} for each of `places`
    places: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class Sum:
    """A whole number of the values, plus another."""

    field: Field
    plus: int


@dataclass(frozen=True, slots=True)
class Equal:
    """Holds if the value is this text."""

    field: Field
    text: str


@dataclass(frozen=True, slots=True)
class Not:
    """Holds if a value is false, 0, null or empty, or a condition does not hold."""

    what: Field | Equal


Condition: TypeAlias = Field | Equal | Not  # a field holds unless it is false, 0, null or empty


@dataclass(frozen=True, slots=True)
class When:
    """`then` if a condition holds. Otherwise `otherwise`, or without one the key or the items are left out.

    In a list, both are lists, whose items take its place.
    """

    condition: Condition
    then: Tree
    otherwise: Tree | None = None


@dataclass(frozen=True, slots=True)
class Each:
    """In a list: items for each member of a list of the values, or with two variables for each key and value of a
    table, in the order of its keys."""

    field: Field
    variables: tuple[Variable, ...]
    items: Sequence[Tree]


Tree: TypeAlias = str | int | bool | Place | Entry | Text | Sum | When | Each | Mapping[str, "Tree"] | Sequence["Tree"]
