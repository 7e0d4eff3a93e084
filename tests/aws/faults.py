"""Failures on demand (`/_local/faults`) and the request rates of AWS (`rates`)."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import asdict, dataclass
from typing import Any

import calls
import options
from calls import Call
from server import Request, Response

HOLD_LIMIT_SECONDS = 120
THROTTLED = {
    "json": (400, "ThrottlingException"),
    "query": (400, "Throttling"),
    "rest": (503, "SlowDown"),
}


@dataclass
class Fault:
    """A rule. It fits a call when all given fields of `service` .. `conditional` fit; it fires for
    the `nth` fitting call and the `count - 1` after it (`count` null: all after it). README.md says
    what happens then."""

    service: str | None = None
    operation: str | None = None
    match: str | None = None
    accessKey: str | None = None
    conditional: bool | None = None
    nth: int = 1
    count: int | None = 1
    kind: str = "before"
    code: str | None = None
    status: int | None = None
    message: str | None = None
    close: bool = False
    hold: bool = False
    delaySeconds: float = 0
    id: int = 0
    matched: int = 0
    fired: int = 0

    def __post_init__(self) -> None:
        if self.kind not in ("before", "after"):
            raise ValueError("kind must be before or after")

    def fits(self, call: Call, request: Request) -> bool:
        conditional = "if-match" in request.headers or "if-none-match" in request.headers
        return (
            self.service in (None, call.service)
            and self.operation in (None, call.operation)
            and (self.match is None or self.match in call.detail)
            and self.accessKey in (None, call.access_key)
            and self.conditional in (None, conditional)
        )

    @property
    def answers(self) -> bool:
        """Whether the caller gets another answer than the cloud's."""
        return bool(self.close or self.hold or self.code or self.status or not self.delaySeconds)

    def response(self, call: Call) -> Response | None:
        if self.close or self.hold or not (self.code or self.status):
            return None
        status = self.status or 400
        code = self.code or ("InternalFailure" if status >= 500 else "ValidationException")
        return calls.error(call, status, code, self.message or f"{code} on request")


class Faults:
    def __init__(self) -> None:
        self.rules: list[Fault] = []
        self.changed = threading.Condition()
        self.next_id = 1
        self.era = 0  # counts clearings, each of which releases the held calls

    def add(self, rules: list[dict[str, Any]]) -> list[int]:
        parsed = [Fault(**rule) for rule in rules]
        with self.changed:
            for fault in parsed:
                fault.id, fault.matched, fault.fired = self.next_id, 0, 0
                self.next_id += 1
                self.rules.append(fault)
        return [fault.id for fault in parsed]

    def clear(self) -> None:
        with self.changed:
            self.rules.clear()
            self.era += 1
            self.changed.notify_all()

    def state(self) -> list[dict[str, Any]]:
        with self.changed:
            return [asdict(fault) for fault in self.rules]

    def wait_fired(self, times: int, seconds: float) -> None:
        """Returns when the rules have fired this often in all, or after this time."""
        with self.changed:
            self.changed.wait_for(lambda: sum(f.fired for f in self.rules) >= times, seconds)

    def find(self, call: Call, request: Request) -> Fault | None:
        """The first rule that fires for this call; every fitting rule counts the call."""
        if not self.rules:
            return None
        with self.changed:
            found = None
            for fault in self.rules:
                if not fault.fits(call, request):
                    continue
                fault.matched += 1
                past = fault.matched - fault.nth
                if found is None and past >= 0 and (fault.count is None or past < fault.count):
                    fault.fired += 1
                    found = fault
            if found:
                self.changed.notify_all()
            return found

    def suffer(self, fault: Fault) -> None:
        """Delays the call, or holds it until the rules are cleared."""
        if fault.delaySeconds:
            time.sleep(fault.delaySeconds)
        if fault.hold:
            with self.changed:
                era = self.era
                self.changed.wait_for(lambda: self.era != era, HOLD_LIMIT_SECONDS)


class Rates:
    """A token bucket for each limited operation, per account and region."""

    def __init__(self) -> None:
        self.buckets: dict[tuple[str, str], tuple[float, float]] = {}  # tokens, at
        self.lock = threading.Lock()

    def exceeded(self, call: Call) -> Response | None:
        limits = options.rates()
        if not limits:
            return None
        for name in (call.operation, call.service):
            if name in limits and not self.take(call.region, name, limits[name]):
                status, code = THROTTLED[call.style]
                return calls.error(call, status, code, "Rate exceeded")
        return None

    def take(self, region: str, name: str, rate: float) -> bool:
        size = max(1, math.ceil(rate))
        now = time.monotonic()
        with self.lock:
            tokens, at = self.buckets.get((region, name), (size, now))
            tokens = min(size, tokens + (now - at) * rate)
            allowed = tokens >= 1
            self.buckets[region, name] = (tokens - allowed, now)
            return allowed

    def reset(self) -> None:
        self.buckets.clear()
