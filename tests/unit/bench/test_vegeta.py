"""Parsing the load generator's report."""

import base64

import pytest

import vegeta

SECOND = 1_000_000_000


def row(
    number: int, sent: float, latency: float, status: int = 200, error: str = "", headers: str = "", body: str = ""
) -> list[str]:
    """A row of vegeta's CSV; times in seconds."""
    encoded, text = (base64.b64encode(one.encode()).decode() for one in (headers, body))
    times = str(round((1000 + sent) * SECOND)), str(status), str(round(latency * SECOND))
    return [*times, "0", "5", error, text, "", str(number), "GET", "http://localhost/", encoded]


def test_the_latency_of_a_late_request_counts_from_when_it_was_due():
    # ten a second; the third is sent 0.3 s late because the generator stalled
    hits = list(vegeta.parse([row(0, 0.0, 0.1), row(1, 0.1, 0.1), row(2, 0.5, 0.1)], rate=10))
    assert [hit.due for hit in hits] == [0.0, 0.1, 0.2]
    assert [hit.seconds for hit in hits] == pytest.approx([0.1, 0.1, 0.4], abs=1e-6)


def test_the_least_late_request_counts_as_on_time():
    hits = list(vegeta.parse([row(0, 0.7, 0.1), row(1, 0.6, 0.1)], rate=10))
    assert [hit.seconds for hit in hits] == pytest.approx([0.3, 0.1], abs=1e-6)


def test_without_a_rate_a_request_is_due_when_sent():
    hits = list(vegeta.parse([row(0, 2.0, 0.1), row(1, 2.5, 0.2)], rate=None))
    assert [hit.due for hit in hits] == pytest.approx([0.0, 0.5], abs=1e-6)
    assert [hit.ended for hit in hits] == pytest.approx([0.1, 0.7], abs=1e-6)


def test_requests_are_returned_in_the_order_in_which_they_were_due():
    hits = list(vegeta.parse([row(1, 0.1, 0.0), row(0, 0.0, 0.9)], rate=10))
    assert [hit.due for hit in hits] == [0.0, 0.1]


def test_a_cold_call_is_recognized_by_its_header_and_a_failed_one_by_its_error():
    rows = [row(0, 0.0, 0.1, headers="X-Cold-Start: true\r\n"), row(1, 0.1, 0.1, 503, "503 Service Unavailable")]
    first, second = vegeta.parse(rows, rate=10)
    assert (first.cold, first.status, first.error) == (True, 200, "")
    assert (second.cold, second.status, second.error) == (False, 503, "503 Service Unavailable")
    assert vegeta.failures([first, second]) == "1 x 503 Service Unavailable"


def test_a_failure_tells_what_the_response_says():
    (hit,) = vegeta.parse([row(0, 0.0, 0.1, 503, "503 Service Unavailable", body="no room\n")], rate=10)
    assert hit.error == "503 Service Unavailable: no room"


def test_the_end_of_the_targets_does_not_count_as_a_request():
    assert len(list(vegeta.parse([row(0, 0.0, 0.1), row(1, 0.2, 0.0, 0, vegeta.EXHAUSTED)], rate=None))) == 1
    assert list(vegeta.parse([], rate=None)) == []
