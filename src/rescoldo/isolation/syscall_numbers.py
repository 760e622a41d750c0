"""Numbers of the system calls in the seccomp filter, grouped by what the filter does with them.

Numbers are from Linux 6.18: arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h (aarch64). A
number never changes its meaning; from 424 on, all architectures share them.
"""

from __future__ import annotations

# name: (x86_64, aarch64), None where the architecture has no such call
_Table = dict[str, tuple[int | None, int | None]]

REFUSED: _Table = {
    # mounts and the root directory
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "open_tree_attr": (467, 467),
    # namespaces
    "unshare": (272, 97),
    "setns": (308, 268),
    # other processes
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    # calls with a large attack surface in the kernel
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "open_by_handle_at": (304, 265),
    "name_to_handle_at": (303, 264),
    "fanotify_init": (300, 262),
    "lookup_dcookie": (212, 18),
    # the machine itself
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "reboot": (169, 142),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "adjtimex": (159, 171),
    "clock_adjtime": (305, 266),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "iopl": (172, None),
    "ioperm": (173, None),
    "syslog": (103, 116),
    "vhangup": (153, 58),
}
# Reported as missing, so that libraries fall back: glibc has clone, libuv its threads. The arguments of clone3 lie in
# memory, which a filter cannot read.
ABSENT: _Table = {
    "clone3": (435, 435),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
}
JUDGED: _Table = {  # an argument decides
    "clone": (56, 220),
    "personality": (135, 92),
    "ioctl": (16, 29),
    "socket": (41, 198),
    "socketpair": (53, 199),
    "mknod": (133, None),
    "mknodat": (259, 33),
}
# System V and POSIX queues, semaphores and shared memory; another process's limits, priority and processors
OF_ONE_UID: _Table = {
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "semget": (64, 190),
    "semop": (65, 193),
    "semtimedop": (220, 192),
    "semctl": (66, 191),
    "msgget": (68, 186),
    "msgsnd": (69, 189),
    "msgrcv": (70, 188),
    "msgctl": (71, 187),
    "mq_open": (240, 180),
    "prlimit64": (302, 261),
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "sched_setaffinity": (203, 122),
    "sched_setattr": (314, 274),
}
# What makes a process, beside clone, and what takes one out of its session: another process may be asked first.
ASKED: _Table = {
    "fork": (57, None),
    "vfork": (58, None),
    "setsid": (112, 157),
}
_OURS: _Table = {
    "seccomp": (317, 277),
}
_COLUMN = {"x86_64": 0, "aarch64": 1}

MACHINES = tuple(_COLUMN)


def numbers(machine: str) -> dict[str, int]:
    """Return the calls that `machine` (as in `uname -m`) has: name → number. Raises KeyError for another machine."""
    column = _COLUMN[machine]
    tables = REFUSED | ABSENT | JUDGED | OF_ONE_UID | ASKED | _OURS
    return {name: number for name, row in tables.items() if (number := row[column]) is not None}
