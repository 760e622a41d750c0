"""What a container's cgroups allow, from the texts that the kernel shows in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from rescoldo.isolation import container as module
from rescoldo.isolation.container import (
    Container,
    Groups,
    Memory,
    find_groups,
    parse_cpu,
    parse_files,
    parse_limit,
    parse_meminfo,
)

MIB = 2**20
V1 = "35 31 0:32 {root} /sys/fs/cgroup/memory ro,relatime - cgroup cgroup rw,memory\n"
V2 = "41 31 0:38 {root} {point} ro,relatime - cgroup2 cgroup rw\n"


def folders(mounts: str, own: str) -> list[str]:
    groups = find_groups("memory", mounts, own)
    assert groups is not None
    return [str(groups.version), *map(str, groups.folders)]


def test_a_machine_with_v1_has_groups_from_its_own_to_the_highest() -> None:
    mounts, own = V1.format(root="/"), "4:memory:/user/one\n1:cpu:/\n"
    assert folders(mounts, own) == [
        "1", "/sys/fs/cgroup/memory/user/one", "/sys/fs/cgroup/memory/user", "/sys/fs/cgroup/memory",
    ]  # fmt: skip


def test_a_machine_with_v2_has_groups_from_its_own_to_the_highest() -> None:
    mounts, own = V2.format(root="/", point="/sys/fs/cgroup"), "0::/user.slice/one.scope\n"
    assert folders(mounts, own) == [
        "2", "/sys/fs/cgroup/user.slice/one.scope", "/sys/fs/cgroup/user.slice", "/sys/fs/cgroup",
    ]  # fmt: skip


def test_a_container_of_v1_sees_its_own_group_at_the_mount_point() -> None:
    path = "/kubepods/pod1/abc"
    assert folders(V1.format(root=path), f"4:memory:{path}\n") == ["1", "/sys/fs/cgroup/memory"]
    assert folders(V1.format(root=path), f"4:memory:{path}/in\n")[1] == "/sys/fs/cgroup/memory/in"
    assert folders(V1.format(root=path), f"4:memory:{path}-other\n") == ["1", "/sys/fs/cgroup/memory"]


@pytest.mark.parametrize("root", ["/", "/../.."])
def test_a_container_with_a_cgroup_namespace_sees_its_own_group_as_the_highest(root: str) -> None:
    mounts = V2.format(root=root, point="/sys/fs/cgroup")
    assert folders(mounts, "0::/\n") == ["2", "/sys/fs/cgroup"]


def test_a_hybrid_machine_has_its_controllers_in_v1() -> None:
    mounts = V2.format(root="/", point="/sys/fs/cgroup/unified") + V1.format(root="/")
    assert folders(mounts, "4:memory:/one\n0::/other\n")[:2] == ["1", "/sys/fs/cgroup/memory/one"]


def test_no_cgroups_are_no_groups() -> None:
    assert find_groups("memory", "23 1 0:1 / / rw - ext4 /dev/vda rw\n", "") is None


@pytest.mark.parametrize(
    ("text", "limit"), [("max\n", None), ("", None), ("9223372036854771712\n", None), ("524288000\n", 500 * MIB)]
)
def test_a_limit_of_memory(text: str, limit: int | None) -> None:
    assert parse_limit(text) == limit


@pytest.mark.parametrize(
    ("quota", "period", "cpus"),
    [("max", "100000", None), ("-1", "100000", None), ("", "", None), ("50000", "100000", 0.5), ("5", "0", None)],
)
def test_a_limit_of_cpu(quota: str, period: str, cpus: float | None) -> None:
    assert parse_cpu(quota, period) == cpus


def test_pages_of_files_are_those_that_the_kernel_can_drop() -> None:
    stat = "inactive_file 1\nactive_file 2\nanon 4\ntotal_inactive_file 10\ntotal_active_file 20\n"
    assert (parse_files(stat, 1), parse_files(stat, 2), parse_files("", 2)) == (30, 3, 0)


def test_memory_is_scarce_when_less_than_a_fifth_is_left() -> None:
    assert not Memory(500, 400).is_scarce
    assert Memory(500, 401).is_scarce


def test_the_machines_memory_counts_what_is_available() -> None:
    assert parse_meminfo("MemTotal: 100 kB\nMemFree: 1 kB\nMemAvailable: 40 kB\n") == Memory(102_400, 61_440)


def group(folder: Path, **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(f"{text}\n")
    return folder


def test_the_lowest_limit_on_the_way_up_counts_with_what_is_used_there(tmp_path: Path) -> None:
    top = group(tmp_path / "pod", memory__max=str(300 * MIB), memory__current=str(90 * MIB))
    (top / "memory.stat").write_text(f"inactive_file {20 * MIB}\nactive_file {10 * MIB}\n")
    own = group(top / "one", memory__max=str(400 * MIB), memory__current=str(50 * MIB))
    made = Container(Groups(2, (own, top)), None)
    assert made.memory() == Memory(300 * MIB, 60 * MIB, contained=True)
    (own / "memory.max").write_text(str(200 * MIB))  # limits can change while the container runs
    assert made.memory() == Memory(200 * MIB, 50 * MIB, contained=True)


def test_without_a_limit_the_machines_memory_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 1000 kB\nMemAvailable: 900 kB\n")
    monkeypatch.setattr(module, "_MEMINFO", meminfo)
    own = group(tmp_path / "one", memory__limit_in_bytes="9223372036854771712")
    for made in (Container(None, None), Container(Groups(1, (own,)), None)):
        assert made.memory() == Memory(1000 * 1024, 100 * 1024)
        assert not made.memory_is_scarce()
    meminfo.write_text("MemTotal: 1000 kB\nMemAvailable: 100 kB\n")
    assert Container(None, None).memory_is_scarce()


def test_a_full_container_is_scarce_on_an_empty_machine(tmp_path: Path) -> None:
    own = group(tmp_path / "one", memory__limit_in_bytes=str(MIB), memory__usage_in_bytes=str(MIB))
    assert Container(Groups(1, (own,)), None).memory_is_scarce()


def test_cpus_are_the_lowest_quota_or_the_affinity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.os, "sched_getaffinity", lambda _: {0, 1, 2})
    two = group(tmp_path / "two", cpu__max="150000 100000")
    one = group(tmp_path / "one", cpu__cfs_quota_us="50000", cpu__cfs_period_us="100000")
    assert Container(None, None).cpus() == 3.0
    assert Container(None, Groups(2, (two,))).cpus() == 1.5
    assert Container(None, Groups(1, (one,))).cpus() == 0.5


def test_kills_for_lack_of_memory_are_counted_in_the_own_group(tmp_path: Path) -> None:
    one = group(tmp_path / "one", memory__oom_control="oom_kill_disable 0\nunder_oom 0\noom_kill 3")
    two = group(tmp_path / "two", memory__events="oom 9\noom_kill 4")
    kills = [Container(groups, None).out_of_memory_kills() for groups in (Groups(1, (one,)), Groups(2, (two,)), None)]
    assert kills == [3, 4, 0]
