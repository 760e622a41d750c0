"""Layers: tar.gz archives whose bytes depend on their entries alone."""

from __future__ import annotations

import gzip
import hashlib
import os
import random
import tarfile
from pathlib import Path

from rescoldo.image.layers import Entry, file_entry, write_layer

ENTRIES = [
    Entry("usr/bin/tool", b"#!/bin/sh\n", mode=0o755),
    Entry("usr/lib/a.py", b"a = 1\n"),
    Entry("usr/lib/b.py", link="a.py"),
    Entry("tmp", is_folder=True, mode=0o1777),
]


def members(path: Path) -> list[tarfile.TarInfo]:
    with tarfile.open(path) as tar:
        return tar.getmembers()


def test_the_same_entries_give_the_same_digest_in_any_order(tmp_path: Path) -> None:
    shuffled = random.Random(7).sample(ENTRIES, len(ENTRIES))
    first, second = (write_layer(found, tmp_path / name) for found, name in ((ENTRIES, "1"), (shuffled, "2")))
    assert (first.blob.digest, first.diff_id) == (second.blob.digest, second.diff_id)
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_times_and_owners_of_files_leave_no_trace(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"content")
    digests = []
    for name, when, mode in (("1", 1_000, 0o600), ("2", 2_000_000_000, 0o664)):
        os.utime(file, (when, when))
        file.chmod(mode)
        digests.append(write_layer([file_entry("etc/file", file)], tmp_path / name).blob.digest)
    assert digests[0] == digests[1]
    assert {(one.mtime, one.uid, one.gid, one.uname) for one in members(tmp_path / "1")} == {(0, 0, 0, "")}


def test_digests_are_those_of_the_file_and_of_the_archive_in_it(tmp_path: Path) -> None:
    layer = write_layer(ENTRIES, tmp_path / "layer")
    data = (tmp_path / "layer").read_bytes()
    assert layer.blob.digest == f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert layer.diff_id == f"sha256:{hashlib.sha256(gzip.decompress(data)).hexdigest()}"
    assert (layer.blob.size, b"".join(layer.blob.read())) == (len(data), data)


def test_a_folder_comes_before_what_is_in_it(tmp_path: Path) -> None:
    write_layer(ENTRIES, tmp_path / "layer")
    assert [(one.name, oct(one.mode)) for one in members(tmp_path / "layer")] == [
        ("tmp", "0o1777"),
        ("usr", "0o755"),
        ("usr/bin", "0o755"),
        ("usr/bin/tool", "0o755"),
        ("usr/lib", "0o755"),
        ("usr/lib/a.py", "0o644"),
        ("usr/lib/b.py", "0o777"),
    ]


def test_of_two_entries_with_one_path_the_last_counts(tmp_path: Path) -> None:
    write_layer([Entry("a", b"1"), Entry("a", b"2")], tmp_path / "layer")
    with tarfile.open(tmp_path / "layer") as tar:
        assert [tar.extractfile(one).read() for one in tar] == [b"2"]  # type: ignore[union-attr]


def test_files_of_a_user_who_lets_nobody_read_them_can_be_read_by_any_uid(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    file.chmod(0o700)
    assert file_entry("a", file).mode == 0o755
    file.chmod(0o600)
    assert file_entry("a", file).mode == 0o644
