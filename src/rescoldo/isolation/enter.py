"""The first program of an unprivileged command: enters the view, drops root, becomes the command."""

from __future__ import annotations

import json
import os
import sys

from rescoldo.isolation.identity import become, limit_resources
from rescoldo.isolation.mounts import View, cover_scratch, enter, in_scratch
from rescoldo.isolation.syscalls import no_new_privileges

_OPEN_FILES = 4096


def main(arguments: list[str]) -> int:
    """Run the JSON object in `arguments[0]`: view, uid, gid, cwd, argv. Returns only on failure."""
    order = json.loads(arguments[0])
    argv = order["argv"]
    try:
        cover_scratch(in_scratch(enter(View.from_json(order["view"]))))
        os.umask(0o022)
        limit_resources(_OPEN_FILES)
        become(order["uid"], order["gid"])
        no_new_privileges()
        os.chdir(order["cwd"])
        os.execvp(argv[0], argv)
    except OSError as error:
        print(f"cannot run {argv[0]}: {error}", file=sys.stderr)
        return 127
