"""Every kind of function. A new kind needs its module and its line here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rescoldo.kinds.process import ProcessKind
from rescoldo.kinds.protocol import Kind
from rescoldo.kinds.python import PythonKind
from rescoldo.model.errors import InvalidInput

if TYPE_CHECKING:
    from rescoldo.model.instance import Launch

DEFAULT: Kind = PythonKind()  # for a deployment whose bundle is not known yet, and for a template that names no kind
_ALL: tuple[Kind, ...] = (
    DEFAULT,
    ProcessKind(),
)
KINDS: dict[str, Kind] = {kind.name: kind for kind in _ALL}


def kind_named(name: str) -> Kind:
    """Return the kind called `name`. Raises InvalidInput."""
    if (kind := KINDS.get(name)) is None:
        raise InvalidInput(f"{name[:80]!r} is not a kind of function; use {', '.join(KINDS)}")
    return kind


def kind_of(launch: Launch) -> Kind:
    """Return the kind of an instance. Raises InvalidInput for a kind that this version does not have."""
    return kind_named(launch.kind)


def kind_of_style(style: str) -> Kind:
    """Return the kind whose templates and bundles have `style`. Raises InvalidInput."""
    for kind in KINDS.values():
        if style in kind.styles:
            return kind
    raise InvalidInput(f"{style[:80]!r} is not a style of a template")


def styles_of_templates() -> dict[str, str]:
    """Return the style of each OpenFaaS template that is known by its name."""
    return {name: style for kind in KINDS.values() for name, style in kind.templates.items()}
