"""Draws warm memory over time. The only module that imports matplotlib, which is an extra: it takes 170 MB."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rescoldo.model.errors import InvalidInput
from rescoldo.replay.outcome import MB_PER_GB, Outcome

FORMATS = (".svg", ".png")
INCHES = (9.0, 4.5)


def check_picture(file: Path) -> None:
    """Raise InvalidInput, before the replay, when no picture could be written to `file`."""
    if file.suffix.lower() not in FORMATS:
        raise InvalidInput(f"--picture {file}: the name must end in {' or '.join(FORMATS)}")
    if not file.absolute().parent.is_dir():
        raise InvalidInput(f"--picture {file}: there is no folder {file.absolute().parent}")
    if find_spec("matplotlib") is None:
        raise InvalidInput("--picture needs matplotlib; in a clone of rescoldo: pipx install --force '.[charts]'")


def draw(outcomes: Sequence[Outcome], file: Path) -> None:
    """Write the picture: one line for each setting, always-on above them, memory in use below. Raises InvalidInput."""
    check_picture(file)
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    trace = outcomes[0].trace
    minutes = [trace.first + minute for minute in range(trace.minutes)]
    # the same figures give the same bytes, and text stays text
    with rc_context({"svg.hashsalt": "rescoldo", "svg.fonttype": "none"}):
        figure = Figure(figsize=INCHES, layout="constrained")
        axes: Any = figure.subplots()
        axes.axhline(trace.memory / MB_PER_GB, color="black", linestyle="--", label="always on (100 %)")
        for outcome in reversed(outcomes):
            label = f"idle window {outcome.setting} ({outcome.warm_share:.1f} %)"
            axes.plot(minutes, [mb / MB_PER_GB for mb in outcome.warm], linewidth=1.5, label=label)
        used = outcomes[0]
        label = f"in use ({used.used_share:.1f} %)"
        axes.fill_between(minutes, [mb / MB_PER_GB for mb in used.used], color="lightgrey", label=label)
        axes.set(xlabel="minute of the trace", ylabel="memory held, GB", xlim=(minutes[0], minutes[-1] + 1))
        axes.set_ylim(bottom=0)
        axes.set_title(f"{len(trace.functions)} functions, {trace.calls:,} calls in {trace.minutes} minutes")
        figure.legend(loc="outside right upper", frameon=False)
        try:
            figure.savefig(file, metadata={"Date": None} if file.suffix.lower() == ".svg" else None)
        except OSError as error:
            raise InvalidInput(f"--picture {file}: cannot be written: {error.strerror}") from error
