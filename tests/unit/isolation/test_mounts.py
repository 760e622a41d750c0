from __future__ import annotations

from rescoldo.isolation.mounts import Step, View, plan


def made(view: View, private: set[str]) -> list[Step]:
    return plan(view, lambda path: path not in private)


def test_what_every_uid_may_reach_is_left_alone() -> None:
    assert made(View(read=("/usr", "/opt/app"), hide=(), scratch=()), set()) == []


def test_an_interpreter_below_a_private_home_is_shown_and_the_rest_is_covered() -> None:
    view = View(read=("/root/.pyenv/versions/3.11",), hide=(), scratch=())
    assert made(view, {"/root"}) == [Step("/root", "hide"), Step("/root/.pyenv/versions/3.11", "read")]


def test_a_private_directory_below_another_one_needs_no_cover_of_its_own() -> None:
    view = View(read=("/a/b/c/d",), hide=(), scratch=())
    assert made(view, {"/a", "/a/b/c"}) == [Step("/a", "hide"), Step("/a/b/c/d", "read")]


def test_what_lies_in_a_shown_directory_is_shown_with_it() -> None:
    view = View(read=("/root/venv", "/root/venv/lib"), hide=("/root",), scratch=())
    assert made(view, {"/root"}) == [Step("/root", "hide"), Step("/root/venv", "read")]


def test_bundles_are_shown_within_the_hidden_data_directory() -> None:
    view = View(read=("/srv/data/bundles",), hide=("/srv/data",), scratch=())
    assert made(view, set()) == [Step("/srv/data", "hide"), Step("/srv/data/bundles", "read")]


def test_a_hidden_directory_within_a_shown_one_is_hidden() -> None:
    view = View(read=("/root/src",), hide=("/root", "/root/src/data"), scratch=())
    assert made(view, set()) == [Step("/root", "hide"), Step("/root/src", "read"), Step("/root/src/data", "hide")]


def test_scratch_directories_are_always_renewed_and_show_what_is_needed_in_them() -> None:
    view = View(read=("/tmp/venv",), hide=(), scratch=("/tmp", "/var/tmp"))
    steps = made(view, set())
    assert steps == [Step("/tmp", "scratch"), Step("/var/tmp", "scratch"), Step("/tmp/venv", "read")]


def test_a_writable_directory_within_a_readable_one_stays_writable() -> None:
    view = View(read=("/root/x",), write=("/root/x/out",), hide=("/root",), scratch=())
    assert made(view, set())[-1] == Step("/root/x/out", "write")


def test_a_view_survives_its_way_to_another_process() -> None:
    view = View(read=("/a",), write=("/b",))
    assert View.from_json(view.to_json()) == view
