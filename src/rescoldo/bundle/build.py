"""Builds a bundle from a function's folder: one tar.gz, named by its digest.

    manifest.json   its kind, and the machines it runs on (manifest.py)
    function/       the user's folder, and the additions of configuration.copy

The packages of requirements.txt are a separate archive beside the bundle, the layer (deps.py); the manifest names its
digest. The same input gives the same bytes, so a client need not send a digest that the platform has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rescoldo.bundle.archive import write_archive
from rescoldo.bundle.bytecode import compile_source, compiled_name
from rescoldo.bundle.deps import ARCHIVE, Layer, Progress, Run, default_cache, make_layer
from rescoldo.bundle.manifest import Manifest, manifest_here
from rescoldo.bundle.requirements import Requirements, read_requirements
from rescoldo.bundle.tree import BundleFile, collect
from rescoldo.kinds.registry import kind_of_style
from rescoldo.model.errors import BuildFailed

BUNDLE = "bundle.tar.gz"
REQUIREMENTS = "function/requirements.txt"  # in the bundle


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """The input of a build. Folders may be relative to the current one."""

    name: str
    lang: str
    style: str  # one of its kind's (Kind.styles)
    handler: Path  # folder of the handler
    project: Path = Path()  # folder that every path of `copy` must be inside
    copy: tuple[Path, ...] = ()  # folders (or files) copied into function/, under their path in the project
    fresh: bool = False  # install requirements again, even if the cache has them
    command: tuple[str, ...] = ()  # its deployment's command, if known: the build checks that its file exists


@dataclass(frozen=True, slots=True)
class BuiltBundle:
    """A bundle on disk."""

    path: Path
    digest: str  # sha256 of the file, in hex
    size: int  # bytes
    manifest: Manifest
    layer: Layer | None = None  # of its requirements


def build(request: BuildRequest, out_dir: Path, progress: Progress, run: Run, cache: Path | None = None) -> BuiltBundle:
    """Build `request` into `out_dir`/bundle.tar.gz, with its requirements in `out_dir`/layer.tar.gz.

    `progress` is called with lines for the user; `run` runs the installer (deps.Run); `cache` keeps installed
    requirements (default_cache()). Raises BuildFailed.
    """
    requirements = check(request)
    layer = None
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        entries = _function_entries(request, out_dir)
        # a function with requirements is Python, and runs on the version that they were installed for
        python = kind_of_style(request.style).needs_python or bool(requirements.lines)
        texts = _compiled(entries, progress) if python else {}
        if requirements.public:
            entries = [entry for entry in entries if entry.name != REQUIREMENTS]
            texts[REQUIREMENTS] = requirements.public.encode()
        if requirements.lines:
            layer = make_layer(requirements, cache or default_cache(), run, progress, fresh=request.fresh)
            layer.put_into(out_dir)
        else:
            (out_dir / ARCHIVE).unlink(missing_ok=True)  # an earlier build's layer
        manifest = manifest_here(request.lang, request.style, layer.digest if layer is not None else "")
        texts["manifest.json"] = manifest.to_text().encode()
        digest = write_archive(out_dir / BUNDLE, entries, texts)
    except OSError as error:
        raise BuildFailed(f"{request.name}: {error.strerror or error}: {error.filename or out_dir}") from error
    path = out_dir / BUNDLE
    return BuiltBundle(path, digest, path.stat().st_size, manifest, layer)


def check(request: BuildRequest) -> Requirements:
    """Check `request` as far as possible without building; return the requirements that a build would install.

    Raises BuildFailed.
    """
    try:
        kind_of_style(request.style).check_source(request.handler, request.style, request.command)
        for folder in request.copy:
            _copied(folder, request.project)
        return read_requirements(request.handler / "requirements.txt", f"{request.handler}/requirements.txt")
    except OSError as error:  # a folder that this user may not search
        raise BuildFailed(f"{error.filename or request.handler}: cannot be read: {error.strerror}") from error


def _function_entries(request: BuildRequest, out_dir: Path) -> list[BundleFile]:
    # the handler folder may be the whole project: its build folder must not end up in the bundle
    entries = collect(request.handler, "function", skip=frozenset({out_dir.resolve().parent}))
    taken = {entry.name: entry.file for entry in entries}
    for folder in request.copy:
        for entry in _copied(folder, request.project):
            if entry.name in taken:
                raise BuildFailed(
                    f"configuration.copy: {entry.file} would replace {taken[entry.name]}; rename one of them"
                )
            taken[entry.name] = entry.file
            entries.append(entry)
    return entries


def _copied(folder: Path, project: Path) -> list[BundleFile]:
    real, root = folder.resolve(), project.resolve()
    if not real.is_relative_to(root) or real == root:
        raise BuildFailed(f"configuration.copy: {folder} is not a folder inside the project {root}")
    if not real.exists():
        raise BuildFailed(f"configuration.copy: {folder} does not exist")
    name = f"function/{real.relative_to(root).as_posix()}"
    return collect(real, name) if real.is_dir() else [BundleFile(name, real)]


def _compiled(entries: list[BundleFile], progress: Progress) -> dict[str, bytes]:
    """Return the .pyc files of the function's own modules."""
    compiled: dict[str, bytes] = {}
    for entry in entries:
        if entry.name.endswith(".py") and not entry.link:
            try:
                compiled[compiled_name(entry.name)] = compile_source(entry.file.read_bytes(), entry.name)
            except SyntaxError as error:
                progress(f"warning: {entry.file}:{error.lineno or 1}: {error.msg}; importing it will fail")
            except (ValueError, RecursionError) as error:
                progress(f"warning: {entry.file}: cannot be compiled: {error}")
    return compiled


def summary(bundle: BuiltBundle) -> Mapping[str, object]:
    """Return a built bundle's facts for scripts."""
    about: dict[str, object] = {"path": str(bundle.path), "digest": bundle.digest, "size": bundle.size}
    if bundle.layer is not None:
        about["layer"] = {"digest": bundle.layer.digest, "size": bundle.layer.size}
    return about
