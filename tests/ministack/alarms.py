"""CloudWatch alarms as they were put, refused where CloudWatch would refuse them, and their states.
In the protocol of Terraform, ministack describes only a third of an alarm."""

from __future__ import annotations

import re
from typing import Any
from xml.sax.saxutils import escape, unescape

from ministack.core.responses import get_account_id, get_region, request_scope
from ministack.services import cloudwatch

import alarm_states

NOT_SHOWN = ("Action", "Version", "Tags")
# The requested alarms, by account, region and name: the request's parameters.
asked: dict[tuple[str, str, str], dict[str, list[str]]] = {}


def put(params: dict[str, list[str]], cbor: Any, is_cbor: bool, is_json: bool = False) -> Any:
    if not (is_cbor or is_json):
        refused = alarm_states.refusal(tree(params))
        if refused:
            return cloudwatch._error("ValidationError", refused, 400)
    answer = _put(params, cbor, is_cbor, is_json)
    if not (is_cbor or is_json) and answer[0] == 200:
        asked[get_account_id(), get_region(), params["AlarmName"][0]] = params
    return answer


def describe(params: dict[str, list[str]], cbor: Any, is_cbor: bool, is_json: bool = False) -> Any:
    status, headers, body = _describe(params, cbor, is_cbor, is_json)
    if is_cbor or is_json or status != 200:
        return status, headers, body

    def whole(member: re.Match[str]) -> str:
        given = asked.get((get_account_id(), get_region(), unescape(member[1])))
        return member[0] if given is None else f"<member>{member[2]}{to_xml(tree(given))}</member>"

    alarm = (
        r"<member><AlarmName>([^<]*)</AlarmName>"
        r"(<AlarmArn>[^<]*</AlarmArn><StateValue>[^<]*</StateValue>)<MetricName>.*?</member>"
    )
    return status, headers, re.sub(alarm, whole, body.decode(), flags=re.DOTALL).encode()


def states(
    account: str, region: str, names: list[str], begin: float, end: float, step: float
) -> dict[str, list[tuple[float, str]]]:
    """The states of these alarms from one instant to another."""
    with request_scope(account, region):
        return {
            name: alarm_states.states(
                tree(asked[account, region, name]), cloudwatch._metrics, begin, end, step
            )
            for name in names
        }


def tree(params: dict[str, list[str]]) -> dict[str, Any]:
    """`A.member.1.B=c` as `{"A": {"member": {"1": {"B": "c"}}}}`."""
    found: dict[str, Any] = {}
    for name, values in params.items():
        *path, last = name.split(".")
        if name.split(".")[0] in NOT_SHOWN:
            continue
        place = found
        for step in path:
            place = place.setdefault(step, {})
        place[last] = values[0]
    return found


def to_xml(value: Any) -> str:
    if not isinstance(value, dict):
        return escape(value)
    if set(value) == {"member"}:
        return "".join(
            f"<member>{to_xml(value['member'][n])}</member>"
            for n in sorted(value["member"], key=int)
        )
    return "".join(f"<{name}>{to_xml(inner)}</{name}>" for name, inner in value.items())


_put = cloudwatch._put_metric_alarm
_describe = cloudwatch._describe_alarms


def install() -> None:
    cloudwatch._put_metric_alarm = put
    cloudwatch._describe_alarms = describe
