"""Reading the notes that an earlier node left."""

from __future__ import annotations

import json
from pathlib import Path

from rescoldo.model.instance import Launch
from rescoldo.model.names import InstanceId, function_id
from rescoldo.node.instances import notes
from rescoldo.node.instances.notes import Note

LAUNCH = Launch(InstanceId("i1"), function_id("fn"), "digest", secrets=("key",))
NOTE = Note(LAUNCH, 7, "unix@/x", 11, 12, True, 1.5, "s")


def test_a_note_is_read_as_it_was_written(tmp_path: Path) -> None:
    notes.write(tmp_path / "i1.json", NOTE)
    assert list(notes.read_all(tmp_path)) == [(tmp_path / "i1.json", NOTE)]


def test_a_note_of_an_older_platform_with_the_bundles_gid_is_read(tmp_path: Path) -> None:
    old = NOTE.to_json()
    old["launch"]["gid"] = 1_900_000_001
    (tmp_path / "i1.json").write_text(json.dumps(old))
    assert list(notes.read_all(tmp_path)) == [(tmp_path / "i1.json", NOTE)]


def test_an_unreadable_note_is_still_reported(tmp_path: Path) -> None:
    (tmp_path / "i1.json").write_text('{"launch": {}')
    assert list(notes.read_all(tmp_path)) == [(tmp_path / "i1.json", None)]
