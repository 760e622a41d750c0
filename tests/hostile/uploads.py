"""Bundles and names in uploads by an attacker who may deploy and wants more rights."""

from __future__ import annotations

import gzip
import json
import stat
import tarfile
from pathlib import Path

from hostile.suite import MARKER, attack
from hostile.world import Outcome, World
from rescoldo.bundle.layers import LAYERS
from support.archives import Tar
from support.gateway import HELLO, Answer


def _bundle(code: str = HELLO) -> Tar:
    return Tar().file("function/handler.py", code.encode())


def _send(world: World, bundle: Tar | bytes, image: str = "evil:1") -> Answer:
    data = bundle.gz() if isinstance(bundle, Tar) else bundle
    return world.live.system("POST", f"/bundles?image={image}", data)


def _refused(world: World, outcome: Outcome, what: str, bundle: Tar | bytes) -> None:
    answer = _send(world, bundle)
    outcome.judge(what, answer.status in (400, 413), f"{answer.status}: {answer.text}")
    left = list(world.live.settings.uploads.iterdir())
    outcome.judge(f"{what}: leaves nothing behind", not left, left)


@attack("uploads", "a bundle writes outside of its folder: .. and absolute names")
def traversal(world: World, outcome: Outcome) -> None:
    landing = world.live.folder / f"{MARKER}-landed"
    up = "../" * 12 + str(landing).lstrip("/")
    for name in (up, str(landing), f"function/../../{landing.name}", f"./{up}", "..", "function/.."):
        _refused(world, outcome, f"member {name}", _bundle().file(name))
    outcome.judge("a file outside", not landing.exists(), landing)


@attack("uploads", "a bundle holds symbolic links that lead out, alone or together")
def symbolic_links(world: World, outcome: Outcome) -> None:
    for to in ("/etc/passwd", "../../..", "../" * 9 + "etc/shadow", f"../{world.note('victim').launch.digest}"):
        _refused(world, outcome, f"link to {to}", _bundle().member("l", tarfile.SYMTYPE, linkname=to))
    two = _bundle().member("a/b", tarfile.SYMTYPE, linkname="..").member("a/c", tarfile.SYMTYPE, linkname="b/..")
    _refused(world, outcome, "two links that lead out together", two)
    through = _bundle().member("d", tarfile.SYMTYPE, linkname="function").file("d/new.py")
    _refused(world, outcome, "a file through a link", through)
    _refused(world, outcome, "a manifest that is a link", Tar(None).link("manifest.json", "/etc/passwd"))


@attack("uploads", "a bundle holds hard links to files outside")
def hard_links(world: World, outcome: Outcome) -> None:
    code = f"{world.live.settings.bundles}/{world.note('victim').launch.digest}/function/handler.py"
    for to in ("/etc/shadow", code, f"../{code}", "absent"):
        _refused(world, outcome, f"hard link to {to}", _bundle().member("l", tarfile.LNKTYPE, linkname=to))


@attack("uploads", "a bundle holds devices, pipes and unknown members")
def devices_in_bundles(world: World, outcome: Outcome) -> None:
    for name, kind in (("character", tarfile.CHRTYPE), ("block", tarfile.BLKTYPE), ("pipe", tarfile.FIFOTYPE),
                       ("contiguous", b"Z"), ("sparse", tarfile.GNUTYPE_SPARSE)):  # fmt: skip
        _refused(world, outcome, f"a {name} member", _bundle().member("d", kind, devmajor=1, devminor=1))


@attack("uploads", "a bundle holds set-uid programs and files that everybody may write")
def modes(world: World, outcome: Outcome) -> None:
    answer = _send(world, _bundle().file("run", mode=0o6755).file("open", mode=0o777, uid=0, gid=0))
    outcome.judge("the upload fails", answer.status == 201, answer.text)
    folder = Path(world.live.settings.bundles) / json.loads(answer.text)["digest"].removeprefix("sha256:")
    for path in folder.rglob("*"):
        mode = path.lstat().st_mode
        outcome.judge(f"mode of {path.name}", not mode & (stat.S_ISUID | stat.S_ISGID | 0o007), oct(mode))


@attack("uploads", "a bundle unpacks to far more than its own size, or to very many files")
def archive_bombs(world: World, outcome: Outcome) -> None:
    zeros = gzip.compress(bytes(2**20), 9) * 1200  # 1.2 GiB of zeros in 1.2 MB
    _refused(world, outcome, "a gigabyte of zeros", zeros)
    many = _bundle()
    for number in range(50_001):
        many.member(f"f/{number % 100}", tarfile.DIRTYPE)
    _refused(world, outcome, "50,001 members", many)
    _refused(world, outcome, "a very deep folder", _bundle().file("d/" * 200 + "f"))
    _refused(world, outcome, "a name of 5,000 characters", _bundle().file("n" * 5000))


@attack("uploads", "an upload claims another identity: digests, image names with paths in them")
def false_names(world: World, outcome: Outcome) -> None:
    victims = world.note("victim").launch.digest
    before = (world.live.settings.bundles / victims / "function" / "handler.py").read_bytes()
    digest = {"X-Rescoldo-Digest": f"sha256:{victims}"}
    answer = world.live.system("POST", "/bundles?image=evil:1", _bundle("evil = 1\n").gz(), digest)
    outcome.judge("a false digest", answer.status == 400, answer.text)
    for image in ("..", "../../etc", "%00", "a/../../b", "%2e%2e%2f", "x" * 5000):
        _send(world, _bundle(f"# {image[:9]}\n{HELLO}"), image)
    after = (world.live.settings.bundles / victims / "function" / "handler.py").read_bytes()
    outcome.judge("the victim's code changed", before == after, "it did")
    bundles = world.live.settings.bundles
    names = [p.name for p in (*bundles.iterdir(), *(bundles / LAYERS).iterdir()) if p != bundles / LAYERS]
    strange = [name for name in names if len(name) != 64 or not set(name) <= set("0123456789abcdef")]
    outcome.judge("a folder of another name", not strange, strange)


@attack("uploads", "names of functions, namespaces, secrets and logs with paths in them")
def names_with_paths(world: World, outcome: Outcome) -> None:
    live = world.live
    evil = ("../../../../tmp/evil", "..", ".", "/etc/passwd", "a/b", "a\0b", "a\nb", "a b", "%2e%2e", "-", "x" * 300)
    for name in evil:
        for route, body in (
            ("/functions", {"service": name, "image": "victim:hostile"}),
            ("/functions", {"service": "evil", "namespace": name, "image": "victim:hostile"}),
            ("/functions", {"service": "evil", "image": "victim:hostile", "secrets": [name]}),
            ("/secrets", {"name": name, "value": "x"}),
            ("/secrets", {"name": "evil", "namespace": name, "value": "x"}),
            ("/namespace/evil", {"name": name}),
        ):
            answer = live.system("POST", route, body)
            outcome.judge(f"{route} {body}", answer.status in (400, 404), f"{answer.status}: {answer.text}")
    for query in ("name=../../rescoldo.db", "name=..%2f..%2fplatform", "name=victim&namespace=../..", "name=%00"):
        answer = live.system("GET", f"/logs?{query}&follow=false")
        nothing = answer.status in (400, 404, 422) or answer.body == b""  # OpenFaaS answers 422 here
        outcome.judge(f"logs {query}", nothing, f"{answer.status} {answer.text}")


@attack("uploads", "a function asks for another namespace's secret")
def secrets_of_another_namespace(world: World, outcome: Outcome) -> None:
    live = world.live
    live.system("POST", "/namespace/others", {"name": "others", "annotations": {"openfaas": "1"}})
    spec = {"service": "thief", "namespace": "others", "image": "bystander:test", "secrets": ["victims-secret"]}
    answer = live.system("POST", "/functions", spec)
    if answer.status < 300:
        answer = live.invoke("thief.others")
    outcome.judge("starts with it", answer.status >= 400, f"{answer.status}: {answer.text}")
    outcome.judge("gets its value", MARKER not in answer.text, answer.text)
