"""Images in a real registry: bases pulled, images pushed, passwords and tokens asked for."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rescoldo.cli.verbs.kubernetes_image import image_command
from rescoldo.image import assembly
from rescoldo.image.assembly import ARCHITECTURES, put_together
from rescoldo.image.bases import MINOR, Base
from rescoldo.image.blobs import INDEX, Blob, Image, digest_of, encoded
from rescoldo.image.cache import LayerCache
from rescoldo.image.credentials import Credentials
from rescoldo.image.layers import Entry, write_layer
from rescoldo.image.protocol import NotInRegistry, RegistryRefused
from rescoldo.image.reference import parse
from rescoldo.image.registry import HttpRegistry
from rescoldo.image.transfer import pull_base, push
from rescoldo.model.errors import InvalidInput
from support import registry as real

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]  # the first test may have to compile the registry

HERE = ARCHITECTURES[os.uname().machine]
LIB = f"usr/local/lib/python{MINOR}"
PYTHON = (Entry(f"usr/local/bin/python{MINOR}", b"\x7fELF", mode=0o755), Entry(f"{LIB}/os.py", b"name = 'posix'\n"))


@contextmanager
def no_bar(_text: str, _size: int) -> Iterator[Any]:
    yield lambda sent: None


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with real.registry(tmp_path_factory.mktemp("registry")) as found:
        yield found


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where docker's login and the cache of bases are."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def quick(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images without the packages, which an index of Python's would have to give."""

    def install(target: Path, progress: Any) -> None:
        (target / "click").mkdir(parents=True)
        (target / "click/__init__.py").write_text("name = 'click'\n")

    monkeypatch.setattr(assembly, "install", install)


def image_of(folder: Path) -> Image:
    folder.mkdir(exist_ok=True)
    base = Base("a base", "", (write_layer(PYTHON, folder / "base"),), {"Env": ["PATH=/usr/local/bin:/usr/bin"]})
    return put_together(base, write_layer([Entry("etc/a", b"a")], folder / "layer"), HERE)


def put_base(address: str, folder: Path, *architectures: str, repository: str = "bases/python") -> None:
    """Push a base, as an index of `architectures`."""
    image = image_of(folder)
    name = parse(f"{address}/{repository}:all", "--base")
    with HttpRegistry(name, None, plain_http=True) as registry:
        push(registry, image, name, no_bar)
        entries = [{**image.manifest.described(), "platform": {"os": "linux", "architecture": one}}
                   for one in architectures]  # fmt: skip
        index = Blob.of(encoded({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}), INDEX)
        registry.put_manifest(name.repository, "3", index)


def run(*arguments: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert image_command.main([*arguments, "--json"], standalone_mode=False) == 0
    return dict(json.loads(capsys.readouterr().out))


@pytest.mark.usefixtures("quick")
def test_what_was_pushed_is_what_was_assembled(
    address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put_base(address, tmp_path / "made", "s390x", HERE)
    flags = ("--base", f"{address}/bases/python:3", "--push", f"{address}/me/rescoldo:1")
    told = run(*flags, "--output", str(tmp_path / "image.tar"), capsys=capsys)
    assert told["image"] == f"{address}/me/rescoldo:1"
    assert told["pushed"] == f"{address}/me/rescoldo@{told['digest']}"
    name = parse(told["pushed"], "--push")
    with HttpRegistry(name, None, plain_http=True) as registry:
        manifest = registry.manifest(name.repository, "1")
        assert manifest.digest == told["digest"]
        described = json.loads(manifest.content)
        for one in (described["config"], *described["layers"]):
            with registry.read(name.repository, one["digest"]) as pieces:
                assert digest_of(b"".join(pieces)) == one["digest"]
    assert len(described["layers"]) == 3  # two of the base
    assert described["annotations"]["org.opencontainers.image.base.name"] == f"{address}/bases/python:3"
    # again, from another folder: nothing of the first run is in the digest
    assert run(*flags, capsys=capsys)["digest"] == told["digest"]


@pytest.mark.usefixtures("quick")
def test_a_base_for_other_machines_is_refused(address: str, tmp_path: Path) -> None:
    put_base(address, tmp_path / "made", "s390x", repository="bases/other")
    with pytest.raises(InvalidInput, match=f"is not for linux/{HERE}"):
        image_command.main(
            ["--base", f"{address}/bases/other:3", "--output", str(tmp_path / "a.tar")], standalone_mode=False
        )


@pytest.mark.usefixtures("quick")
def test_a_base_that_does_not_exist_names_the_flag(address: str, tmp_path: Path) -> None:
    with pytest.raises(NotInRegistry, match=f"--base: {address}/bases/none has no such image"):
        image_command.main(
            ["--base", f"{address}/bases/none:3", "--output", str(tmp_path / "a.tar")], standalone_mode=False
        )


def test_what_the_registry_has_is_not_sent_again(address: str, tmp_path: Path) -> None:
    sent: list[str] = []

    @contextmanager
    def bar(text: str, _size: int) -> Iterator[Any]:
        sent.append(text)
        yield lambda count: None

    image = image_of(tmp_path / "made")
    with HttpRegistry(parse(address + "/a", "--push"), None, plain_http=True) as registry:
        push(registry, image, parse(f"{address}/again/one:1", "--push"), bar)
        assert len(sent) == 3
        push(registry, image, parse(f"{address}/again/one:2", "--push"), bar)
        push(registry, image, parse(f"{address}/again/other:1", "--push"), bar, origin="again/one")
        assert len(sent) == 3
        assert registry.manifest("again/other", "1") == image.manifest


def test_layers_of_a_base_are_pulled_once(address: str, tmp_path: Path, home: Path) -> None:
    put_base(address, tmp_path / "made", HERE)
    pulled: list[str] = []

    @contextmanager
    def bar(text: str, _size: int) -> Iterator[Any]:
        pulled.append(text)
        yield lambda count: None

    name = parse(f"{address}/bases/python:3", "--base")
    with HttpRegistry(name, None, plain_http=True) as registry:
        first, again = (pull_base(registry, name, HERE, LayerCache(home / "cache"), bar) for _ in range(2))
    assert first == again
    assert len(pulled) == 2
    assert [layer.blob.size for layer in first.layers] == [layer.blob.content.stat().st_size for layer in first.layers]


def login(home: Path, address: str, user: str = real.USER, password: str = real.PASSWORD) -> None:
    """As `docker login` does it."""
    auth = base64.b64encode(f"{user}:{password}".encode()).decode()
    (home / "config.json").write_text(json.dumps({"auths": {address: {"auth": auth}}}))


@pytest.mark.usefixtures("quick")
def test_a_registry_with_a_password(tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with real.with_password(tmp_path) as address:
        login(home, address)
        put = image_of(tmp_path / "made")
        name = parse(f"{address}/bases/python:3", "--push")
        with HttpRegistry(name, Credentials(real.USER, real.PASSWORD), plain_http=True) as registry:
            push(registry, put, name, no_bar)
        told = run("--base", str(name), "--push", f"{address}/me/rescoldo:1", capsys=capsys)
        assert told["pushed"].startswith(f"{address}/me/rescoldo@sha256:")
        for why, saved in (("wants a password", None), ("refuses the saved password", "wrong")):
            (home / "config.json").unlink() if saved is None else login(home, address, password=saved)
            with pytest.raises(RegistryRefused, match=rf"--base: {address} {why} .*run `docker login {address}`"):
                run("--base", str(name), "--push", f"{address}/me/rescoldo:1", capsys=capsys)


@pytest.mark.parametrize(
    "own", [Credentials(real.USER, real.PASSWORD), Credentials(identity_token=real.PASSWORD)], ids=["password", "token"]
)
def test_a_registry_with_tokens(tmp_path: Path, own: Credentials) -> None:
    image = image_of(tmp_path / "made")
    with real.with_tokens(tmp_path) as (address, tokens):
        first, other = (parse(f"{address}/me/{name}:1", "--push") for name in ("one", "other"))
        with HttpRegistry(first, own, plain_http=True) as registry:
            push(registry, image, first, no_bar)
            push(registry, image, other, no_bar, origin="me/one")
            assert registry.manifest("me/other", "1") == image.manifest
        assert {method for method, _ in tokens.asked} == {"POST" if own.identity_token else "GET"}
        # each repository: one token to look, and one to write; here the second may read the other repository, too
        look, write = ("me/one", {"pull"}), ("me/one", {"pull", "push"})
        found = [[(one.split(":")[1], set(one.split(":")[2].split(","))) for one in scope.split()]
                 for _, scope in tokens.asked]  # fmt: skip
        assert (found[:2], len(found)) == ([[look], [write]], 4)
        assert look in found[3] and ("me/other", {"pull", "push"}) in found[3]
        with (
            HttpRegistry(first, Credentials(real.USER, "wrong"), plain_http=True) as registry,
            pytest.raises(RegistryRefused, match="refuses the saved password"),
        ):
            push(registry, image, first, no_bar)
