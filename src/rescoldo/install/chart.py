"""Writes a Helm chart of the objects that `manifests` prints: each place becomes the action that fills it.

Every value is inserted as JSON, which YAML contains: so no value, whatever is in it, can change an object's shape. The
conditions and loops stand on lines of their own, which Helm leaves out of what it renders.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from rescoldo import __version__
from rescoldo.install.placeholders import (
    NAMESPACE,
    Condition,
    Each,
    Entry,
    Equal,
    Field,
    Not,
    Place,
    Sum,
    Text,
    Tree,
    Variable,
    When,
)
from rescoldo.install.schema import schema, values_file
from rescoldo.install.stages import stages
from rescoldo.install.values import Values
from rescoldo.stack.document import dump

STEP = "  "
ABOUT = {
    "apiVersion": "v2",
    "name": "rescoldo",
    "description": "Serverless functions that sleep at zero and wake in milliseconds.",
    "type": "application",
    "version": __version__,
    "appVersion": __version__,
    "kubeVersion": ">=1.30.0-0",
}
NOTES = """\
rescoldo is installed in the namespace {{ .Release.Namespace }}. When its pods are ready:

  rescoldo kubernetes status --system-namespace {{ .Release.Namespace }} --login

saves the address and the password of the gateway for `rescoldo` and `faas-cli`.
"""


def write_chart(folder: Path, values: Values) -> list[Path]:
    """Write a chart whose defaults are `values` into a folder; return its files. Raises OSError."""
    texts = {
        "Chart.yaml": dump(ABOUT),
        "values.yaml": values_file(values),
        "values.schema.json": json.dumps(schema(), indent=2) + "\n",
        "templates/NOTES.txt": NOTES,
        **{f"templates/{stage.name}.yaml": template(stage.objects) for stage in stages() if stage.in_chart},
    }
    for name, text in texts.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return [folder / name for name in texts]


def template(objects: Sequence[Tree]) -> str:
    """Return the template of some objects."""
    return "".join(f"{line}\n" for line in _documents(objects))


def _documents(trees: Tree) -> Iterator[str]:
    for tree in _listed(trees):
        if isinstance(tree, When | Each):
            yield from _enclosed(tree, _documents)
        else:
            assert isinstance(tree, Mapping)
            yield "---"
            yield from _entries("", tree)


def _entries(pad: str, table: Mapping[str, Tree]) -> Iterator[str]:
    for key, tree in table.items():
        name = _literal(key) if set(key) & set("{}:# ") else key
        if isinstance(tree, When):
            yield from _enclosed(tree, partial(_member, pad, f"{name}:"))
        else:
            yield from _member(pad, f"{name}:", tree)


def _items(pad: str, trees: Tree) -> Iterator[str]:
    for tree in _listed(trees):
        if isinstance(tree, When | Each):
            yield from _enclosed(tree, partial(_items, pad))
        else:
            yield from _member(pad, "-", tree)


def _member(pad: str, mark: str, tree: Tree) -> Iterator[str]:
    """Yield the lines of a key's value, or of an item of a list: `mark` is the key, or the dash."""
    if isinstance(tree, Mapping) and tree:
        yield f"{pad}{mark}"
        yield from _entries(pad + STEP, tree)
    elif isinstance(tree, list) and tree:
        yield f"{pad}{mark}"
        yield from _items(pad + STEP, tree)
    else:
        yield f"{pad}{mark} {_inline(tree)}"


def _enclosed(tree: When | Each, lines: Callable[[Tree], Iterator[str]]) -> Iterator[str]:
    if isinstance(tree, When):
        yield f"{{{{- if {_condition(tree.condition)} }}}}"
        yield from lines(tree.then)
        if tree.otherwise is not None:
            yield "{{- else }}"
            yield from lines(tree.otherwise)
    else:
        names = ", ".join(f"${variable.name}" for variable in tree.variables)
        yield f"{{{{- range {names} := {_path(tree.field)} }}}}"
        yield from lines(tree.items)
    yield "{{- end }}"


def _inline(tree: Tree) -> str:
    if isinstance(tree, Field | Variable):
        return f"{{{{ toJson {_path(tree)} }}}}"
    if isinstance(tree, Entry):
        return f"{{{{ index {_path(tree.table)} {_path(tree.key)} | default {_path(tree.otherwise)} | toJson }}}}"
    if isinstance(tree, Text):
        form = json.dumps(tree.form.replace("{}", "%v"))
        return f"{{{{ printf {form} {' '.join(map(_shown, tree.places))} | toJson }}}}"
    if isinstance(tree, Sum):
        return f"{{{{ add {_path(tree.field)} {tree.plus} }}}}"
    return _literal(tree)


def _literal(value: object) -> str:
    """Return plain data as JSON in which Helm sees no action of its own."""
    return json.dumps(value, ensure_ascii=False).replace("{{", '{{ "{{" }}')


def _shown(place: Place) -> str:
    """Return a place for `printf`: the namespace, what a loop goes through, or a whole number, which Helm reads as a
    float, so that a large one would become 3.6e+06."""
    path = _path(place)
    return f"(toJson {path})" if isinstance(place, Field) and place.path != NAMESPACE else path


def _condition(condition: Condition) -> str:
    if isinstance(condition, Not):
        return f"not ({_condition(condition.what)})"
    if isinstance(condition, Equal):
        return f"eq {_path(condition.field)} {json.dumps(condition.text)}"
    return _path(condition)


def _path(place: Place) -> str:
    if isinstance(place, Variable):
        return f"${place.name}"
    return "$.Release.Namespace" if place.path == NAMESPACE else f"$.Values.{place.path}"


def _listed(tree: Tree) -> Sequence[Tree]:
    assert isinstance(tree, list | tuple), f"{tree} stands where a list belongs"
    return tree
