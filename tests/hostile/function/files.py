"""Attacks that read and write files of others."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import sys
import sysconfig
from contextlib import suppress

from rescoldo.isolation.mounts import DEVICES

from .kit import MARKER, Target, Tries, attack, read, syscall, write


@attack("reads another function's code", proven=True)
def another_functions_code(target: Target, tries: Tries) -> None:
    folder = target["victim"]["code"]
    for path in (folder, f"{folder}/function/handler.py", f"{folder}/manifest.json"):
        tries.get(f"read {path}", lambda path=path: read(path))
    tries.get("list all bundles", lambda: [name for name in os.listdir(target["bundles"]) if name in folder])


@attack("reads another function's secrets", proven=True)
def another_functions_secrets(target: Target, tries: Tries) -> None:
    for path in target["victim"]["secrets"]:
        tries.get(f"read {path}", lambda path=path: read(path))
        parent = os.path.dirname(path)
        tries.get(f"list {parent}", lambda parent=parent: os.listdir(parent))


@attack("reads another function's /tmp, /var/tmp or /dev/shm", proven=True)
def another_functions_scratch(target: Target, tries: Tries) -> None:
    for path in target["victim"]["scratch"]:
        tries.get(f"read {path}", lambda path=path: read(path))
    for folder in ("/tmp", "/var/tmp", "/dev/shm"):
        tries.get(f"list {folder}", lambda folder=folder: [n for n in os.listdir(folder) if MARKER in n])


@attack("reads the platform's database, passwords, settings or logs", proven=True)
def the_platforms_data(target: Target, tries: Tries) -> None:
    for path in target["platform_files"]:
        # the folders for bundles and for the functions' Python may exist, but nothing else
        tries.get(f"read {path}", lambda path=path: " ".join(set(read(path).split()) - {"bundles", "python"}))


@attack("reads homes, services' data and other folders of the machine", proven=True)
def homes_and_services(target: Target, tries: Tries) -> None:
    for path in target["host_files"]:
        tries.get(f"read {path}", lambda path=path: read(path))


@attack("writes to its own code")
def own_code(target: Target, tries: Tries) -> None:
    folder = target["own"]["code"]
    for name in ("function/handler.py", "function/new.py", "manifest.json", "deps/new.py"):
        tries.do(f"write {name}", lambda name=name: write(f"{folder}/{name}", ""))
    tries.do("rename", lambda: _there_and_back(f"{folder}/manifest.json"))


@attack("changes modes or times of its own code, of other functions' or of the platform's files", unprivileged=False)
def modes_and_times(target: Target, tries: Tries) -> None:
    for path in (target["own"]["code"], target["victim"]["code"], *target["platform_files"]):
        tries.do(f"chmod {path}", lambda path=path: os.chmod(path, 0o700))
        tries.do(f"utime {path}", lambda path=path: os.utime(path))


@attack("writes to another function's code")
def another_functions_code_written(target: Target, tries: Tries) -> None:
    folder = target["victim"]["code"]
    tries.do("write handler.py", lambda: write(f"{folder}/function/handler.py", ""))
    tries.do("make a file", lambda: write(f"{folder}/function/usercustomize.py", ""))
    tries.do("make a bundle", lambda: os.mkdir(f"{target['bundles']}/hostile"))


@attack("writes to the interpreter or to its packages")
def the_interpreter(target: Target, tries: Tries) -> None:
    places = [sysconfig.get_path("stdlib"), sys.prefix, target["package"]]
    for place in places:
        tries.do(f"make a file in {place}", lambda place=place: write(f"{place}/hostile.pth", ""))
    for path in (sys.executable, os.path.realpath(sys.executable), os.__file__, f"{target['package']}/__init__.py"):
        tries.do(f"write {path}", lambda path=path: write(path, ""))


@attack("writes to /etc, /usr or the root directory")
def the_system(target: Target, tries: Tries) -> None:
    for path in ("/etc/passwd", "/etc/hosts", "/usr/bin/env"):
        tries.do(f"write {path}", lambda path=path: write(path, ""))
    for folder in ("/", "/etc", "/usr", "/usr/bin", "/usr/local/bin", "/usr/lib", "/opt", "/dev", "/var", "/proc"):
        path = f"{folder}/hostile-{os.getpid()}"
        tries.do(f"make a file in {folder}", lambda path=path: write(path, ""))
        tries.do(f"make a folder in {folder}", lambda path=path: os.mkdir(path))
        with suppress(OSError):
            os.unlink(path)


@attack("reads another function's code through links and paths that lead upwards", proven=True)
def links(target: Target, tries: Tries) -> None:
    code, scratch = f"{target['victim']['code']}/function/handler.py", os.environ["TMPDIR"]
    soft, hard = f"{scratch}/soft", f"{scratch}/hard"
    for path in (soft, hard):
        with suppress(OSError):
            os.unlink(path)
    with suppress(OSError):
        os.symlink(code, soft)
    tries.get("read through a symbolic link", lambda: read(soft))
    tries.do("make a hard link", lambda: os.link(code, hard))
    up = os.path.relpath(code, os.getcwd())
    tries.get(f"read {up}", lambda: read(up))
    tries.get("read through /proc/self/cwd", lambda: read(f"/proc/self/cwd/{up}"))
    tries.get("read above the root", lambda: read("/.." * 30 + code))
    if target["level"] != "none":
        tries.do("rename into its own folder", lambda: os.rename(code, f"{scratch}/mine"))


@attack("opens or makes devices")
def devices(target: Target, tries: Tries) -> None:
    for name in ("mem", "kmsg", "port", "vda", "sda", "nvme0n1", "kvm", "fuse", "net/tun", "loop-control", "tty",
                 "console", "ptmx", "hwrng", "userfaultfd", "vsock", "vhost-net", "snapshot", "rtc"):  # fmt: skip
        tries.do(f"open /dev/{name}", lambda name=name: os.close(os.open(f"/dev/{name}", os.O_RDWR | os.O_NONBLOCK)))
    ours = {*DEVICES, "fd", "stdin", "stdout", "stderr", "shm"}
    if target["level"] == "full":
        tries.get("any other device", lambda: set(os.listdir("/dev")) - ours)
    folder = os.environ["TMPDIR"]
    for kind in (stat.S_IFCHR, stat.S_IFBLK):
        path = f"{folder}/device-{kind}"
        tries.do(f"mknod {kind:o}", lambda kind=kind, path=path: os.mknod(path, kind | 0o666, os.makedev(1, 1)))


@attack("gains rights by set-uid programs or file capabilities")
def set_uid(target: Target, tries: Tries) -> None:
    copy = f"{os.environ['TMPDIR']}/id"
    shutil.copyfile("/usr/bin/id", copy)
    os.chmod(copy, 0o6755)
    own = os.geteuid()

    def euid(*command: str) -> str:
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        return done.stdout.strip() if done.stdout.strip() not in ("", str(own)) else ""

    tries.get("run a set-uid copy of id", lambda: euid(copy, "-u"))
    tries.get("su", lambda: euid("su", "-c", "id -u"))
    tries.do("chown to root", lambda: os.chown(copy, 0, 0))
    tries.do("give it capabilities", lambda: os.setxattr(copy, "security.capability", bytes.fromhex("01000002") * 5))
    status = read("/proc/self/status")
    for line in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        value = status.partition(f"{line}:")[2].split()[0]
        tries.get(f"{line} is empty", lambda value=value: value.strip("0"))
    tries.get("no_new_privs is set", lambda: "" if "NoNewPrivs:\t1\n" in status else "it is not")
    tries.get("the filter is there", lambda: "" if "Seccomp:\t2\n" in status else "it is not")


@attack("changes settings of the kernel in /proc/sys, /proc/sysrq-trigger or /sys")
def kernel_settings(target: Target, tries: Tries) -> None:
    for path in ("/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname",
                 "/proc/sys/vm/drop_caches", "/proc/sys/net/ipv4/ip_forward", "/proc/sys/kernel/modprobe",
                 "/proc/irq/default_smp_affinity",
                 "/sys/devices/system/cpu/cpu1/online", "/sys/kernel/uevent_helper", "/proc/kcore"):  # fmt: skip
        tries.do(f"open {path} for writing", lambda path=path: os.close(os.open(path, os.O_WRONLY)))
    tries.do("map users anew", lambda: write("/proc/self/uid_map", "0 0 1"))
    lower = "-1000"
    tries.do("be spared when memory is short", lambda: write("/proc/self/oom_score_adj", lower))
    for path in ("/proc/kcore", "/proc/kallsyms", "/proc/slabinfo", "/proc/timer_list", "/proc/iomem"):
        tries.get(f"read addresses in {path}", lambda path=path: _addresses(path))


@attack("leaves its cgroups or changes their limits")
def cgroups(target: Target, tries: Tries) -> None:
    for folder in target["cgroups"]:
        tries.get(f"list {folder}", lambda folder=folder: os.listdir(folder) and os.access(folder, os.W_OK))
        for file in ("cgroup.procs", "memory.limit_in_bytes", "memory.max", "pids.max", "cpu.max"):
            path = f"{folder}/{file}"
            tries.do(f"open {path} for writing", lambda path=path: os.close(os.open(path, os.O_WRONLY)))


@attack("opens files by their handles, past every path")
def handles(target: Target, tries: Tries) -> None:
    only = (errno.EPERM,)
    tries.do("name_to_handle_at", lambda: syscall("name_to_handle_at", -100, b"/etc", None, None, 0), only=only)
    tries.do("open_by_handle_at", lambda: syscall("open_by_handle_at", 3, None, 0), only=only)


@attack("watches others' files with fanotify")
def fanotify(target: Target, tries: Tries) -> None:
    tries.do("fanotify_init", lambda: syscall("fanotify_init", 0x200, 0), only=(errno.EPERM,))


def _there_and_back(path: str) -> None:
    os.rename(path, f"{path}.moved")
    os.rename(f"{path}.moved", path)


def _addresses(path: str) -> str:
    """Return a line of a kernel table with a real address; unprivileged readers see zeros."""
    for line in read(path).splitlines()[:200]:
        first = line.split()[0].partition("-")[0] if line.split() else ""
        if len(first) >= 8 and set(first) != {"0"}:
            return line
    return ""
