"""A running platform loses its data folder or a part of it: it notices, reports and restores it where it can."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from test_kill import Load, deploy_awake

from rescoldo.model.errors import Conflict
from rescoldo.supervisor.place import lock, running_pid
from rescoldo.supervisor.start import stop
from support.gateway import HELLO
from support.leftovers import no_leftovers
from support.live import Live

pytestmark = pytest.mark.slow

START = (
    "import sys; from pathlib import Path; from rescoldo.model.settings import Settings\n"
    "from rescoldo.supervisor.start import start_background; start_background(Settings.load(Path(sys.argv[1])))"
)
SUFFIXES = ("", "-wal", "-shm")
NOTICED = 5.0  # seconds; docs/behaviour.md says 1, on a machine at rest


@pytest.fixture
def own_platform() -> Iterator[Live]:
    with Live() as live, no_leftovers(live):
        yield live


@pytest.fixture
def background_platform() -> Iterator[Live]:
    """A platform started as `rescoldo serve --detach` does."""
    live = Live()
    try:
        with no_leftovers(live):
            request = live.folder / "request.json"
            live.settings.save(request)
            subprocess.run([live.python, "-c", START, str(request)], env=live.environment(), check=True)
            yield live
            stop(live.settings)
    finally:
        live.close()


def files(live: Live, *suffixes: str) -> list[Path]:
    return [Path(f"{live.settings.database}{suffix}") for suffix in suffixes or SUFFIXES]


def remove(live: Live, *suffixes: str) -> None:
    for file in files(live, *suffixes):
        file.unlink()


def cut(live: Live, *suffixes: str) -> None:
    for file in files(live, *suffixes):
        os.truncate(file, 0)


def overwrite(live: Live, *suffixes: str) -> None:
    for file in files(live, *suffixes):
        with file.open("r+b") as out:
            out.write(os.urandom(file.stat().st_size))


def put_an_empty_one(live: Live, *suffixes: str) -> None:
    empty = live.folder / "empty"
    with closing(sqlite3.connect(empty)) as made:
        made.execute("CREATE TABLE empty (x)")
    with files(live)[0].open("r+b") as out:
        out.write(empty.read_bytes())


def status(live: Live) -> dict[str, object]:
    return dict(json.loads(live.system("GET", "/status").text))


def deployed(live: Live) -> dict[str, object]:
    """Return the state that a new controller gets from the database alone."""
    live.until(live.answers, "the platform to answer")
    functions = json.loads(live.system("GET", "/functions").text)
    return {
        "functions": {one["name"]: one.get("envVars", {}) for one in functions},
        "namespaces": json.loads(live.system("GET", "/namespaces").text),
        "revisions": [one["revision"] for one in json.loads(live.system("GET", "/function/a/revisions").text)],
        "bundles": sorted(one["digest"] for one in json.loads(live.system("GET", "/bundles").text)),
    }


def fill(live: Live) -> None:
    deploy_awake(live, "a", "b")
    for value in ("1", "2"):
        answer = live.system("PUT", "/functions", {"service": "a", "image": "token:test", "envVars": {"X": value}})
        assert answer.status == 202, answer.text
        live.until(lambda value=value: status_of(live, "a").get("envVars", {}).get("X") == value, "the deployment")
    assert live.system("POST", "/namespace/more", {"name": "more"}).status in (200, 201)


def status_of(live: Live, name: str) -> dict[str, dict[str, str]]:
    return dict(json.loads(live.system("GET", f"/function/{name}").text))


# SQLite makes -shm again by itself, and -wal holds all of such a small database too
HARMLESS = ((cut, ("-shm",)), (overwrite, ("",)), (put_an_empty_one, ("",)))


@pytest.mark.parametrize(("damage", "suffixes"), [
    (remove, SUFFIXES), (remove, ("",)), (remove, ("-wal",)), (remove, ("-shm",)),
    (cut, SUFFIXES), (cut, ("",)), (cut, ("-wal",)), (cut, ("-shm",)),
    (overwrite, ("", "-wal")), (overwrite, ("",)), (put_an_empty_one, ("",)),
], ids=lambda value: value.__name__ if callable(value) else "+".join(s or "db" for s in value))  # fmt: skip
def test_a_lost_database_is_restored_from_memory(
    own_platform: Live, damage: Callable[..., None], suffixes: tuple[str, ...]
) -> None:
    fill(own_platform)
    before = deployed(own_platform)
    with Load(own_platform, "b") as load:
        damage(own_platform, *suffixes)
        if (damage, suffixes) not in HARMLESS:
            own_platform.until(lambda: "restored it from" in own_platform.log(), "the loss to be noticed", NOTICED)
            assert "restored from memory 1 times" in str(status(own_platform)["database"])
        own_platform.deploy("later", image="token:test")
        load.more(20)
    assert load.errors == {}
    before["functions"]["later"] = {}  # type: ignore[index]
    with closing(sqlite3.connect(own_platform.settings.database)) as database:
        assert database.execute("PRAGMA quick_check").fetchone() == ("ok",)
        assert database.execute("SELECT count(*) FROM function").fetchone() == (3,)
    own_platform.until(lambda: deployed_again(own_platform) == before, "the database to be complete")
    assert own_platform.invoke("b").status == 200


def deployed_again(live: Live) -> dict[str, object]:
    """Return `deployed` of another controller."""
    killed = live.kill("controller")
    live.until(lambda: live.pid("controller") != killed, "another controller")
    return deployed(live)


def test_a_removed_data_folder_is_restored_except_for_bundles(own_platform: Live) -> None:
    fill(own_platform)
    before, password = deployed(own_platform), own_platform.authorization()
    with Load(own_platform, "b") as load:
        remove_whole(own_platform.settings.data_path)
        own_platform.until(lambda: is_whole(own_platform), "the folder to be made again", NOTICED)
        assert own_platform.authorization() == password
        load.more(20)
    assert load.errors == {}
    with pytest.raises(Conflict):  # the new folder is locked
        lock(own_platform.settings)
    assert running_pid(own_platform.settings) == own_platform.pid("guardian")
    own_platform.until(lambda: deployed_again(own_platform) == before, "the database to be complete")
    # the bundle was only on disk
    own_platform.sleep("a")
    gone = own_platform.invoke("a")
    assert (gone.status, "rescoldo up" in gone.text) == (502, True), gone.text
    own_platform.deploy("a", HELLO, image="token:test")
    own_platform.until(lambda: own_platform.invoke("a").text == "hello", "the platform to find the new bundle")


def remove_whole(folder: Path) -> None:
    """Remove like `rm -rf`, repeated until it succeeds: the platform writes into the folder meanwhile."""
    for _ in range(100):
        with suppress(OSError):
            shutil.rmtree(folder)
            return
    shutil.rmtree(folder)


def put_in_place_of(folder: Path, text: str) -> None:
    """Replace a folder by a file, although the platform restores the folder as soon as it misses it."""
    for _ in range(100):
        remove_whole(folder)
        with suppress(IsADirectoryError):
            folder.write_text(text)
            return
    folder.write_text(text)


def is_whole(live: Live) -> bool:
    settings = live.settings
    wanted = (settings.database, settings.record, settings.secrets / "basic-auth-user", settings.bundles, settings.logs)
    return all(path.exists() for path in (*wanted, settings.data_path / "lock"))


def test_the_error_for_a_lost_secret_or_bundle_names_the_remedy(own_platform: Live) -> None:
    assert own_platform.system("POST", "/secrets", {"name": "key", "value": "1"}).status in (200, 201, 202)
    own_platform.deploy("a", HELLO, secrets=["key"])
    assert own_platform.invoke("a").status == 200
    remove_whole(own_platform.settings.function_secrets)
    own_platform.sleep("a")
    answer = own_platform.invoke("a")
    assert answer.status == 502
    assert "its secret 'key' cannot be read" in answer.text
    assert "rescoldo secret create key" in answer.text
    own_platform.deploy("b", HELLO, image="b:test")
    remove_whole(own_platform.settings.bundles)
    answer = own_platform.invoke("b")
    assert answer.status == 502
    assert "rescoldo up" in answer.text


def test_a_platform_in_the_background_reopens_its_log(background_platform: Live) -> None:
    live, log = background_platform, background_platform.settings.platform_log
    for how in (log.unlink, lambda: log.rename(log.with_suffix(".old"))):
        how()
        live.until(lambda: log.exists() and "opened it again" in log.read_text(), "the log", NOTICED)
        killed = live.kill("supervisor")  # the guardian logs it
        live.until(lambda: "the supervisor ended" in log.read_text(), "the guardian's log line")
        live.until(lambda killed=killed: live.pid("supervisor") != killed, "another supervisor")
    assert stop(live.settings)


def test_a_database_missing_at_the_start_is_reported_as_lost(own_platform: Live) -> None:
    fill(own_platform)
    own_platform.stop()
    remove(own_platform, "")
    own_platform.start()
    assert own_platform.call("GET", "/healthz").text.startswith("OK; degraded")
    (problem,) = status(own_platform)["problems"]  # type: ignore[misc]
    assert "missing or empty at the start" in problem
    assert problem in own_platform.log()


def test_a_database_that_cannot_be_restored_is_reported_until_it_can(own_platform: Live) -> None:
    fill(own_platform)
    before = deployed(own_platform)
    data = own_platform.settings.data_path
    put_in_place_of(data, "a file")
    own_platform.until(lambda: is_degraded(own_platform), "the loss to be reported", NOTICED)
    assert own_platform.invoke("b").status == 200
    data.unlink()
    own_platform.until(lambda: is_whole(own_platform), "the folder to be made again", NOTICED)
    own_platform.until(lambda: own_platform.call("GET", "/healthz").text == "OK", "all to be well")
    assert deployed(own_platform) == before


def is_degraded(live: Live) -> bool:
    return "degraded" in live.call("GET", "/healthz").text and "cannot be restored" in live.log()


def test_a_first_start_reports_no_missing_database(own_platform: Live) -> None:
    assert "missing or empty at the start" not in own_platform.log()
