"""Parsing h2load's report."""

import pytest

import h2load
from rows import MeasurementFailed

REPORT = """
finished in 3.00s, 55387.00 req/s, 7.92MB/s
requests: 166161 total, 166193 started, 166161 done, 166161 succeeded, {failed} failed, 0 errored, 0 timeout
"""


def test_the_rate_is_parsed():
    assert h2load.parse(REPORT.format(failed=0)) == 55387.0


@pytest.mark.parametrize(
    "report",
    [
        REPORT.replace("166161 succeeded", "166160 succeeded").format(failed=1),
        "finished in 3.00s, 0.00 req/s, 0B/s\nrequests: 0 total, 0 started, 0 done, 0 succeeded, 0 failed, 0 errored",
        "could not connect",
    ],
)
def test_a_report_with_failed_requests_gives_no_rate(report):
    with pytest.raises(MeasurementFailed):
        h2load.parse(report)
