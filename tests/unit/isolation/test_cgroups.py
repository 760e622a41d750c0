"""Cgroups on fake files; tests/integration/test_node_sandbox.py uses the kernel's (v1 or v2, as the machine has)."""

from __future__ import annotations

import errno
from contextlib import nullcontext
from pathlib import Path

import pytest

from rescoldo.isolation import cgroups
from rescoldo.isolation.cgroups import Base, Groups, find_base

V1 = """\
30 25 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
31 25 0:27 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
32 25 0:28 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
33 25 0:29 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
34 25 0:30 / /proc rw,relatime - proc proc rw
"""
V2 = "33 25 0:29 / {root} rw,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"


def test_controllers_are_found_whether_mounted_together_or_apart() -> None:
    assert cgroups._hierarchies(V1) == {
        "cpu": "/sys/fs/cgroup/cpu,cpuacct",
        "memory": "/sys/fs/cgroup/memory",
        "pids": "/sys/fs/cgroup/pids",
        "": "/sys/fs/cgroup/unified",
    }


def test_the_process_finds_its_own_group_in_each_hierarchy() -> None:
    text = "3:cpu,cpuacct:/a\n2:memory:/b:c\n1:pids:/\n0::/user.slice\n"
    found = cgroups.own_paths(text)
    assert (found["cpu"], found["cpuacct"], found["memory"], found["pids"]) == ("/a", "/a", "/b:c", "/")
    assert found[""] == "/user.slice"


@pytest.fixture
def version_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A v2 tree of plain files, with this process in /user."""
    root = tmp_path / "cgroup"
    for folder in (root, root / "user"):
        folder.mkdir()
        (folder / "cgroup.subtree_control").write_text("memory\n")
    (tmp_path / "mounts").write_text(V2.format(root=root))
    (tmp_path / "own").write_text("0::/user\n")
    monkeypatch.setattr(cgroups, "_MOUNTS", tmp_path / "mounts")
    monkeypatch.setattr(cgroups, "_OWN", tmp_path / "own")
    # the kernel creates the file with the folder
    monkeypatch.setattr(cgroups, "_delegate", delegate)
    return root


def delegate(folder: Path) -> None:
    if (folder / "processes").exists():  # a group with processes and limited children: EBUSY
        raise OSError(16, "busy")


def test_v2_groups_are_created_below_the_current_group(version_2: Path) -> None:
    base = find_base("key")
    assert base is not None
    assert (base.version, base.places) == (2, (f"{version_2}/user/key",))
    assert (version_2 / "user" / "key").is_dir()


def test_v2_groups_are_created_at_the_root_if_the_current_group_has_processes(version_2: Path) -> None:
    (version_2 / "user" / "processes").touch()
    base = find_base("key")
    assert base is not None
    assert base.places == (f"{version_2}/key",)


def test_a_containers_processes_are_moved_out_of_its_root_group(
    version_2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cgroups._OWN.write_text("0::/\n")
    (version_2 / "cgroup.type").write_text("domain\n")
    (version_2 / "processes").touch()
    vacated = []

    def vacate(top: Path) -> None:
        vacated.append(top)

    monkeypatch.setattr(cgroups, "_vacate", vacate)
    base = find_base("key")
    assert base is not None
    assert (base.places, vacated) == ((f"{version_2}/key",), [version_2])


@pytest.mark.parametrize("busy", [0, 2, 1000])
def test_moving_processes_aside_is_repeated_for_new_ones_a_bounded_number_of_times(
    version_2: Path, monkeypatch: pytest.MonkeyPatch, busy: int
) -> None:
    (version_2 / "cgroup.procs").write_text("41\n")
    aside = version_2 / cgroups.ASIDE
    aside.mkdir()
    (aside / "cgroup.procs").touch()
    moved = []

    def delegate(_: Path) -> None:
        moved.append((aside / "cgroup.procs").read_text())
        if len(moved) <= busy:
            raise OSError(errno.EBUSY, "busy")

    monkeypatch.setattr(cgroups, "_delegate", delegate)
    with pytest.raises(OSError, match="busy") if busy == 1000 else nullcontext():
        cgroups._vacate(version_2)
    assert set(moved) == {"41"}
    assert len(moved) == min(busy + 1, cgroups._VACATING)


def test_the_processes_of_a_machine_are_not_moved(version_2: Path) -> None:
    for folder in (version_2, version_2 / "user"):
        (folder / "processes").touch()
    assert find_base("key") is None


def test_without_any_hierarchy_there_are_no_limits(version_2: Path) -> None:
    cgroups._MOUNTS.write_text("")
    assert find_base("key") is None


@pytest.fixture
def sandbox(tmp_path: Path) -> Path:
    folder = tmp_path / "1-1"
    folder.mkdir()
    for name in ("memory.max", "memory.swap.max", "cpu.max", "memory.events"):
        (folder / name).touch()
    return folder


def groups(folder: Path) -> Groups:
    return Groups(Base(2, dict.fromkeys(cgroups.CONTROLLERS, str(folder.parent))))


def test_v2_limits_are_written_in_the_kernels_format(sandbox: Path) -> None:
    groups(sandbox).limit("1-1", memory=64 * 2**20, cpu=250)
    assert (sandbox / "memory.max").read_text() == str(64 * 2**20)
    assert (sandbox / "memory.swap.max").read_text() == "0"
    assert (sandbox / "cpu.max").read_text() == "25000 100000"


def test_without_a_limit_no_file_is_written(sandbox: Path) -> None:
    groups(sandbox).limit("1-1", memory=0, cpu=0)
    assert (sandbox / "memory.max").read_text() == (sandbox / "cpu.max").read_text() == ""


def test_the_least_cpu_limit_is_the_kernels_minimum(sandbox: Path) -> None:
    groups(sandbox).limit("1-1", memory=0, cpu=1)
    assert (sandbox / "cpu.max").read_text() == "1000 100000"


def test_v2_counts_kills_for_lack_of_memory(sandbox: Path) -> None:
    assert groups(sandbox).out_of_memory("1-1") == 0
    (sandbox / "memory.events").write_text("low 0\nhigh 0\nmax 7\noom 2\noom_kill 1\noom_group_kill 1\n")
    assert groups(sandbox).out_of_memory("1-1") == 1


def test_a_missing_group_has_no_processes_and_counts_as_removed(sandbox: Path) -> None:
    assert groups(sandbox).out_of_memory("2-2") == 0
    assert groups(sandbox).processes("2-2") == []
    assert groups(sandbox).remove("2-2")


@pytest.mark.parametrize(("above", "most"), [("max", 28672), ("1000", 875), (None, 28672)])
def test_all_instances_together_leave_processes_for_the_platform(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, above: str | None, most: int
) -> None:
    for name, text in (("pid_max", "32768"), ("threads-max", "190000")):
        (tmp_path / name).write_text(text + "\n")
    monkeypatch.setattr(cgroups, "_MOST_PROCESSES", (tmp_path / "pid_max", tmp_path / "threads-max"))
    base = tmp_path / "pids" / "key"
    base.mkdir(parents=True)
    (base / "pids.max").write_text("")
    if above is not None:
        (base.parent / "pids.max").write_text(above + "\n")
    cgroups.leave_pids(Base(1, {"pids": str(base)}))
    assert (base / "pids.max").read_text() == str(most)
