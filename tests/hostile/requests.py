"""Requests that two parts of the platform might parse differently, to reach another function or /system."""

from __future__ import annotations

import re
from collections.abc import Iterable

from hostile.suite import MARKER, attack
from hostile.world import BYSTANDER, Outcome, World

_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")
_OPEN = b"GET /system/functions HTTP/1.1\r\nHost: x\r\n\r\n"  # the request to smuggle
_INNER = b"GET /function/victim HTTP/1.1\r\nHost: x\r\n\r\n"


def _request(line: bytes, *fields: bytes, body: bytes = b"", host: bytes = b"Host: x") -> bytes:
    return b"\r\n".join([line, host, b"Connection: close", *fields, b"", body])


def _statuses(answer: bytes) -> list[int]:
    return [int(status) for status in _STATUS.findall(answer)]


def _judge(world: World, outcome: Outcome, what: str, data: bytes) -> None:
    """Check that a request gets at most one response, and neither the victim's nor a page of /system."""
    answer = world.raw(data)
    statuses = _statuses(answer)
    outcome.judge(f"{what}: one answer", len(statuses) <= 1, answer[:300])
    inside = b'"availableReplicas"' in answer or b'"listens"' in answer or MARKER.encode() in answer
    outcome.judge(f"{what}: not another's", not inside, answer[:300])


@attack("requests", "a caller names another function in X-Rescoldo-Function")
def forged_function_header(world: World, outcome: Outcome) -> None:
    for name in (b"X-Rescoldo-Function", b"x-rescoldo-function", b"X_Rescoldo_Function", b"X-Rescoldo-Function "):
        for value in (b"victim.openfaas-fn", b"victim"):
            field = name + b": " + value
            data = _request(b"GET /function/bystander HTTP/1.1", field, field)
            _judge(world, outcome, f"{name!r}", data)
            listed = _request(b"GET /function/bystander HTTP/1.1", field, b"Connection: X-Rescoldo-Function")
            _judge(world, outcome, f"{name!r} as a hop's own", listed)


def _smuggled(world: World, outcome: Outcome, fields: Iterable[tuple[bytes, ...]], body: bytes) -> None:
    for hidden in (_OPEN, _INNER):
        for some in fields:
            data = _request(b"POST /function/bystander HTTP/1.1", *some, body=body + hidden)
            _judge(world, outcome, f"{some!r}, then {hidden[:20]!r}", data)


@attack("requests", "a request has both Content-Length and chunks")
def length_and_chunks(world: World, outcome: Outcome) -> None:
    length = b"Content-Length: 4"
    chunked = b"Transfer-Encoding: chunked"
    _smuggled(world, outcome, [(length, chunked), (chunked, length), (chunked, b"Content-Length: 0")], b"0\r\n\r\n")


@attack("requests", "a request has two lengths, or one that is no number")
def two_lengths(world: World, outcome: Outcome) -> None:
    some = [
        (b"Content-Length: 0", b"Content-Length: 40"), (b"Content-Length: 0, 40",), (b"Content-Length: +0",),
        (b"Content-Length: 0x0",), (b"Content-Length: 0 0",), (b"Content-Length:\x0b0",), (b"Content-Length: -1",),
        (b"Content-Length: 00000000000000000000000000",), (b"Content-Length : 0",), (b"X: y\r\n Content-Length: 40",),
    ]  # fmt: skip
    _smuggled(world, outcome, some, b"")


@attack("requests", "Transfer-Encoding in spellings that only some parsers read")
def transfer_encodings(world: World, outcome: Outcome) -> None:
    some = [
        (b"Transfer-Encoding: " + value, b"Content-Length: 5")
        for value in (b"xchunked", b"chunked, identity", b"identity", b"chunked\x0b", b"\x0bchunked", b"\tchunked",
                      b"chunked, chunked", b"gzip, chunked", b"CHUNKED", b'"chunked"', b"chunked;x=1", b"cow")
    ]  # fmt: skip
    some += [(b"Transfer-Encoding : chunked", b"Content-Length: 5"),
             (b"Transfer_Encoding: chunked", b"Content-Length: 5"), (b"X: y\nTransfer-Encoding: chunked",
             b"Content-Length: 5"),
             (b"Transfer-Encoding: identity", b"Transfer-Encoding: chunked", b"Content-Length: 5")]  # fmt: skip
    _smuggled(world, outcome, some, b"0\r\n\r\n")


@attack("requests", "chunks are malformed: sizes, ends, extensions")
def malformed_chunks(world: World, outcome: Outcome) -> None:
    last = b"0\r\n\r\n"
    for body in (b"0;x\r\n\r\n", b"00\r\n\r\n", b"0\n\n", b"-1\r\n\r\n", b"0x0\r\n\r\n", b"\r\n" + last,
                 b"F" * 17 + b"\r\n",
                 b"1\r\naX" + last, b"0\r\nX: " + b"y" * 100 + b"\r\n\r\n",
                 b"1;" + b"x" * 5000 + b"\r\na\r\n" + last):  # fmt: skip
        data = _request(b"POST /function/bystander HTTP/1.1", b"Transfer-Encoding: chunked", body=body + _OPEN)
        _judge(world, outcome, f"{body[:20]!r}", data)


@attack("requests", "the target has the form for a proxy, or names another host")
def absolute_targets(world: World, outcome: Outcome) -> None:
    for target in (b"http://x/system/functions", b"http://127.0.0.1/system/functions", b"http:///system/functions",
                   b"http://x/function/../system/functions", b"https://x:443/system/functions",
                   b"ftp://x/system/functions",
                   b"//x/system/functions", b"x/system/functions", b"http://victim@x/system/functions",
                   b"http://x@/function/bystander/../../system/functions"):  # fmt: skip
        _judge(world, outcome, f"{target!r}", _request(b"GET " + target + b" HTTP/1.1"))
        _judge(world, outcome, f"CONNECT {target!r}", _request(b"CONNECT " + target + b" HTTP/1.1"))


@attack("requests", "paths that lead from a function to /system: .., //, %2e, %2f, NUL, backslashes")
def paths_to_system(world: World, outcome: Outcome) -> None:
    for path in (b"/function/bystander/../../system/functions", b"/function/../system/functions", b"//system/functions",
                 b"/function/bystander/%2e%2e/%2e%2e/system/functions", b"/function/%2e%2e/system/functions",
                 b"/function/..%2fsystem/functions", b"/function%2f..%2fsystem/functions", b"/./system/functions",
                 b"/function/bystander\\..\\..\\system\\functions", b"/function/bystander/%00/../../system/functions",
                 b"/system/functions\0", b"/system%2ffunctions", b"/%73ystem/functions", b"/SYSTEM/functions",
                 b"/system/functions;x", b"/healthz/../system/functions", b"/system/./functions", b"/system//functions",
                 b"/function/bystander?/../../system/functions",
                 b"/function/bystander#/../../system/functions"):  # fmt: skip
        _judge(world, outcome, f"{path!r}", _request(b"GET " + path + b" HTTP/1.1"))


@attack("requests", "function names with a path, a slot's name or a control character in them")
def strange_function_names(world: World, outcome: Outcome) -> None:
    for name in (b"victim%2eopenfaas-fn", b"victim%00", b"victim%0a", b"..", b"*", b"-", b"s0", b"#", b"%2a",
                 b"bystander%2f..%2fvictim", b"bystander/../victim", b"victim..openfaas-fn",
                 b".victim", b"victim.", b"n" * 10_000):  # fmt: skip
        data = _request(b"GET /function/" + name + b" HTTP/1.1")
        _judge(world, outcome, f"{name[:40]!r}", data)


@attack("requests", "a name breaks out of the wake protocol's or a log's line")
def lines_broken(world: World, outcome: Outcome) -> None:
    for name in (
        b"nobody%0aok s0",
        b"nobody\nvictim",
        b"nobody%0d%0a",
        b"nobody ok s0",
        b"nobody\x1b[2J",
        b"nobody\xff",
    ):
        data = _request(b"GET /function/" + name + b" HTTP/1.1")
        _judge(world, outcome, f"{name!r}", data)
        answer = world.raw(data)
        outcome.judge(f"{name!r} is served", 200 not in _statuses(answer), answer[:200])


@attack("requests", "/system with forged credentials or headers that proxies set")
def forged_credentials(world: World, outcome: Outcome) -> None:
    for field in (b"Authorization: Basic", b"Authorization: Basic !!!", b"Authorization: Basic Og==",
                  b"Authorization: Bearer x", b"Authorization: Basic " + b"A" * 8000, b"X-Forwarded-For: 127.0.0.1",
                  b"X-Forwarded-User: admin",
                  b"X-Original-URL: /healthz", b"X-Rewrite-URL: /healthz", b"X-HTTP-Method-Override: OPTIONS",
                  b"X-Rescoldo-Function: victim.openfaas-fn", b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABk"):  # fmt: skip
        answer = world.raw(_request(b"GET /system/functions HTTP/1.1", field))
        outcome.judge(f"{field[:60]!r}", _statuses(answer) == [401], answer[:200])


@attack("requests", "a function sends more than one response, so that the next caller gets the second one")
def split_answers(world: World, outcome: Outcome) -> None:
    """Check that bytes after a function's response reach at most callers of the same function."""
    code = (
        "import gc, socket\n"
        "EVIL = b'HTTP/1.1 200 OK\\r\\nContent-Length: 14\\r\\n\\r\\nHOSTILE-MARKER'\n"
        "def handle(event, context):\n"
        "    for thing in gc.get_objects():\n"
        "        if type(thing).__name__ == 'TCPTransport' or type(thing).__name__ == 'UnixTransport':\n"
        "            thing._loop.call_soon_threadsafe(thing.write, EVIL * 3)\n"
        "    return {'headers': {'X': 'y'}, 'body': 'fine'}\n"
    )
    world.deploy("splitter", {"handler.py": code.encode()})
    for _ in range(20):
        world.live.invoke("splitter")
        answer = world.live.invoke(BYSTANDER)
        outcome.judge("the bystander's caller gets it", answer.text == "fine", answer.text)
    world.live.system("DELETE", "/functions", {"functionName": "splitter"})
