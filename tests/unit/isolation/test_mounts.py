from __future__ import annotations

from rescoldo.isolation.mounts import SYSTEM, MountStep, View, plan


def made(view: View, private: set[str]) -> list[MountStep]:
    return [step for step in plan(view, lambda path: path not in private) if step.path not in SYSTEM]


def test_a_path_in_a_system_directory_needs_no_step_of_its_own() -> None:
    assert made(View(read=("/usr", "/usr/lib/python3", "/opt/app")), set()) == []


def test_the_system_directories_are_always_shown() -> None:
    assert {step.path for step in plan(View(), lambda _: True)} == set(SYSTEM)


def test_an_interpreter_below_a_private_home_is_shown_without_the_home() -> None:
    read = MountStep("/root/.pyenv/versions/3.11", "read")
    assert made(View(read=(read.path,)), {"/root"}) == [read]


def test_a_path_in_a_shown_directory_is_shown_with_it() -> None:
    view = View(read=("/root/venv", "/root/venv/lib"))
    assert made(view, {"/root"}) == [MountStep("/root/venv", "read")]


def test_a_private_directory_on_the_way_to_a_shown_path_is_hidden() -> None:
    view = View(read=("/opt/rescoldo/data/bundles",))
    steps = [MountStep("/opt/rescoldo/data", "hide"), MountStep("/opt/rescoldo/data/bundles", "read")]
    assert made(view, {"/opt/rescoldo/data"}) == steps


def test_a_private_directory_below_a_hidden_one_is_not_hidden_separately() -> None:
    view = View(read=("/opt/a/b/c",))
    assert made(view, {"/opt/a", "/opt/a/b"}) == [MountStep("/opt/a", "hide"), MountStep("/opt/a/b/c", "read")]


def test_a_writable_directory_within_a_readable_one_stays_writable() -> None:
    view = View(read=("/root/x",), write=("/root/x/out",))
    assert made(view, set()) == [MountStep("/root/x", "read"), MountStep("/root/x/out", "write")]


def test_a_view_survives_serialization() -> None:
    view = View(read=("/a",), write=("/b",))
    assert View.from_json(view.to_json()) == view
