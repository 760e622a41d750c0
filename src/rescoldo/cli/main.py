"""The `rescoldo` command.

Starts fast: a verb's module is imported when that verb runs, never for `--help`. Exit status: 0 success,
1 it failed (the reason is on stderr), 2 the command line is wrong, 130 interrupted by Ctrl-C.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING

import click

from rescoldo import __version__
from rescoldo.cli import loading
from rescoldo.cli.output import complain
from rescoldo.model.errors import RescoldoError

if TYPE_CHECKING:
    from types import TracebackType

DEBUG = "RESCOLDO_DEBUG"
# no bugs of ours: what a disk and what a folder refuses
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
_REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP})

# verb → (loader of its module, its line in --help)
VERBS: dict[str, tuple[Callable[[], loading.Commands], str]] = {
    "up": (loading.up, "Build, upload and deploy; start a local platform if none runs."),
    "watch": (loading.up, "Build and deploy each time a file is saved."),
    "down": (loading.local, "Stop the local platform."),
    "serve": (loading.serve, "Run the platform on this machine."),
    "status": (loading.local, "Show the platform's processes and functions."),
    "new": (loading.new, "Create a function: a handler folder and an entry in stack.yaml."),
    "validate": (loading.validate, "Check stack.yaml and the handlers without building."),
    "build": (loading.build, "Build bundles from stack.yaml or from flags."),
    "diff": (loading.diff, "Show what a deployment of stack.yaml would change."),
    "deploy": (loading.deploy, "Deploy functions from stack.yaml or from flags."),
    "remove": (loading.deploy, "Remove functions."),
    "list": (loading.functions, "List deployed functions."),
    "describe": (loading.functions, "Show one function in full."),
    "revisions": (loading.revisions, "List a function's revisions and their shares of traffic."),
    "rollback": (loading.revisions, "Deploy a past revision again."),
    "traffic": (loading.revisions, "Split a function's traffic between revisions."),
    "scale": (loading.functions, "Set how many instances a function has; 0 puts it to sleep."),
    "pause": (loading.pause, "Refuse a function's calls until it is resumed."),
    "resume": (loading.pause, "Resume a paused function."),
    "ready": (loading.functions, "Wait until the gateway or a function is ready."),
    "invoke": (loading.invoke, "Call a function with standard input as body."),
    "logs": (loading.logs, "Show what a function prints."),
    "replay": (loading.replay, "Play a trace of calls: compare memory, cold starts and delays of settings."),
    "secret": (loading.secret, "Secrets of functions, files at /var/openfaas/secrets/NAME."),
    "namespace": (loading.namespace, "Namespaces, each with functions and secrets of its own."),
    "login": (loading.access, "Save the password of a gateway."),
    "logout": (loading.access, "Forget the password of a gateway."),
    "generate": (loading.generate, "Print functions as Kubernetes objects in YAML."),
    "store": (loading.store, "Browse and deploy published functions."),
    "template": (loading.template, "Templates that functions start from."),
    "kubernetes": (loading.kubernetes, "The platform in a Kubernetes cluster: install, upgrade, remove."),
    "version": (loading.version, "Show the version."),
    "help": (loading.version, "Show help for rescoldo or one of its verbs."),
    "completion": (loading.version, "Print a shell's completion script."),
}
ALIASES = {"rm": "remove", "ls": "list"}


class Verbs(click.Group):
    """Lists verbs and imports the module of a verb on its first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        name = ALIASES.get(cmd_name, cmd_name)
        if name not in VERBS:
            return None
        load, _ = VERBS[name]
        return load()[name]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            close = get_close_matches(args[0], [*VERBS, *ALIASES], n=1)
            hint = f" Did you mean {close[0]!r}?" if close else " See `rescoldo --help`."
            ctx.fail(f"no command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Format the list from VERBS, so that help imports no verb."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in VERBS.items()])


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="rescoldo %(version)s")
def root() -> None:
    """Functions that sleep at zero and wake in milliseconds.

    \b
    rescoldo new hello --lang python3-http
    rescoldo up

    Exit status: 0 success, 1 failure, 2 wrong usage, 130 interrupted.
    """


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status; raises nothing except SystemExit."""
    _open_streams()
    try:
        result = root.main(list(sys.argv[1:] if argv is None else argv), prog_name="rescoldo", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 130
    except BrokenPipeError:
        _drop_output()  # its reader has gone
        return 1
    except RescoldoError as error:
        return _fail(error.message, error.__traceback__)
    except OSError as error:
        if error.errno in _NO_ROOM and error.filename is None:
            _drop_output()
            return _fail(f"cannot write the output: {error.strerror}", error.__traceback__)
        if error.errno in _NO_ROOM | _REFUSED and isinstance(error.filename, str):
            return _fail(f"{error.filename}: {error.strerror}", error.__traceback__)
        return _bug(error)
    except Exception as error:
        return _bug(error)


def _bug(error: Exception) -> int:
    text = f"internal error: {type(error).__name__}: {error}"
    if not os.environ.get(DEBUG):
        text += f"\nThis is a bug in rescoldo; run it again with {DEBUG}=1 for the traceback."
    return _fail(text, error.__traceback__)


def _open_streams() -> None:
    """Open the standard streams that the caller has closed, at /dev/null: Python has None in their place."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))


def _drop_output() -> None:
    """Leave nothing to flush at exit, which would fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str, traceback: TracebackType | None) -> int:
    if os.environ.get(DEBUG):
        from traceback import print_tb

        print_tb(traceback)
    complain(message)
    return 1
