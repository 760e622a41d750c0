"""Counting requests in the API server's metrics."""

import kubernetes_requests as requests

TEXT = """
# HELP apiserver_flowcontrol_dispatched_requests_total Number of requests executed
# TYPE apiserver_flowcontrol_dispatched_requests_total counter
apiserver_flowcontrol_dispatched_requests_total{flow_schema="service-accounts",priority_level="workload-low"} 42
apiserver_flowcontrol_dispatched_requests_total{flow_schema="service-accounts",priority_level="other"} 1e+06
apiserver_flowcontrol_dispatched_requests_total{flow_schema="kube-system-service-accounts",priority_level="a"} 7
apiserver_flowcontrol_dispatched_requests_total_other{flow_schema="service-accounts"} 7
apiserver_request_total{code="200",resource="pods",scope="cluster",verb="WATCH"} 3
apiserver_request_total{code="0",resource="pods",scope="namespace",verb="WATCH"} 4
apiserver_request_total{code="200",resource="functions",verb="PATCH"} 5
apiserver_request_total{code="200",resource="nodes",verb="GET"} 6
"""


def test_only_service_accounts_outside_of_kube_system_are_ours():
    assert requests.ours(TEXT) == 1_000_042


def test_requests_of_a_kind_are_added_up_whatever_their_outcome():
    assert requests.by_kind(TEXT) == {"WATCH pods": 7, "PATCH functions": 5}


def test_metrics_without_our_requests_count_none():
    assert (requests.ours(""), requests.by_kind("")) == (0, {})


def test_a_label_may_have_any_character():
    (found,) = requests.samples('up{a="x\\"y, b=}",c=""} NaN', "up")
    assert found[0] == {"a": 'x\\"y, b=}', "c": ""}
