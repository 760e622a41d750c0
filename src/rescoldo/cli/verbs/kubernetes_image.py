"""`rescoldo kubernetes image`"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rescoldo import __version__
from rescoldo.cli.options import Verb, folded, json_option
from rescoldo.cli.output import Advance, human_size, note, say, say_json, upload_bar
from rescoldo.image.bases import MINOR
from rescoldo.image.loading import LOADERS

if TYPE_CHECKING:  # imported when the verb runs
    from rescoldo.image.bases import Base
    from rescoldo.image.blobs import Image
    from rescoldo.image.reference import Reference

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
    click.option("--name", default="", metavar="NAME:TAG", help=f"Its name, without --push. [{DEFAULT_NAME}]"),
    click.option("--plain-http", is_flag=True, help="Speak HTTP to the registry; registries of this machine always."),
)  # fmt: skip
@json_option
def image_command(flags: ImageFlags, as_json: bool) -> int:
    """Assemble the image that workers, gateways and control run, without Docker.

    \b
    rescoldo kubernetes image --push ghcr.io/me/rescoldo:1
    rescoldo kubernetes image --load kind

    It is for this machine's architecture alone. The same versions give the same digest.
    """
    from rescoldo.image.assembly import assemble
    from rescoldo.image.reference import parse

    if not (flags.push or flags.load or flags.output):
        raise click.UsageError("say where it goes: --push REGISTRY/NAME:TAG, --load CLUSTER or --output FILE.tar")
    name = parse(flags.push or flags.name or DEFAULT_NAME, "--push" if flags.push else "--name")
    if name.digest:
        raise click.UsageError("an image is pushed under a tag; its digest is made from its content")
    progress = (lambda text: None) if as_json else note
    with tempfile.TemporaryDirectory(prefix="rescoldo-image-") as folder:
        work = Path(folder)
        image = assemble(flags.base, work, lambda base, machine: _pull(base, machine, flags.plain_http), progress)
        _hand_over(image, name, flags, work)
    told = _told(image, name, flags)
    if as_json:
        say_json(told)
    else:
        say(f"{told['image']}  {human_size(image.size)}, linux/{image.architecture}")
    return 0


def _pull(base: str, machine: str, plain_http: bool) -> Base:
    from rescoldo.image.credentials import find_credentials
    from rescoldo.image.reference import parse
    from rescoldo.image.registry import HttpRegistry
    from rescoldo.image.transfer import default_cache, pull_base

    name = parse(base, "--base")
    credentials = find_credentials(name.registry)
    with HttpRegistry(name, credentials, plain_http=plain_http or name.is_loopback, flag="--base") as registry:
        return pull_base(registry, name, machine, default_cache(), _bar)


def _hand_over(image: Image, name: Reference, flags: ImageFlags, work: Path) -> None:
    from rescoldo.image.archive import write_image
    from rescoldo.image.loading import load

    if flags.output is not None:
        write_image(image, str(name), flags.output)
    if flags.load:
        archive = work / "image.tar"
        write_image(image, str(name), archive)
        load(flags.load, archive, flags.cluster)
    if flags.push:
        _push(image, name, flags)


def _push(image: Image, name: Reference, flags: ImageFlags) -> None:
    from rescoldo.image.credentials import find_credentials
    from rescoldo.image.machine import MACHINE
    from rescoldo.image.reference import parse
    from rescoldo.image.registry import HttpRegistry
    from rescoldo.image.transfer import push

    origin = ""
    if flags.base != MACHINE and (base := parse(flags.base, "--base")).registry == name.registry:
        origin = base.repository
    credentials = find_credentials(name.registry)
    with HttpRegistry(name, credentials, plain_http=flags.plain_http or name.is_loopback) as registry:
        push(registry, image, name, _bar, origin=origin)


@contextmanager
def _bar(text: str, size: int) -> Iterator[Advance]:
    with upload_bar(text, size) as advance:
        yield advance


def _told(image: Image, name: Reference, flags: ImageFlags) -> dict[str, Any]:
    told: dict[str, Any] = {
        "image": str(name),
        "digest": image.manifest.digest,
        "bytes": image.size,
        "platform": f"linux/{image.architecture}",
        "base": flags.base,
    }
    if flags.push:
        told["pushed"] = f"{name.registry}/{name.repository}@{image.manifest.digest}"
    if flags.load:
        told["loaded"] = flags.load
    if flags.output is not None:
        told["output"] = str(flags.output)
    return told
