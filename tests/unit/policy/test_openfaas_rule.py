"""OpenFaaS's rule: an alert above 5 requests a second, as its certifier tests it."""

from __future__ import annotations

from itertools import pairwise

import pytest

from rescoldo.kinds.deployment import policy_of
from rescoldo.model.function import FunctionPolicy, FunctionSpec
from rescoldo.model.scaling import ScalingDefaults, platform_scaling
from rescoldo.policy.openfaasrule import LASTING, REPEAT, WINDOW, Alert, watch

POLICY = FunctionPolicy(min_replicas=1, max_replicas=20)
LABELS = {"com.openfaas.scale.min": "1", "com.openfaas.scale.max": "2"}


class Traffic:
    """Requests at a rate, sampled four times a second."""

    def __init__(self, policy: FunctionPolicy = POLICY) -> None:
        self.policy = policy
        self.alert = Alert()
        self.now = 100.0
        self.total = 7.0

    def run(self, rate: float, seconds: float) -> list[tuple[float, int]]:
        """The changes of the number: seconds from now, and the new number."""
        begun, changes = self.now, []
        while self.now < begun + seconds:
            before = self.alert.least
            self.alert = watch(self.alert, self.policy, self.now, int(self.total))
            if self.alert.least != before:
                changes.append((self.now - begun, self.alert.least))
            self.now += 0.25
            self.total += rate * 0.25
        return changes


def test_ten_requests_a_second_add_a_step_within_a_minute_and_their_end_removes_it() -> None:
    traffic = Traffic()
    assert traffic.run(0, 30) == []
    [(at, number), *_] = traffic.run(10, 60)
    assert (number, LASTING <= at <= WINDOW + LASTING) == (5, True)
    [(at, number)] = traffic.run(0, 60)
    assert (number, at <= WINDOW) == (0, True)


def test_a_lasting_alert_adds_steps_up_to_the_maximum() -> None:
    changes = Traffic().run(100, 300)
    assert [number for _, number in changes] == [5, 9, 13, 17, 20]
    assert all(b - a == pytest.approx(REPEAT, abs=0.3) for (a, _), (b, _) in pairwise(changes))


def test_five_requests_a_second_or_a_short_burst_do_not_fire_the_alert() -> None:
    assert Traffic().run(5, 120) == []
    traffic = Traffic()
    assert traffic.run(40, 1) == []
    assert traffic.run(0, 60) == []


def test_a_restarted_counter_is_neither_a_burst_nor_an_end() -> None:
    traffic = Traffic()
    traffic.run(10, 60)
    traffic.total = 0.0
    changes = traffic.run(10, 60)
    assert [number for _, number in changes][:1] == [0], "the time before is unknown"
    assert traffic.alert.least > 0
    traffic.total = 0.0
    assert traffic.run(1, 30)[-1][1] == 0


def test_the_rule_does_nothing_if_minimum_equals_maximum_or_the_factor_is_0() -> None:
    for policy in (FunctionPolicy(min_replicas=3, max_replicas=3), FunctionPolicy(scale_factor=0)):
        assert Traffic(policy).run(100, 120) == []


def test_the_kept_samples_are_bounded() -> None:
    traffic = Traffic()
    traffic.run(50, 600)
    assert len(traffic.alert.samples) <= 25


def test_the_rule_applies_to_functions_with_both_labels_if_the_platform_enables_it() -> None:
    on = ScalingDefaults(openfaas_rule=True)
    assert policy_of(FunctionSpec("fn", "i", labels=LABELS), scaling=on).openfaas_rule
    assert not policy_of(FunctionSpec("fn", "i", labels=LABELS)).openfaas_rule, "off by default"
    for label in LABELS:
        assert not policy_of(FunctionSpec("fn", "i", labels={label: LABELS[label]}), scaling=on).openfaas_rule
    assert platform_scaling({}, openfaas_rule=True) == on
    assert not platform_scaling({}).openfaas_rule
