"""An instance's kind, in orders and notes."""

from __future__ import annotations

import pytest

from rescoldo.kinds.process import ProcessKind
from rescoldo.kinds.protocol import BARE
from rescoldo.kinds.registry import kind_of
from rescoldo.kinds.zygote import bind
from rescoldo.model.errors import InvalidInput
from rescoldo.model.instance import Launch
from rescoldo.model.names import InstanceId, function_id

LAUNCH = Launch(InstanceId("i"), function_id("fn"), "digest")


@pytest.mark.parametrize(("command", "kind"), [((), "python"), (("./server",), "process")])
def test_a_note_older_than_the_names_of_kinds_is_adopted(command: tuple[str, ...], kind: str) -> None:
    note = LAUNCH.to_json() | {"command": list(command)}
    del note["kind"]
    assert kind_of(Launch.from_json(note)).name == kind


def test_a_kind_of_a_later_version_is_refused_by_name() -> None:
    with pytest.raises(InvalidInput, match="'wasm' is not a kind of function; use python, process"):
        kind_of(Launch.from_json(LAUNCH.to_json() | {"kind": "wasm"}))


def test_a_bare_zygote_forks_and_rehearses_only_programs() -> None:
    starters = bind(BARE)
    assert list(starters.by_kind) == [ProcessKind.name]
    assert starters.rehearsals == (starters.by_kind[ProcessKind.name].rehearse,)
