"""`rescoldo kubernetes image`"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from rescoldo import __version__
from rescoldo.cli.options import Verb, folded, json_option
from rescoldo.cli.output import Advance, human_size, note, say, say_json, upload_bar
from rescoldo.image.archive import write_image
from rescoldo.image.assembly import assemble
from rescoldo.image.bases import MINOR, Base
from rescoldo.image.blobs import Image
from rescoldo.image.cache import LayerCache, default_cache
from rescoldo.image.credentials import find_credentials
from rescoldo.image.loading import LOADERS, check, load
from rescoldo.image.machine import MACHINE
from rescoldo.image.protocol import Registry
from rescoldo.image.reference import Reference, parse
from rescoldo.image.transfer import pull_base, push
from rescoldo.model.errors import InvalidInput

DEFAULT_BASE = f"docker.io/library/python:{MINOR}-slim"
DEFAULT_NAME = f"docker.io/library/rescoldo:{__version__}"


@dataclass(frozen=True, slots=True)
class ImageFlags:
    """What to assemble, and where it goes."""

    base: str
    name: str
    push: str
    load: str
    cluster: str
    output: Path | None
    plain_http: bool


@click.command("image", cls=Verb)
@folded(
    ImageFlags,
    "flags",
    click.option(
        "--base",
        default=DEFAULT_BASE,
        show_default=True,
        metavar="IMAGE",
        help=f"Image with Python {MINOR} that it begins with, or `machine`: this machine's Python, from no registry.",
    ),
    click.option(
        "--push", default="", metavar="REGISTRY/NAME:TAG", help="Push it there, with the login of `docker login`."
    ),
    click.option("--load", type=click.Choice(list(LOADERS)), default=None, help="Load it into this machine's cluster."),
    click.option("--cluster", default="", metavar="NAME", help="Which cluster of kind, which profile of minikube."),
    click.option(
        "--output", type=click.Path(dir_okay=False, path_type=Path), default=None, metavar="FILE.tar",
        help="Write it as a file, for `docker load` or `ctr images import`.",
    ),
    click.option(
        "--name", default="", metavar="NAME:TAG",
        help=f"Its name for --load and --output. [that of --push, or {DEFAULT_NAME}]",
    ),
    click.option("--plain-http", is_flag=True, help="Speak HTTP to the registry, as always to one of this machine."),
)  # fmt: skip
@json_option
def image_command(flags: ImageFlags, as_json: bool) -> int:
    """Assemble the image that workers, gateways and control run, without Docker.

    \b
    rescoldo kubernetes image --push ghcr.io/me/rescoldo:1
    rescoldo kubernetes image --load kind

    It is for this machine's architecture alone. The same versions give the same digest.
    """
    pushed = parse(flags.push, "--push") if flags.push else None
    name = parse(flags.name, "--name") if flags.name else pushed or parse(DEFAULT_NAME, "--name")
    _check(flags, name, pushed)
    progress: Callable[[str], None] = (lambda _: None) if as_json else note
    with tempfile.TemporaryDirectory(prefix="rescoldo-image-") as folder:
        work = Path(folder)
        image = assemble(flags.base, work, lambda base, architecture: _pull(base, architecture, flags), progress)
        if flags.output is not None:
            write_image(image, str(name), flags.output)
        if flags.load:
            progress(f"loading into {flags.load}")
            write_image(image, str(name), work / "image.tar")
            load(flags.load, work / "image.tar", flags.cluster)
        if pushed is not None:
            progress(f"pushing to {pushed}")
            _push(image, pushed, flags)
    told = _told(image, name, pushed, flags)
    if as_json:
        say_json(told)
    else:
        say(f"{told['image']}  {human_size(image.size)}, linux/{image.architecture}")
    return 0


def _check(flags: ImageFlags, name: Reference, pushed: Reference | None) -> None:
    """Check what can be known before the work. Raises UsageError, InvalidInput."""
    if not (flags.push or flags.load or flags.output):
        raise click.UsageError("say where it goes: --push REGISTRY/NAME:TAG, --load CLUSTER or --output FILE.tar")
    if name.digest or (pushed and pushed.digest):
        raise click.UsageError("an image gets a name and a tag; its digest is made from its content")
    if flags.base != MACHINE:
        parse(flags.base, "--base")
    if flags.load:
        check(flags.load, flags.cluster)
    if flags.output is not None and not flags.output.parent.is_dir():
        raise InvalidInput(f"--output {flags.output}: there is no folder {flags.output.parent}; make it first")


def _pull(base: str, architecture: str, flags: ImageFlags) -> Base:
    name = parse(base, "--base")
    # the flag means the registry of --push where there is one
    plain_http = flags.plain_http and (not flags.push or parse(flags.push, "--push").registry == name.registry)
    cache = LayerCache(default_cache())
    with _registry(name, "--base", plain_http) as registry:
        found = pull_base(registry, name, architecture, cache, _bar)
    cache.trim(time.time())
    return found


def _push(image: Image, name: Reference, flags: ImageFlags) -> None:
    base = None if flags.base == MACHINE else parse(flags.base, "--base")
    origin = base.repository if base is not None and base.registry == name.registry else ""
    with _registry(name, "--push", flags.plain_http) as registry:
        push(registry, image, name, _bar, origin=origin)


@contextmanager
def _registry(name: Reference, flag: str, plain_http: bool) -> Iterator[Registry]:
    from rescoldo.image.registry import HttpRegistry  # its library takes a while

    login = find_credentials(name.registry)
    with HttpRegistry(name, login, plain_http=plain_http or name.is_loopback, flag=flag) as made:
        yield made


@contextmanager
def _bar(text: str, size: int) -> Iterator[Advance]:
    with upload_bar(text, size) as advance:
        yield advance


def _told(image: Image, name: Reference, pushed: Reference | None, flags: ImageFlags) -> dict[str, Any]:
    told: dict[str, Any] = {
        "image": str(pushed or name),
        "digest": image.manifest.digest,
        "bytes": image.size,
        "platform": f"linux/{image.architecture}",
        "base": flags.base,
    }
    if pushed is not None:
        told["pushed"] = f"{pushed.registry}/{pushed.repository}@{image.manifest.digest}"
    if flags.load:
        told["loaded"] = flags.load
    if flags.output is not None:
        told["output"] = str(flags.output)
    return told
