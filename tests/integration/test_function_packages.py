"""A function can import the standard library, its own folder and its requirements, and nothing of the platform's."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from rescoldo.isolation.level import level
from rescoldo.model.errors import StartFailed
from rescoldo.model.ids import LAYER_GIDS

sys.path.insert(0, str(Path(__file__).parents[1]))
from test_node_unprivileged import as_another_user, for_everyone

from support.real_node import HELLO, RealNode, call, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.root,
    pytest.mark.skipif(level() != "full", reason="needs root that may make namespaces"),
]

PLATFORMS = ("click", "httptools", "uvloop", "pydantic", "yaml", "rescoldo", "rescoldo.runtime.http", "pip")
LOOKS = f"""
import importlib, importlib.metadata, os, subprocess, sys

NAMES = {PLATFORMS!r}

def tried(name):
    try:
        importlib.import_module(name)
    except ImportError as error:
        return type(error).__name__
    return "found"

PROBE = '''
import importlib.metadata, json, sys
found = []
for name in sys.argv[1:]:
    try:
        __import__(name)
        found.append(name)
    except ImportError:
        pass
print(json.dumps([found, sorted(d.name for d in importlib.metadata.distributions()), sys.executable]))
'''

def readable(file):
    try:
        return bool(open(file).read())
    except OSError:
        return False

def child(command):
    done = subprocess.run([*command, "-c", PROBE, *NAMES], capture_output=True, text=True)
    return done.stdout or done.stderr

def handle(event, context):
    import ssl, sqlite3, email.mime.text, function.handler  # of the standard library and one's own
    return {{"body": {{
        "imports": {{name: tried(name) for name in NAMES}},
        "loaded": sorted(set(m.partition(".")[0] for m in sys.modules) - set(sys.stdlib_module_names)),
        "distributions": sorted(d.name for d in importlib.metadata.distributions()),
        "path": sys.path,
        "executable": sys.executable,
        "prefix": sys.prefix,
        "child": child([sys.executable]),
        "on PATH": child(["python3"]),
        "pythonpath": os.environ["PYTHONPATH"],
        "main": sorted(vars(sys.modules["__main__"])),
        "site": readable({sysconfig.get_path("purelib")!r} + "/click/__init__.py"),
    }}}}
"""


@pytest.fixture(params=["full", "unprivileged"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[RealNode]:
    real = RealNode() if request.param == "full" else RealNode(as_another_user)
    real.place = real.launch if request.param == "full" else partial(for_everyone, real)
    try:
        await real.boot()
        yield real
    finally:
        await real.close()


async def test_a_function_sees_nothing_of_the_platforms_packages(world: RealNode) -> None:
    running = await world.client.start(world.place(LOOKS))
    seen = json.loads(await call(running))
    assert set(seen["imports"].values()) == {"ModuleNotFoundError"}, seen["imports"]
    assert seen["loaded"] == ["__main__", "function"]
    assert seen["distributions"] == []
    bundle = str(world.settings.bundles / running.launch.digest)
    assert seen["path"][:2] == [bundle, f"{bundle}/deps"]
    assert not [path for path in seen["path"] if "site-packages" in path or "rescoldo" in path]
    assert seen["executable"] == str(world.settings.environment / "bin" / "python")
    assert seen["prefix"] == str(world.settings.environment)
    for child in ("child", "on PATH"):
        found, distributions, executable = json.loads(seen[child])
        assert (found, distributions) == ([], []), child
        assert Path(executable).parent == world.settings.environment / "bin"
    assert seen["pythonpath"] == f"{bundle}:{bundle}/deps"
    assert "main" not in seen["main"]
    assert seen["site"] is False


OWN = """
import httptools, uvloop
import asyncio, importlib.metadata, os, sys

class Requests:
    def on_url(self, url):
        self.url = url.decode()

def handle(event, context):
    asked = Requests()
    httptools.HttpRequestParser(asked).feed_data(b"GET /own HTTP/1.1\\r\\n\\r\\n")
    async def sleep():
        await asyncio.sleep(0)
        return type(asyncio.get_running_loop()).__module__
    loop = uvloop.new_event_loop()
    mine = loop.run_until_complete(sleep())
    loop.close()
    return {"body": {"url": asked.url, "loop": mine, "files": [httptools.parser.parser.__file__, uvloop.loop.__file__],
                     "versions": [importlib.metadata.version(name) for name in ("httptools", "uvloop")]}}
"""


async def test_a_function_may_bring_its_own_copy_of_the_runtimes_libraries(world: RealNode) -> None:
    """A process cannot load a compiled module twice from one file; another file is another module."""
    launch = world.place(OWN)
    bundle = world.settings.bundles / launch.digest
    site = Path(sysconfig.get_path("purelib"))
    for pattern in ("httptools*", "uvloop*"):
        for folder in site.glob(pattern):
            shutil.copytree(folder, bundle / "deps" / folder.name)
    owner = bundle.stat()
    for path in (bundle / "deps", *(bundle / "deps").rglob("*")):
        os.chown(path, owner.st_uid, owner.st_gid)
        path.chmod(0o750)
    seen = json.loads(await call(await world.client.start(launch)))
    assert seen["url"] == "/own" and seen["loop"] == "uvloop" and len(seen["versions"]) == 2
    assert all(file.startswith(f"{bundle}/deps/") for file in seen["files"])


USES_LOOP = """
import asyncio, multiprocessing, socket, sys
from function.other import double

async def handle(event, context):
    loop = asyncio.get_running_loop()
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", "print(6)", stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    names = await loop.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)
    server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    end = await reader.read()
    writer.close()
    server.close()
    in_thread = await asyncio.to_thread(sum, [1, 2])
    doubled = [42]
    if event.query["spawn"] == "yes":  # semaphores in /dev/shm are for the level full alone
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            doubled = await asyncio.to_thread(pool.map, double, [21])
    return {"body": [out.decode().strip(), names[0][4], end.decode(), in_thread, doubled]}
"""


async def test_the_runtimes_hidden_libraries_go_on_working(world: RealNode) -> None:
    launch = world.place(USES_LOOP)
    other = world.settings.bundles / launch.digest / "function" / "other.py"
    other.write_text("def double(n):\n    return 2 * n\n")
    owner = other.parent.stat()
    os.chown(other, owner.st_uid, owner.st_gid)
    other.chmod(0o640)
    spawn = "yes" if world.place == world.launch else "no"
    answer = await call(await world.client.start(launch), f"/?spawn={spawn}")
    assert json.loads(answer) == ["6", ["127.0.0.1", 80], "", 3, [42]]


READS_LAYER = """
import os
def handle(event, context):
    def tried(path):
        try:
            return open(path).read()
        except OSError as error:
            return type(error).__name__
    try:
        import needed
        own = needed.NAME
    except ImportError as error:
        own = str(error)
    return {"body": {"own": own, "groups": os.getgroups(), "other": tried(event.query["other"]),
                     "write": str(os.access(event.query["other"], os.W_OK))}}
"""


def lay_layer(node: RealNode, name: str, number: int) -> Path:
    """Write a layer as LayerStorage leaves it."""
    layer = node.settings.bundles / "layers" / name
    (layer / "deps").mkdir(parents=True)
    (layer / "deps" / "needed.py").write_text(f"NAME = {name!r}\n")
    owner = node.settings.bundles.stat().st_uid
    for path in (layer, *layer.rglob("*")):
        os.chown(path, owner, LAYER_GIDS[number] if owner == 0 else owner)
        path.chmod(0o750 if path.is_dir() else 0o640)
    layer.parent.chmod(0o711)
    os.chown(layer.parent, owner, owner)
    return layer


async def test_only_functions_with_a_layer_can_read_it(world: RealNode) -> None:
    layers = {name: lay_layer(world, name, number) for number, name in enumerate(("first", "second"))}
    seen = []
    for name in ("first", "first", "second", ""):
        launch = world.place(READS_LAYER)
        if name:
            (world.settings.bundles / launch.digest / "deps").symlink_to(f"../layers/{name}/deps")
        running = await world.client.start(launch)
        others = [await call(running, f"/?other={layers[other]}/deps/needed.py") for other in layers if other != name]
        seen.append([json.loads(answer) for answer in others])
    first, again, second, none = seen
    assert [answer["own"] for answer in (first[0], again[0], second[0])] == ["first", "first", "second"]
    assert {answer["other"] for answers in seen for answer in answers} == {"PermissionError"}
    assert "No module named 'needed'" in none[0]["own"]
    if world.place == world.launch:
        groups = [answer["groups"] for answer in (first[0], again[0], second[0], none[0])]
        assert groups == [[LAYER_GIDS[0]], [LAYER_GIDS[0]], [LAYER_GIDS[1]], []]


async def test_a_link_that_is_no_layer_gives_no_group(node: RealNode) -> None:
    """An instance does not join the group that owns the target of a bundle's own link."""
    launch = node.launch(READS_LAYER)
    (node.settings.bundles / launch.digest / "deps").symlink_to("/etc")
    assert json.loads(await call(await node.client.start(launch), "/?other=/none"))["groups"] == []


PROGRAM = """#!/usr/bin/env python3
import json, os, socket, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Server(HTTPServer):
    def server_bind(self):
        self.socket.close()
        self.socket = socket.socket(fileno=3)
    def server_activate(self):
        pass

class Handler(BaseHTTPRequestHandler):
    def address_string(self):
        return "edge"
    def do_GET(self):
        found = []
        for name in PLATFORMS:
            try:
                __import__(name)
                found.append(name)
            except ImportError:
                pass
        import own, needed
        body = json.dumps([found, sys.executable, os.environ["PATH"].split(":")[:2], own.__file__, needed.__file__])
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

Server(("", 0), Handler).serve_forever()
""".replace("PLATFORMS", repr(PLATFORMS))


async def test_a_program_in_python_sees_its_own_packages_and_nothing_of_the_platforms(world: RealNode) -> None:
    launch = world.place("", kind="process", command=("serve",), upstream="inherited")
    bundle = world.settings.bundles / launch.digest
    (bundle / "deps").mkdir()
    for path, text in ((bundle / "function" / "serve", PROGRAM), (bundle / "function" / "own.py", ""),
                       (bundle / "deps" / "needed.py", "")):  # fmt: skip
        path.write_text(text)
    owner = bundle.stat()
    for path in bundle.rglob("*"):
        os.chown(path, owner.st_uid, owner.st_gid)
        path.chmod(0o750)
    found, executable, path, own, needed = json.loads(await call(await world.client.start(launch)))
    python = world.settings.environment / "bin"
    assert found == [] and Path(executable).parent == python
    assert path == [f"{bundle}/deps/bin", str(python)]
    assert own == f"{bundle}/function/own.py" and needed == f"{bundle}/deps/needed.py"


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        ("import click\n", "No module named 'click': add the package that provides it to requirements.txt"),
        ("import click.testing\n", "No module named 'click': add the package that provides it to requirements.txt"),
        ("import function.other\n", "No module named 'function.other'"),
        ("from .other import x\n", "No module named 'function.other'"),
        ("import email.nothing\n", "No module named 'email.nothing'"),
    ],
)
async def test_the_error_for_a_missing_package_names_the_remedy(node: RealNode, code: str, hint: str) -> None:
    with pytest.raises(StartFailed) as caught:
        await node.client.start(node.launch(code + HELLO))
    assert caught.value.message.splitlines()[0].endswith(hint), caught.value.message


async def test_the_log_of_a_call_with_a_missing_package_names_the_remedy(node: RealNode) -> None:
    launch = node.launch("def handle(event, context):\n    import click\n")
    running = await node.client.start(launch)
    with pytest.raises(AssertionError, match="500"):
        await call(running)

    async def told() -> bool:
        lines = "\n".join(await node.logged(launch))
        return "No module named 'click'\n(add the package that provides it to requirements.txt)" in lines

    await until(told)


def test_kept_folders_inside_a_covered_directory_stay(tmp_path: Path) -> None:
    """This is the case of a platform whose data lie in its own virtual environment."""
    (tmp_path / "venv" / "data").mkdir(parents=True)
    (tmp_path / "venv" / "package").mkdir()
    (tmp_path / "venv" / "data" / "file").write_text("of a function")
    code = f"""
import os
from rescoldo.isolation.mounts import cover
from rescoldo.isolation.syscalls import *
unshare(CLONE_NEWNS)
mount("none", "/", flags=MS_REC | MS_PRIVATE)
venv = {str(tmp_path / "venv")!r}
cover([venv, venv + "/package"], keep=[venv + "/data", venv + "/none", "/usr"])
print(os.listdir(venv), open(venv + "/data/file").read())
try:
    open(venv + "/new", "w")
except OSError as error:
    print(error.strerror)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "['data'] of a function\nRead-only file system\n", done.stderr
    assert (tmp_path / "venv" / "package").exists()


async def test_the_error_for_a_programs_missing_package_names_the_remedy(node: RealNode, tmp_path: Path) -> None:
    (tmp_path / "server.py").write_text("import click\n")
    with pytest.raises(StartFailed) as caught:
        await node.client.start(node.program("python3 server.py", "inherited", tmp_path / "server.py"))
    assert caught.value.message.splitlines()[0].endswith("; add the missing package to requirements.txt")
    assert "No module named 'click'" in caught.value.message
