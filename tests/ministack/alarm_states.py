"""The states of CloudWatch alarms over a time, from the recorded metrics: dimensions, periods,
missing data and metric math, which ministack's own alarms ignore."""

from __future__ import annotations

import math
import operator
import re
from typing import Any, Callable

from ministack.services import cloudwatch

Series = list["float | None"]
Value = "float | Series"

# CloudWatch looks at more data points than it evaluates.
BEFORE = 2
COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "GreaterThanOrEqualToThreshold": operator.ge,
    "GreaterThanThreshold": operator.gt,
    "LessThanOrEqualToThreshold": operator.le,
    "LessThanThreshold": operator.lt,
}
TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.\d+)?)|(?P<word>[A-Za-z]\w*)"
    r"|(?P<sign>==|!=|>=|<=|&&|\|\||[-+*/<>(),]))"
)
SIGNS: list[dict[str, Callable[[float, float], float]]] = [
    {"OR": lambda a, b: float(bool(a) or bool(b)), "||": lambda a, b: float(bool(a) or bool(b))},
    {"AND": lambda a, b: float(bool(a) and bool(b)), "&&": lambda a, b: float(bool(a) and bool(b))},
    {
        sign: lambda a, b, of=of: float(of(a, b))
        for sign, of in {
            "==": operator.eq,
            "!=": operator.ne,
            ">": operator.gt,
            "<": operator.lt,
            ">=": operator.ge,
            "<=": operator.le,
        }.items()
    },
    {"+": operator.add, "-": operator.sub},
    {"*": operator.mul, "/": lambda a, b: a / b if b else math.nan},
]


def members(value: Any) -> list[Any]:
    """A list in the form of the query protocol: {"member": {"1": ..}}."""
    found = (value or {}).get("member", {})
    return [found[n] for n in sorted(found, key=int)]


class Math:
    """One expression over series of the same length. Unknown syntax is a ValueError."""

    def __init__(self, text: str, known: dict[str, Series]):
        self.known, self.tokens, at = known, [], 0
        while at < len(text.rstrip()):
            found = TOKEN.match(text, at)
            if not found:
                raise ValueError(f"not understood at {text[at:]!r}")
            self.tokens.append(found[found.lastgroup or 0])
            at = found.end()

    def value(self) -> Any:
        found = self.level(0)
        if self.tokens:
            raise ValueError(f"more than an expression: {self.tokens}")
        return found

    def level(self, n: int) -> Any:
        if n == len(SIGNS):
            return self.factor()
        found = self.level(n + 1)
        while self.tokens and self.tokens[0] in SIGNS[n]:
            found = each(SIGNS[n][self.tokens.pop(0)], found, self.level(n + 1))
        return found

    def factor(self) -> Any:
        token = self.take()
        if token == "-":
            return each(operator.mul, -1.0, self.factor())
        if token == "(":
            found = self.level(0)
            self.take(")")
            return found
        if token[0].isdigit():
            return float(token)
        if self.tokens[:1] != ["("]:
            if token not in self.known:
                raise ValueError(f"nothing is called {token}")
            return self.known[token]
        return self.function(token)

    def function(self, name: str) -> Any:
        self.take("(")
        given = [self.level(0)]
        while self.tokens[:1] == [","]:
            self.take(",")
            if name == "FILL" and self.tokens[:1] == ["REPEAT"]:
                given.append(self.take())
            else:
                given.append(self.level(0))
        self.take(")")
        match name, given:
            case "DIFF", [list(series)]:
                pairs = zip([None, *series], series)
                return [
                    None if before is None or now is None else now - before for before, now in pairs
                ]
            case "FILL", [list(series), "REPEAT"]:
                return repeated(series)
            case "FILL", [list(series), float(filling)]:
                return [filling if one is None else one for one in series]
            case "IF", [condition, yes, no]:
                return each(lambda is_so, a, b: a if is_so else b, condition, yes, no)
        raise ValueError(f"{name} is not understood of {len(given)}")

    def take(self, wanted: str | None = None) -> str:
        if not self.tokens or wanted and self.tokens[0] != wanted:
            raise ValueError(f"{wanted or 'something'} is missing before {self.tokens}")
        return self.tokens.pop(0)


def each(of: Callable[..., float], *given: Any) -> Any:
    lengths = [len(one) for one in given if isinstance(one, list)]
    if not lengths:
        return of(*given)
    rows = zip(*(one if isinstance(one, list) else [one] * lengths[0] for one in given))
    return [None if None in row else of(*row) for row in rows]


def repeated(series: Series) -> Series:
    found, last = [], None
    for one in series:
        last = one if one is not None else last
        found.append(last)
    return found


def refusal(alarm: dict[str, Any]) -> str | None:
    """Why CloudWatch would refuse an alarm."""
    queries = members(alarm.get("Metrics"))
    returned = [one for one in queries if one.get("ReturnData", "true") == "true"]
    if queries and len(returned) != 1:
        return "Exactly one element of the metrics list should return data"
    statistics = [one["MetricStat"] for one in queries if "MetricStat" in one]
    periods = {one["Period"] for one in statistics} or {alarm.get("Period", "60")}
    if len(periods) > 1:
        return "Metrics list contains metrics with different periods"
    seconds = int(periods.pop())
    whole, most = (
        seconds * int(alarm.get("EvaluationPeriods", "1")),
        86_400 if seconds < 3_600 else 604_800,
    )
    if whole > most:
        return f"Metrics cannot be checked across more than {most} seconds"
    if int(alarm.get("DatapointsToAlarm", "1")) > int(alarm.get("EvaluationPeriods", "1")):
        return "DatapointsToAlarm must be less than or equal to EvaluationPeriods"
    try:
        for one in queries:
            if "Expression" in one:
                Math(
                    one["Expression"], {other["Id"]: [0.0] for other in queries if other is not one}
                ).value()
    except ValueError as error:
        return f"Error in expression: {error}"
    return None


class Watch:
    """An alarm as it was put, over the metrics of an account and region."""

    def __init__(self, alarm: dict[str, Any], metrics: Any):
        self.alarm, self.metrics = alarm, metrics
        self.queries = members(alarm.get("Metrics"))
        statistics = [one["MetricStat"] for one in self.queries if "MetricStat" in one]
        self.period = int(statistics[0]["Period"] if statistics else alarm["Period"])
        self.periods = int(alarm["EvaluationPeriods"])
        self.enough = int(alarm.get("DatapointsToAlarm") or self.periods)
        self.missing = alarm.get("TreatMissingData", "missing")

    def series(self, metric: dict[str, Any], statistic: str, at: float) -> Series:
        dimensions = {one["Name"]: one["Value"] for one in members(metric.get("Dimensions"))}
        key = (metric["Namespace"], metric["MetricName"], cloudwatch._dims_key(dimensions))
        periods: list[list[Any]] = [[] for _ in range(self.periods + BEFORE)]
        for point in self.metrics.get(key) or []:
            # The period that ends now is the last.
            back = math.floor((at - point["Timestamp"]) / self.period)
            if 0 <= back < len(periods):
                periods[-1 - back].append(point)
        return [cloudwatch._calc_stats(points).get(statistic) for points in periods]

    def values(self, at: float) -> Series:
        if not self.queries:
            return self.series(self.alarm, self.alarm["Statistic"], at)[BEFORE:]
        known: dict[str, Series] = {}
        for one in self.queries:
            if "MetricStat" in one:
                known[one["Id"]] = self.series(
                    one["MetricStat"]["Metric"], one["MetricStat"]["Stat"], at
                )
        [told] = [one for one in self.queries if one.get("ReturnData", "true") == "true"]
        found = (
            Math(told["Expression"], known).value() if "Expression" in told else known[told["Id"]]
        )
        return found[BEFORE:]

    def state(self, at: float, before: str) -> str:
        breaches = COMPARISONS[self.alarm["ComparisonOperator"]]
        values, threshold = self.values(at), float(self.alarm["Threshold"])
        there = [breaches(one, threshold) for one in values if one is not None]
        gone = len(values) - len(there)
        if self.missing in ("breaching", "notBreaching"):
            there += [self.missing == "breaching"] * gone
            gone = 0
        if sum(there) >= self.enough:
            return "ALARM"
        if not there:
            return "INSUFFICIENT_DATA" if self.missing == "missing" else before
        # The missing values could still make it an alarm.
        return before if sum(there) + gone >= self.enough and self.missing == "ignore" else "OK"


def states(
    alarm: dict[str, Any], metrics: Any, begin: float, end: float, step: float
) -> list[tuple[float, str]]:
    """The states one after the other, each with its start."""
    watch, found, at = Watch(alarm, metrics), [(begin, "INSUFFICIENT_DATA")], begin
    while at <= end:
        state = watch.state(at, found[-1][1])
        if state != found[-1][1]:
            found.append((at, state))
        at += step
    return found
