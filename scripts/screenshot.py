"""Draws docs/terminal.svg: a real session with a platform of its own, as a terminal shows it.

Run it with the project's Python: `.venv/bin/python scripts/screenshot.py`.
"""

from __future__ import annotations

import io
import os
import pty
import re
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.text import Text

PICTURE = Path(__file__).parents[1] / "docs" / "terminal.svg"
COLUMNS, ROWS = 104, 60
SLEEP_PATIENCE = 30.0  # seconds; the idle window is 10
CALL = r"curl -d Ada {}/function/greet -w 'cold: %header{{x-cold-start}}, %{{time_total}} s\n'"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def run(command: str, folder: Path, environment: dict[str, str]) -> str:
    """Return a command's output on a terminal of COLUMNS columns; exits if the command fails."""
    ours, theirs = pty.openpty()
    size = {"COLUMNS": str(COLUMNS), "LINES": str(ROWS), "TERM": "xterm-256color"}
    streams = {"stdin": subprocess.DEVNULL, "stdout": theirs, "stderr": theirs}
    process = subprocess.Popen(["bash", "-c", command], cwd=folder, env=environment | size, **streams)
    os.close(theirs)
    written = b""
    while True:
        try:
            chunk = os.read(ours, 65536)
        except OSError:  # the command has ended and closed the terminal
            break
        if not chunk:
            break
        written += chunk
    os.close(ours)
    if process.wait():
        sys.exit(f"{command} failed:\n{written.decode()}")
    return last_state(written.decode())


def last_state(written: str) -> str:
    """Return the final screen, without lines that progress output overwrites."""
    text = written.replace("\r\n", "\n")
    text = re.sub(r"\x1b\[\?25[lh]", "", text)
    lines: list[str] = []
    for line in text.split("\n"):
        while "\x1b[1A" in line and lines:  # rewrites the line above
            line = line.replace("\x1b[1A", "", 1)
            lines.pop()
        lines.append(re.sub(r"\x1b\[\d?[KG]", "", line.rstrip("\r").rsplit("\r", 1)[-1]))
    return "\n".join(lines).strip("\n")


def until_asleep(folder: Path, environment: dict[str, str]) -> None:
    deadline = time.monotonic() + SLEEP_PATIENCE
    while '"availableReplicas": 0' not in run("rescoldo list --json", folder, environment | {"NO_COLOR": "1"}):
        if time.monotonic() > deadline:
            sys.exit("the function does not go to sleep")
        time.sleep(0.5)


def main() -> None:
    bin_folder = str(Path(sys.executable).parent)
    with tempfile.TemporaryDirectory(prefix="rescoldo-screenshot-") as name:
        folder = Path(name)
        gateway, metrics = free_port(), free_port()
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("OPENFAAS_", "RESCOLDO_"))}
        environment = kept | {
            "PATH": f"{bin_folder}:{os.environ['PATH']}",
            "OPENFAAS_URL": f"http://127.0.0.1:{gateway}",
            "RESCOLDO_DATA": str(folder / "data"),
        }
        (folder / "work").mkdir()
        work = folder / "work"
        screen = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)

        def show(command: str, shown: str = "") -> None:
            output = run(command, work, environment)
            screen.print(Text.assemble(("$ ", "bold green"), (shown or command, "bold")))
            screen.print(Text.from_ansi(output))

        try:
            show("rescoldo new greet --lang python3-http")
            show(f"rescoldo up --metrics-address 127.0.0.1:{metrics}", "rescoldo up")
            run("rescoldo scale greet 0", work, environment)
            until_asleep(work, environment)
            call = CALL.format(environment["OPENFAAS_URL"])
            show(call.replace("curl", "curl -s", 1), call)
            show(call.replace("curl", "curl -s", 1), call)
            until_asleep(work, environment)
            show("rescoldo list", "rescoldo list      # 10 s later")
        finally:
            subprocess.run(["rescoldo", "down"], env=environment, cwd=work, stdout=subprocess.DEVNULL, check=False)
        svg = screen.export_svg(title="rescoldo")
        PICTURE.write_text(svg.replace(f":{gateway}", ":8080").replace(str(folder), "~"))
        print(f"wrote {shlex.quote(str(PICTURE))}")


if __name__ == "__main__":
    main()
