"""Measures calls that crash their instance: how often each call ran, and the caller's response."""

from __future__ import annotations

import http.client
from collections import Counter

from rows import Bar, Measurement, Row, say
from support.live import Live

POSTS = 50
EACH = 5  # calls to one function: after repeated crashes the replacement waits for a back-off of up to 2 s
SECONDS = 10.0  # until the last lines must be in the log
# each execution prints a line into the function's log; half end like sys.exit, half like a crash in C
CRASH = (
    "import ctypes, os\n\n"
    "def handle(event, context):\n"
    "    mark = event.body.decode() or event.path.strip('/')\n"
    "    if mark:\n"
    "        print('RUN', mark, flush=True)\n"
    "        os._exit(1) if mark.endswith('exit') else ctypes.string_at(0)\n"
    "    return 'fine'\n"
)

RUNS = Bar("POSTs whose instance crashes in them, not executed exactly once", "", most=0)
STATUS = Bar("POSTs whose instance crashes in them, not answered with 502", "", most=0)
GETS = Bar("GETs whose instance crashes in them, executed more than twice or not answered with 502", "", most=0)


def measure(_: bool) -> list[Row]:
    bodies = [f"{number}-{'exit' if number % 4 < 2 else 'crash'}" for number in range(POSTS)]
    with Live() as live:
        names = [f"crash-{number}" for number in range(POSTS // EACH)]
        live.upload("crash:bench", CRASH)
        for name in names:
            live.deploy(name, image="crash:bench")
        answers = [post(live, names[number // EACH], body, kept=number % 2 == 0) for number, body in enumerate(bodies)]
        gets = [f"get-{number}-{'exit' if number % 2 else 'crash'}" for number in range(len(names))]
        got = [get(live, name, mark) for name, mark in zip(names, gets, strict=True)]
        runs = executions(live, names, bodies + gets)
    wrong_gets = [
        f"{mark}: {runs[mark]}, {answer}"
        for mark, answer in zip(gets, got, strict=True)
        if not 1 <= runs[mark] <= 2 or answer != "502"
    ]
    wrong_runs = [f"{body}: {runs[body]}" for body in bodies if runs[body] != 1]
    wrong_answers = [f"{body}: {answer}" for body, answer in zip(bodies, answers, strict=True) if answer != "502"]
    say(f"crash: {len(wrong_runs)} not run once, {len(wrong_answers)} not answered with 502")
    how = f"of {POSTS} to {len(names)} functions; half on new connections, half on connections that had carried a GET"
    return [
        RUNS.row(len(wrong_runs), f"{how}; executions counted in the functions' logs{_first(wrong_runs)}"),
        STATUS.row(len(wrong_answers), f"{how}; half ended by os._exit(1), half by SIGSEGV{_first(wrong_answers)}"),
        GETS.row(len(wrong_gets), f"of {len(gets)}, one to each function{_first(wrong_gets)}"),
    ]


def post(live: Live, name: str, body: str, *, kept: bool) -> str:
    """Send a POST; return its status or its failure. With `kept` the connection has carried a GET before."""
    connection = http.client.HTTPConnection("127.0.0.1", live.port, timeout=60)
    try:
        if kept:
            connection.request("GET", f"/function/{name}")
            status = connection.getresponse()
            if (status.status, status.read()) != (200, b"fine"):
                return f"the GET before it: {status.status}"
        connection.request("POST", f"/function/{name}", body)
        return str(connection.getresponse().status)
    except (OSError, http.client.HTTPException) as error:
        return repr(error)
    finally:
        connection.close()


def get(live: Live, name: str, mark: str) -> str:
    """Send a GET; return its status or its failure."""
    connection = http.client.HTTPConnection("127.0.0.1", live.port, timeout=60)
    try:
        connection.request("GET", f"/function/{name}/{mark}")
        return str(connection.getresponse().status)
    except (OSError, http.client.HTTPException) as error:
        return repr(error)
    finally:
        connection.close()


def executions(live: Live, names: list[str], bodies: list[str]) -> Counter[str]:
    """Count the executions of each call once the log has all calls or SECONDS have passed."""

    def runs() -> Counter[str]:
        lines = [line for name in names for line in live.function_log(name).splitlines()]
        return Counter(line.removeprefix("RUN ") for line in lines if line.startswith("RUN "))

    try:
        live.until(lambda: all(runs()[body] for body in bodies), "every call to be in the log", SECONDS)
    except AssertionError:
        say("crash: not every call is in a function's log")
    return runs()


def _first(wrong: list[str]) -> str:
    return f"; the first: {wrong[0]}" if wrong else ""


MEASUREMENT = Measurement("crash", (RUNS, STATUS, GETS), measure)
