"""Each deployed alarm rings for its purpose and for nothing else: the tests put metrics of past
hours, and the stand-in reports the states that CloudWatch would have given the alarm."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from typing import Any, Iterator

import pytest

from cloud import ACCOUNT, REGION
from conftest import World

BASE = "certloop-dev"
RENEW, CHALLENGE = f"{BASE}-renew", f"{BASE}-challenge"
HOUR, DAY = 60, 24 * 60
# The hours of one case, and the age in hours of the last case's end: before the deployment measured
# anything.
SLOT, AGO = 40, 26
# The attempts of an order, in minutes: the ladder of rule 7, with passes every ten minutes.
LADDER = [0, 10, 20, 120, *range(120 + DAY, 5 * DAY, DAY)]

Points = list[tuple[int, float]]


def passes(begin: int, end: int, value: float, every: int = 10) -> Points:
    return [(minute, value) for minute in range(begin, end, every)]


def of(function: str, **metrics: Points) -> dict[tuple[str, str, str], Points]:
    return {
        ("certloop", metric, f"Function={function}"): points for metric, points in metrics.items()
    }


def by_lambda(
    metric: str, function: str, minutes: list[int], alias: str | None = None
) -> dict[tuple[str, str, str], Points]:
    """Counts of Lambda: by function, and by alias as well for calls through an alias."""
    points = [(minute, 1.0) for minute in minutes]
    found = {("AWS/Lambda", metric, f"FunctionName={function}"): points}
    return found | (
        {("AWS/Lambda", metric, f"FunctionName={function},Resource={function}:{alias}"): points}
        if alias
        else {}
    )


def rings_while(alarm: str, metric: str, fine: float, bad: float, begin: int, end: int) -> Any:
    """A case: fine, bad for two hours and a half, fine again. `begin` and `end` are the latest
    minutes at which it has to ring, and to be quiet again."""
    points = passes(0, 3 * HOUR, fine) + passes(3 * HOUR, 330, bad) + passes(330, 9 * HOUR, fine)
    return (alarm, f"{metric} is {bad}", of(RENEW, **{metric: points}), (180, begin), (330, end))


CASES = [
    rings_while("lifetime", "LifetimeLeftShare", 0.5, 0.24, 190, 400),
    (
        "lifetime",
        "it stays above",
        of(RENEW, LifetimeLeftShare=passes(0, 9 * HOUR, 0.26)),
        None,
        None,
    ),
    rings_while("person", "NeedsPerson", 0, 2, 190, 400),
    rings_while("unserved", "Unserved", 0, 1, 190, 400),
    rings_while("unproved", "Unproved", 0, 1, 250, 400),
    rings_while("imports", "ImportsThisYear", 3999, 4001, 190, 400),
    rings_while("listeners", "ListenerCertificates", 19, 20, 190, 400),
    rings_while("strays", "Strays", 0, 3, 190, 400),
    rings_while("messages", "MessagesFailed", 0, 1, 250, 400),
    rings_while("failing", "Failing", 0, 1, 310, 400),
    # A first issuance that fails for ever: the alarm rings during the whole ladder. A count of
    # failures of the single pass would not.
    (
        "failing",
        "an order fails for ever, tried more and more rarely",
        of(
            RENEW,
            Failing=passes(-4 * HOUR, 0, 0) + passes(0, 30 * HOUR, 1),
            Failed=[(minute, 1.0) for minute in LADDER if minute < 30 * HOUR],
        ),
        (0, 130),
        None,
    ),
    (
        "failing",
        "it comes right at the third try",
        of(
            RENEW,
            Failing=passes(0, HOUR, 0) + passes(HOUR, 2 * HOUR, 1) + passes(2 * HOUR, 9 * HOUR, 0),
        ),
        None,
        None,
    ),
    (
        "failing",
        "two certificates fail one after the other, with a good pass between",
        of(RENEW, Failing=[(m, float(m % 60 != 0)) for m in range(0, 9 * HOUR, 10)]),
        None,
        None,
    ),
    (
        "managed",
        "the bucket is wiped",
        of(RENEW, CertificatesManaged=passes(0, 3 * HOUR, 40) + passes(3 * HOUR, 36 * HOUR, 0)),
        (180, 310),
        (180 + DAY, 310 + DAY),
    ),
    (
        "managed",
        "one of them is gone",
        of(RENEW, CertificatesManaged=passes(0, 3 * HOUR, 40) + passes(3 * HOUR, 36 * HOUR, 39)),
        (180, 310),
        (180 + DAY, 310 + DAY),
    ),
    (
        "managed",
        "one is replaced, and no pass came for hours",
        of(
            RENEW,
            CertificatesManaged=passes(0, 3 * HOUR, 4)
            + [(180, 3), (190, 4)]
            + passes(6 * HOUR, 36 * HOUR, 4),
        ),
        None,
        None,
    ),
    (
        "managed",
        "there are more and more",
        of(RENEW, CertificatesManaged=[(m, m // 60) for m in range(0, 36 * HOUR, 10)]),
        None,
        None,
    ),
    ("passes", "passes stop", of(RENEW, Passes=passes(0, 3 * HOUR, 1)), (180, 250), None),
    (
        "renew-errors",
        "the schedule's pass fails",
        by_lambda("Errors", RENEW, [180]),
        (180, 190),
        (180, 190),
    ),
    (
        "renew-errors",
        "a viewer brings errors about",
        by_lambda("Errors", RENEW, list(range(60, 300, 3)), "view"),
        None,
        None,
    ),
    ("challenge-errors", "it fails", by_lambda("Errors", CHALLENGE, [180]), (180, 190), (180, 190)),
    (
        "renew-throttles",
        "it is not let run",
        by_lambda("Throttles", RENEW, [180]),
        (180, 190),
        (180, 190),
    ),
    (
        "challenge-throttles",
        "it is not let run",
        by_lambda("Throttles", CHALLENGE, [180]),
        (180, 190),
        (180, 190),
    ),
    (
        "dead-letters",
        "a message lies there",
        {
            (
                "AWS/SQS",
                "ApproximateNumberOfMessagesVisible",
                f"QueueName={BASE}-dead-letters",
            ): passes(180, 240, 1, 5)
        },
        (180, 190),
        (235, 250),
    ),
    (
        "challenges-denied",
        "challenge may not read, along the ladder",
        of(RENEW, Failing=passes(0, HOUR, 0) + passes(HOUR, 9 * HOUR, 1))
        | of(CHALLENGE, ChallengeDenied=[(HOUR + minute, 4.0) for minute in LADDER[:4]]),
        (2 * HOUR, 4 * HOUR),
        (3 * HOUR, 7 * HOUR),
    ),
    (
        "challenges-denied",
        "scanners, while nothing fails",
        of(RENEW, Failing=passes(0, 9 * HOUR, 0))
        | of(CHALLENGE, ChallengeDenied=passes(0, 9 * HOUR, 9)),
        None,
        None,
    ),
    (
        "challenges-denied",
        "scanners, while something else fails",
        of(RENEW, Failing=passes(0, 9 * HOUR, 1))
        | of(
            CHALLENGE,
            ChallengeDenied=passes(0, 9 * HOUR, 9),
            ChallengeAnswered=passes(0, 9 * HOUR, 1),
        ),
        None,
        None,
    ),
    (
        "challenges-denied",
        "a first deployment whose route was tried once",
        of(RENEW, Failing=passes(0, 9 * HOUR, 1)) | of(CHALLENGE, ChallengeDenied=[(10, 1.0)]),
        None,
        None,
    ),
]


@pytest.fixture(scope="module")
def slots() -> Iterator[dict[str, int]]:
    """The number of cases so far, by alarm. Alarms that share metrics count together."""
    yield {}


def put(world: World, begin: float, series: dict[tuple[str, str, str], Points]) -> None:
    client = world.aws.client("cloudwatch")
    for (namespace, metric, dimensions), points in series.items():
        named = [dict(zip(("Name", "Value"), one.split("=", 1))) for one in dimensions.split(",")]
        data = [
            {
                "MetricName": metric,
                "Dimensions": named,
                "Value": value,
                "Timestamp": datetime.fromtimestamp(begin + minute * 60, timezone.utc),
            }
            for minute, value in points
        ]
        for at in range(0, len(data), 500):
            client.put_metric_data(Namespace=namespace, MetricData=data[at : at + 500])


@pytest.mark.parametrize(
    "alarm, why, series, rings, quiet", CASES, ids=[f"{one[0]}: {one[1]}" for one in CASES]
)
def test_an_alarm_rings_for_what_it_is_there_for(
    world: World, slots: dict[str, int], alarm: str, why: str, series: Any, rings: Any, quiet: Any
) -> None:
    shared = "failing" if alarm == "challenges-denied" else alarm
    slot = slots[shared] = slots.get(shared, 0) + 1
    begin = time.time() // 3600 * 3600 - (AGO + slot * SLOT) * 3600
    put(world, begin, series)
    last = max(minute for points in series.values() for minute, _ in points)
    end = last if alarm != "passes" else last + 3 * HOUR
    if alarm in (
        "dead-letters",
        "challenge-errors",
        "renew-errors",
        "challenge-throttles",
        "renew-throttles",
    ):
        end += HOUR
    asked = {
        "account": ACCOUNT,
        "region": REGION,
        "names": [f"{BASE}-{alarm}"],
        "from": begin,
        "to": begin + end * 60,
        "step": 60,
    }
    [states] = world.aws.local("POST", "alarm-states", asked).values()
    seen = [(round((at - begin) / 60), state) for at, state in states]
    rang = [at for at, state in seen if state == "ALARM" and at > HOUR]
    if rings is None:
        assert not rang, seen
        return
    assert rang and rings[0] <= rang[0] <= rings[1], seen
    cleared = [at for at, state in seen if state == "OK" and at > rang[-1]]
    if quiet is None:
        assert not cleared, seen
    else:
        assert cleared and quiet[0] <= cleared[0] <= quiet[1], seen


def test_every_alarm_was_rung(world: World) -> None:
    deployed = {
        one["AlarmName"].removeprefix(f"{BASE}-")
        for one in world.aws.client("cloudwatch").describe_alarms()["MetricAlarms"]
    }
    assert deployed == {alarm for alarm, _, _, rings, _ in CASES if rings}
