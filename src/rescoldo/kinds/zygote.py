"""The zygote's program. What it does is said in runtime/zygote.py; here it learns what forks of each kind run."""

from __future__ import annotations

from rescoldo.kinds.protocol import WARM
from rescoldo.kinds.registry import KINDS
from rescoldo.runtime import zygote
from rescoldo.runtime.starter import Starters


def main(arguments: list[str]) -> int:
    """Run a zygote, which knows all kinds; see `run` in runtime/zygote.py."""
    return zygote.run(arguments, bind)


def bind(name: str) -> Starters:
    """What the zygote WARM or BARE forks: a warm one every kind, as it stands in for a bare one that is not ready. Its
    spares rehearse what is its own."""
    kinds = [kind for kind in KINDS.values() if name in (WARM, kind.zygote)]
    starters = {kind.name: kind.starter() for kind in kinds}
    return Starters(starters, tuple(starters[kind.name].rehearse for kind in kinds if kind.zygote == name))
