"""The remote builder's routes: signatures and response formats."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator

import httpx2
import pytest
from fake_platform import FakePlatform
from gateway import PAYLOAD_SECRET

from rescoldo.api.builds import read_signature, signed
from rescoldo.api.credentials import Credentials, load_or_create_payload_secret, restore
from rescoldo.control.deploy.builds import BuildStep
from rescoldo.model.errors import InvalidInput, NotSigned
from support.faas_builder import archive, headers

# RFC 4231, test case 2, in the client's form
SECRET, BODY = b"Jefe", b"what do ya want for nothing?"
SIGNATURE = "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def test_a_signature_is_the_hmac_of_the_whole_body() -> None:
    body = signed(chunks(BODY[:5], BODY[5:]), SECRET, read_signature(SIGNATURE))
    assert b"".join([part async for part in body]) == BODY


@pytest.mark.parametrize(("body", "secret"), [(BODY + b"!", SECRET), (BODY[:-1], SECRET), (BODY, b"jefe")])
async def test_a_signature_of_another_body_or_secret_is_refused(body: bytes, secret: bytes) -> None:
    with pytest.raises(NotSigned):
        _ = [part async for part in signed(chunks(body), secret, read_signature(SIGNATURE))]


@pytest.mark.parametrize("header", ["", "sha256=", "sha1=" + "0" * 40, "sha256=" + "g" * 64, SIGNATURE + "0"])
def test_a_malformed_signature_is_refused_before_the_body_is_read(header: str) -> None:
    with pytest.raises(NotSigned):
        read_signature(header)


async def test_a_signed_archive_needs_no_login_and_its_build_is_followed(
    guarded: httpx2.AsyncClient, platform: FakePlatform
) -> None:
    body = archive({"Dockerfile": ""})
    answer = await guarded.post("/build", content=body, headers=headers(body, PAYLOAD_SECRET))
    assert answer.status_code == 200 and answer.headers["content-type"] == "application/x-ndjson"
    assert [json.loads(line) for line in answer.text.splitlines()] == [
        {"log": ["one"], "image": "", "status": "in_progress"},
        {"log": [], "image": "acme/f:1", "status": "success"},
    ]
    assert platform.built == [body]


async def test_a_client_that_does_not_stream_gets_log_and_result_in_one_response(
    guarded: httpx2.AsyncClient, platform: FakePlatform
) -> None:
    platform.build_steps.append(BuildStep("failed", "acme/f:1", error="no handler.py"))
    answer = await guarded.post("/build", content=b"x", headers=headers(b"x", PAYLOAD_SECRET, stream=False))
    assert answer.json() == {"log": ["one"], "image": "acme/f:1", "status": "failed", "error": "no handler.py"}


async def test_credentials_do_not_replace_a_signature(client: httpx2.AsyncClient, platform: FakePlatform) -> None:
    assert (await client.post("/build", content=b"x")).status_code == 401
    assert (await client.post("/build", content=b"x", headers=headers(b"x", b"another"))).status_code == 401
    assert platform.built == []


async def test_a_large_upload_is_refused_by_its_content_length(client: httpx2.AsyncClient) -> None:
    """SETTINGS allow 6 MB."""
    more = {**headers(b"", PAYLOAD_SECRET), "Content-Length": "6000001"}
    assert (await client.post("/build", content=chunks(b""), headers=more)).status_code == 413


async def test_the_key_for_build_secrets_is_stable_and_has_32_bytes(guarded: httpx2.AsyncClient) -> None:
    first, second = [(await guarded.get("/publickey")).json() for _ in range(2)]
    assert first == second and first["algorithm"] == "nacl/box"
    assert len(base64.b64decode(first["public_key"], validate=True)) == 32


def test_the_payload_secret_is_made_once_and_trimmed_as_the_client_trims(tmp_path) -> None:  # type: ignore[no-untyped-def]
    folder = tmp_path / "secrets"
    made = load_or_create_payload_secret(folder)
    file = folder / "payload-secret"
    assert len(made) > 40 and load_or_create_payload_secret(folder) == made
    assert (file.stat().st_mode & 0o777, folder.stat().st_mode & 0o777) == (0o600, 0o700)
    file.write_text(" chosen\t\n")
    assert load_or_create_payload_secret(folder) == b"chosen"
    file.write_text(" \n")
    with pytest.raises(InvalidInput, match="payload-secret is empty"):
        load_or_create_payload_secret(folder)


def test_secret_files_removed_under_a_running_platform_are_restored(tmp_path) -> None:  # type: ignore[no-untyped-def]
    assert restore(tmp_path, None, b"payload")
    assert [item.name for item in tmp_path.iterdir()] == ["payload-secret"]
    assert restore(tmp_path, Credentials("admin", "password"), b"payload")
    assert not restore(tmp_path, Credentials("admin", "password"), b"payload")
    assert {item.name: item.read_text() for item in tmp_path.iterdir()} == {
        "payload-secret": "payload", "basic-auth-user": "admin", "basic-auth-password": "password",
    }  # fmt: skip
