from __future__ import annotations

import os
import signal
import sys

from rescoldo.runtime import instance


def test_a_rehearsal_leaves_no_alarm_descriptor_or_module_behind() -> None:
    instance.rehearse()  # the first one leaves libuv's signal pipe, which is the process's for good
    descriptors = len(os.listdir("/proc/self/fd"))
    modules = set(sys.modules)
    instance.rehearse()
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGALRM) == signal.SIG_DFL
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert "rescoldo_rehearsal" not in set(sys.modules) - modules
