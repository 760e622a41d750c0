"""Builds the requests that faas-cli sends to a remote builder.

Source: https://docs.openfaas.com/openfaas-pro/builder, and faas-cli 0.18.12 itself. `build --shrinkwrap` copies the
template and puts the user's files over its `function/`. The archive is a plain tar with that folder as `context`,
folders included, followed by the configuration. The signature covers the archive's bytes.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

CONFIG = "com.openfaas.docker.config"
DOCKERFILE = "FROM python:3.12-alpine\nCOPY index.py .\nCMD [\"fwatchdog\"]\n"
TEMPLATE = {
    "Dockerfile": DOCKERFILE,
    "index.py": "from flask import Flask\nfrom function import handler\n",
    "requirements.txt": "flask\nwaitress\n",
    "function/__init__.py": "",
    "function/handler_test.py": "",
    "function/requirements.txt": "",
    "function/tox.ini": "[tox]\n",
}
HTTP = "def handle(event, context):\n    return {'statusCode': 200, 'body': 'Hello, ' + event.body.decode()}\n"
CLASSIC = "def handle(req):\n    return 'Hello, ' + req\n"


def shrinkwrapped(files: Mapping[str, str], language: str = "python3-http") -> dict[str, str]:
    """Return the build context of a function with `files` in its folder and a Python template of OpenFaaS."""
    template = {**TEMPLATE, "template.yml": f"language: {language}\nfprocess: python index.py\n"}
    return {**template, **{f"function/{name}": text for name, text in files.items()}}


def archive(context: Mapping[str, str], image: str = "acme/f:1", **config: Any) -> bytes:
    """Return the body of POST /build."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        names = {f"context/{name}" for name in context}
        folders = {str(parent) for name in names for parent in PurePosixPath(name).parents[:-1]}
        for name in sorted(folders | names):
            if name in folders:
                member = tarfile.TarInfo(name + "/")
                member.type, member.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(member)
            else:
                add(tar, name, context[name.removeprefix("context/")].encode())
        add(tar, CONFIG, json.dumps({"image": image, **config}).encode())
    return file.getvalue()


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), 0o664
    tar.addfile(member, io.BytesIO(data))


def headers(body: bytes, secret: bytes, *, stream: bool = True) -> dict[str, str]:
    """Return the client's headers for `body`; it sends no credentials."""
    digest = hmac.new(secret, body, hashlib.sha256).hexdigest()
    found = {
        "X-Build-Signature": f"sha256={digest}",
        "Content-Type": "application/octet-stream",
        "User-Agent": "openfaas-go-sdk",
    }
    return found | ({"Accept": "application/x-ndjson"} if stream else {})
