"""The zygote's program: runtime/zygote.py does the work; this module adds what forks of each kind run."""

from __future__ import annotations

from rescoldo.kinds.protocol import WARM
from rescoldo.kinds.registry import KINDS
from rescoldo.runtime import zygote
from rescoldo.runtime.starter import Starters


def main(arguments: list[str]) -> int:
    """Run a zygote; see `run` in runtime/zygote.py."""
    return zygote.run(arguments, bind)


def bind(name: str) -> Starters:
    """Return what the zygote WARM or BARE forks.

    A warm zygote forks every kind, because it stands in for a bare one that is not ready. Its spares rehearse only the
    kinds that are its own.
    """
    kinds = [kind for kind in KINDS.values() if name in (WARM, kind.zygote)]
    starters = {kind.name: kind.starter() for kind in kinds}
    return Starters(starters, tuple(starters[kind.name].rehearse for kind in kinds if kind.zygote == name))
