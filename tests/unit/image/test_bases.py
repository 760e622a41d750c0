"""The Python that is found in a base's layers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from rescoldo.image.bases import MINOR, Base, find_python
from rescoldo.image.layers import Entry, write_layer
from rescoldo.model.errors import InvalidInput

LIB = f"usr/local/lib/python{MINOR}"
PYTHON = (Entry(f"usr/local/bin/python{MINOR}", b"\x7fELF", mode=0o755), Entry(f"{LIB}/os.py", b"name = 'posix'\n"))
MakeBase = Callable[..., Base]  # its layers, each of entries


@pytest.fixture
def base(tmp_path: Path) -> MakeBase:
    def make(*layers: tuple[Entry, ...]) -> Base:
        return Base("a/base:1", "", tuple(write_layer(one, tmp_path / str(i)) for i, one in enumerate(layers)), {})

    return make


def test_a_python_of_docker_s_images(base: MakeBase) -> None:
    found = find_python(base((), (*PYTHON, Entry(f"{LIB}/site-packages/pip.py", b"x = 1"))))
    assert (found.program, found.packages) == (f"usr/local/bin/python{MINOR}", f"{LIB}/site-packages")
    assert found.modules == {f"{LIB}/os.py": b"name = 'posix'\n"}
    assert found.installed == {"pip.py"}


def test_a_python_of_debian_has_another_folder_for_packages(base: MakeBase) -> None:
    lib = f"usr/lib/python{MINOR}"
    site = Entry(f"{lib}/site.py", b'names = ["local/lib", "dist-packages"]')
    found = find_python(base((Entry(f"usr/bin/python{MINOR}", link="/somewhere"), site)))
    assert (found.program, found.packages) == (f"usr/bin/python{MINOR}", f"{LIB}/dist-packages")


def test_a_python_that_is_neither(base: MakeBase) -> None:
    lib = f"usr/lib/python{MINOR}"
    found = find_python(base((Entry(f"usr/bin/python{MINOR}"), Entry(f"{lib}/site.py", b"pass"))))
    assert found.packages == f"{lib}/site-packages"


def test_a_later_layer_counts_more(base: MakeBase) -> None:
    later = (Entry(f"{LIB}/os.py", b"name = 'changed'\n"), Entry(f"{LIB}/new.py", b"pass"))
    found = find_python(base(PYTHON, later))
    assert found.modules == {f"{LIB}/os.py": b"name = 'changed'\n", f"{LIB}/new.py": b"pass"}


@pytest.mark.parametrize("gone", [f"{LIB}/asyncio/.wh.events.py", f"{LIB}/.wh.asyncio", f"{LIB}/asyncio/.wh..wh..opq"])
def test_what_a_later_layer_removes_is_gone(base: MakeBase, gone: str) -> None:
    found = find_python(base((*PYTHON, Entry(f"{LIB}/asyncio/events.py", b"pass")), (Entry(gone),)))
    assert list(found.modules) == [f"{LIB}/os.py"]


def test_a_base_with_another_python_names_it_and_a_base_that_fits(base: MakeBase) -> None:
    with pytest.raises(InvalidInput) as error:
        find_python(base((Entry("usr/local/bin/python3.99"), Entry("usr/local/lib/python3.99/os.py"))))
    assert "--base a/base:1 has no Python" in error.value.message and "it has 3.99" in error.value.message
    assert f"python:{MINOR}-slim" in error.value.message


def test_a_removed_python_is_not_found(base: MakeBase) -> None:
    with pytest.raises(InvalidInput, match="it has none"):
        find_python(base(PYTHON, (Entry("usr/local/.wh.bin"),)))


def test_a_base_made_with_musl_is_refused(base: MakeBase) -> None:
    with pytest.raises(InvalidInput, match="is made with musl"):
        find_python(base((*PYTHON, Entry("lib/ld-musl-x86_64.so.1"))))


def test_a_layer_that_is_no_archive(base: MakeBase, tmp_path: Path) -> None:
    found = base(PYTHON)
    (tmp_path / "0").write_bytes(b"\x28\xb5\x2f\xfd zstd")
    with pytest.raises(InvalidInput, match="a layer of the base cannot be read"):
        find_python(found)
