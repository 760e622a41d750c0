"""Finds and imports a function's handler in its unpacked bundle."""

from __future__ import annotations

import importlib
import inspect
import io
import json
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType, FunctionType, TracebackType
from typing import Any

from rescoldo.model.errors import StartFailed
from rescoldo.runtime import classic
from rescoldo.runtime.events import Context, Event, Request
from rescoldo.runtime.hiding import advice
from rescoldo.runtime.imports import forget_package, make_package
from rescoldo.runtime.journal import JOURNAL, kind_of, traceback_text
from rescoldo.runtime.results import Response, respond, respond_classic

_MAX_REASON = 300  # characters of a one-line reason


@dataclass(frozen=True, slots=True)
class Handler:
    """A function's code, ready to be called."""

    call: Callable[[Request], Any]
    respond: Callable[[Any], Response]  # raises InvalidResponse
    on_loop: bool  # an async function or generator runs on the loop; any other in a thread


async def _rehearsed(event: Event, context: Context) -> str:
    return f"{event.method} {event.path} {context.hostname}"


REHEARSED = Handler(lambda r: _rehearsed(Event(r), Context(r.call_id)), respond, on_loop=True)
"""An async handler that a spare calls in its rehearsal."""


def load_handler(root: str) -> Handler:
    """Import the handler of the bundle unpacked at `root`. Raises StartFailed with a one-line reason.

    The traceback of the function's code, if there is one, goes to the function's log. `root` and `root`/deps are put
    at the front of sys.path.
    """
    name, style = _manifest(root)
    sys.path[:0] = [root, f"{root}/deps"]
    if style == "classic":
        classic.share_process()  # before the import: modules may keep sys.stdout or os.environ
    handle = _import(name, root)
    arguments = (None, None) if style == "http" else (None,)
    _check_signature(handle, arguments, name)
    on_loop = _is_async(handle)
    if style == "classic":
        return Handler(classic.caller(handle, on_loop=on_loop), respond_classic, on_loop)
    return Handler(lambda r: handle(Event(r), Context(r.call_id)), respond, on_loop)


def unload_handler(root: str) -> None:
    """Undo `load_handler`: forget the handler and the folders searched for it."""
    name, _ = _manifest(root)
    forget_package(name.partition(".")[0])
    sys.path[:] = [path for path in sys.path if path not in (root, f"{root}/deps")]
    for folder in [path for path in sys.path_importer_cache if path.startswith(root)]:
        del sys.path_importer_cache[folder]


def _manifest(root: str) -> tuple[str, str]:
    """Return (dotted name of the handler's module, style)."""
    try:
        # io.FileIO, because the further layers of open() cost a fresh fork page faults.
        with io.FileIO(f"{root}/manifest.json") as file:
            manifest = json.loads(file.readall())
        schema, name, style = (manifest[key] for key in ("schema", "handler", "style"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StartFailed(f"manifest.json of the bundle cannot be read: {error!r}") from error
    if schema not in (1, 2) or style not in ("http", "classic"):
        raise StartFailed(f"manifest.json: cannot run schema {schema!r}, style {style!r}")
    return str(name), str(style)


def _import(name: str, root: str) -> Any:
    file = name.rpartition(".")[2] + ".py"
    make_package(name.partition(".")[0], root)
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            raise StartFailed(f"{file} is missing in the function's folder") from error
        raise _failed(error, root) from error
    except BaseException as error:  # SystemExit and KeyboardInterrupt, too: the start has failed
        raise _failed(error, root) from error
    handle = getattr(module, "handle", None)
    if handle is None:
        raise StartFailed(f"{file} defines no function named handle")
    if not callable(handle):
        raise StartFailed(f"{file}: handle is {type(handle).__name__}, not a function")
    return handle


def _check_signature(handle: Any, arguments: tuple[None, ...], name: str) -> None:
    if isinstance(handle, FunctionType) and _takes(handle.__code__, len(arguments)):
        return
    try:
        signature = inspect.signature(handle)
    except (ValueError, TypeError):  # builtins may have no signature
        return
    try:
        signature.bind(*arguments)
    except TypeError as error:
        wanted = "handle(event, context)" if len(arguments) == 2 else "handle(req)"
        file = name.rpartition(".")[2] + ".py"
        raise StartFailed(f"{file}: handle{signature} cannot be called as {wanted}") from error


def _takes(code: CodeType, count: int) -> bool:
    """Whether a function plainly takes `count` arguments. inspect.signature would answer for any callable, but in a
    fresh fork it touches 78 pages (0.4 ms)."""
    return code.co_argcount == count and not code.co_kwonlyargcount


def _is_async(handle: Any) -> bool:
    if isinstance(handle, FunctionType):
        return bool(handle.__code__.co_flags & (inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR))
    methods = (handle, getattr(handle, "__call__", None))  # noqa: B004
    return any(inspect.iscoroutinefunction(m) or inspect.isasyncgenfunction(m) for m in methods)


def _failed(error: BaseException, root: str) -> StartFailed:
    JOURNAL.say(traceback_text(error, root))
    return StartFailed(describe(error, root))


def describe(error: BaseException, root: str) -> str:
    """Describe `error` in one line: `handler.py line 3: SyntaxError: invalid syntax`."""
    try:
        text = " ".join(_said(error).split())
    except BaseException:  # str() of the function's own exceptions may raise anything
        text = kind_of(error)
    place = _place(error, root)
    return f"{place}: {text}"[:_MAX_REASON] if place else text[:_MAX_REASON]


def _said(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"sys.exit({error.code!r}) was called while it was imported"
    said = traceback.format_exception_only(type(error), error)[-1]
    return f"{said.rstrip()}: {advised}" if (advised := advice(error)) else said


def _place(error: BaseException, root: str) -> str:
    """Return `FILE line N` of the deepest frame in the function's own folder, else in its bundle, else ''."""
    if isinstance(error, SyntaxError) and str(error.filename).startswith(f"{root}/"):
        return f"{_shown(str(error.filename), root)} line {error.lineno}"
    places: dict[str, str] = {}
    frame: TracebackType | None = error.__traceback__
    while frame:
        filename = frame.tb_frame.f_code.co_filename
        if filename.startswith(f"{root}/"):
            whose = "deps" if filename.startswith(f"{root}/deps/") else "own"
            places[whose] = f"{_shown(filename, root)} line {frame.tb_lineno}"
        frame = frame.tb_next
    return places.get("own") or places.get("deps") or ""


def _shown(filename: str, root: str) -> str:
    """Return a path relative to the handler's folder, as the function's author knows it."""
    return filename.removeprefix(f"{root}/").removeprefix("function/")
