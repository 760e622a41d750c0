from __future__ import annotations

import pytest

from rescoldo.isolation.landlock import Ruleset, ruleset

READ, READ_EXECUTE_LIST = 1 << 2, 0b1101
DEVICES_MADE = 1 << 6 | 1 << 11
REFER, TRUNCATE, IOCTL = 1 << 13, 1 << 14, 1 << 15


def ask(version: int, bind_ports: list[int] | None = None, connect_ports: list[int] | None = None) -> Ruleset:
    return ruleset(version, read=["/usr"], write=["/tmp"], bind_ports=bind_ports, connect_ports=connect_ports)


@pytest.mark.parametrize(
    ("version", "files"),
    [(1, 0x1FFF), (2, 0x3FFF), (3, 0x7FFF), (4, 0x7FFF), (5, 0xFFFF), (6, 0xFFFF), (7, 0xFFFF), (99, 0xFFFF)],
)
def test_a_ruleset_handles_only_the_rights_that_the_kernel_knows(version: int, files: int) -> None:
    assert ask(version).files == files


def test_reading_includes_executing_and_writing_excludes_making_devices() -> None:
    rules = ask(7)
    assert rules.paths == (("/usr", READ_EXECUTE_LIST), ("/tmp", 0xFFFF & ~DEVICES_MADE))


def test_a_path_both_readable_and_writable_is_writable() -> None:
    rules = ruleset(3, read=["/tmp"], write=["/tmp"], bind_ports=None, connect_ports=None)
    assert rules.paths == (("/tmp", 0x7FFF & ~DEVICES_MADE),)


@pytest.mark.parametrize(("version", "handled"), [(1, 0), (3, 0), (4, 1), (7, 1)])
def test_ports_are_limited_if_the_kernel_supports_it(version: int, handled: int) -> None:
    rules = ask(version, bind_ports=[8080, 0])
    assert rules.ports == handled
    assert rules.tcp == (((8080, 1), (0, 1)) if handled else ())


def test_an_empty_list_of_ports_differs_from_no_limit() -> None:
    assert (ask(4, bind_ports=[]).ports, ask(4).ports) == (1, 0)
    assert ask(4, connect_ports=[443]).tcp == ((443, 2),)
    assert ask(4, bind_ports=[], connect_ports=[443]).ports == 3


def test_signals_are_scoped_from_version_six_on() -> None:
    assert [ask(version).scopes for version in (5, 6, 7)] == [0, 3, 3]
