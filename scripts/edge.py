"""Asks the edge of the local platform, over HAProxy's Runtime API: `scripts/edge.py show servers state`.

Which platform is as for `rescoldo status`: $RESCOLDO_DATA, else the default data folder. `help` lists the commands, and
`show map` the maps, whose files the words `routes.map` and the like stand for.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from rescoldo.cli.local import local_platform
from rescoldo.edge.admin import AdminSocket
from rescoldo.model.errors import EdgeUnavailable


def main(words: list[str]) -> int:
    settings = local_platform(None)
    if settings is None or not words:
        print(__doc__ if settings is not None else "no platform has run here", file=sys.stderr)
        return 2
    folder = Path(settings.admin_socket).parent
    command = " ".join(str(folder / word) if word.endswith(".map") else word for word in words)
    try:
        print(asyncio.run(AdminSocket(Path(settings.admin_socket)).run(command)).strip())
    except EdgeUnavailable as error:
        print(f"{settings.admin_socket}: {error.__cause__ or error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
