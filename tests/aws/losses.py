"""Rule 12: certloop must not take anything from a visitor. See README.md, "Losses".

For each call that changes the certificates of a listener or of an ARN, this module compares before
and after: the certificates there, with their names, keys and dates, and what each visitor gets. AWS
refuses none of these calls, and neither does this module: it records the losses.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Callable, Iterator, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from moto.elbv2.models import FakeListener, elbv2_backends
from moto.iam.models import iam_backends

import acm
import elbv2
import options
from calls import Call

T = TypeVar("T")

WATCHED = {
    "acm": ("DeleteCertificate", "ImportCertificate"),
    "elbv2": (
        "AddListenerCertificates",
        "DeleteListener",
        "DeleteLoadBalancer",
        "ModifyListener",
        "RemoveListenerCertificates",
    ),
}
INSTALLATION, CERTIFICATE = "certloop:installation", "certloop:certificate"


# The certificates that are there


@dataclass(frozen=True)
class Leaf:
    """A visitor's view of a certificate. It has no common name: visitors ignore it."""

    names: tuple[str, ...]
    key_type: str
    serial: int
    not_before: float
    not_after: float
    self_signed: bool

    def serves(self, now: float) -> bool:
        """Whether a visitor accepts it, as far as this module can decide."""
        revoked = {int(serial.replace(":", ""), 16) for serial in options.get("revoked")}
        in_date = self.not_before <= now < self.not_after
        return in_date and not self.self_signed and self.serial not in revoked


@lru_cache(maxsize=None)
def parse(pem: bytes) -> Leaf:
    certificate = x509.load_pem_x509_certificate(pem)
    key = certificate.public_key()
    return Leaf(
        names=tuple(name.lower() for name in acm.alternative_names(certificate)),
        key_type="RSA" if isinstance(key, rsa.RSAPublicKey) else "ECDSA",
        serial=certificate.serial_number,
        not_before=certificate.not_valid_before_utc.timestamp(),
        not_after=certificate.not_valid_after_utc.timestamp(),
        self_signed=acm.certifies(certificate, certificate),
    )


@dataclass(frozen=True)
class Standing:
    """A certificate under an ARN."""

    arn: str
    leaf: Leaf
    installation: str | None
    certificate: str | None

    @property
    def ours(self) -> bool:
        """Whether it has both tags of certloop, of any installation."""
        return self.installation is not None and self.certificate is not None


def standing(arn: str) -> Standing | None:
    if not elbv2.CERTIFICATE_ARN.fullmatch(arn):
        return None
    _, partition, service, _, account, _ = arn.split(":", 5)
    if service == "iam":
        held = iam_backends[account][partition].get_certificate_by_arn(arn)
        return Standing(arn, parse(held.cert_body.encode()), None, None) if held else None
    if bundle := acm.lookup(arn):
        tags = dict(bundle.tags.items())
        return Standing(arn, parse(bundle.cert), tags.get(INSTALLATION), tags.get(CERTIFICATE))
    return None


@dataclass(frozen=True)
class Visitor:
    name: str
    key_type: str  # the only kind that it supports
    sni: bool


def covers(held: str, name: str) -> bool:
    return held == name or (held.startswith("*.") and held[1:] == "." + name.partition(".")[2])


def is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


@dataclass(frozen=True)
class View:
    """The certificates of a listener; the default is not repeated in the list."""

    default: Standing | None = None
    list: tuple[Standing, ...] = ()

    @property
    def all(self) -> tuple[Standing, ...]:
        return ((self.default,) if self.default else ()) + self.list

    def fitting(self, visitor: Visitor) -> list[Standing]:
        """The certificates that a listener may choose for a visitor: AWS does not say which of
        several."""
        offered = self.all if visitor.sni else self.all[: bool(self.default)]
        return [
            one
            for one in offered
            if one.leaf.key_type == visitor.key_type
            and any(covers(held, visitor.name) for held in one.leaf.names)
        ]


def view(listener: FakeListener) -> View:
    default = next(iter(listener.certificates), None)
    listed = (standing(arn) for arn in listener.sni if arn != default)
    return View(standing(default) if default else None, tuple(filter(None, listed)))


# What a call does to visitors


def visitors(*views: View) -> Iterator[Visitor]:
    """All visitors for whom these listeners have a name. No browser sends an address as SNI."""
    names = {name for seen in views for one in seen.all for name in one.leaf.names}
    for name in sorted(names):
        for key_type in ("ECDSA", "RSA"):
            for sni in (False,) if is_address(name) else (True, False):
                yield Visitor(name, key_type, sni)


def compare(before: View, after: View, now: float) -> Iterator[dict[str, Any]]:
    """What visitors got validly before, and do not surely get after."""
    for visitor in visitors(before, after):
        fitted, fits = before.fitting(visitor), after.fitting(visitor)
        had = [one for one in fitted if one.leaf.serves(now)]
        wrong = [one for one in fits if not one.leaf.serves(now)]
        lost = len(wrong) == len(fits)
        # If it could already go wrong before, this call did not cause it.
        if not lost and (not wrong or len(had) < len(fitted)):
            continue
        instead = wrong or ([after.default] if after.default else [])
        for one in had:
            yield {
                "name": visitor.name,
                "keyType": visitor.key_type,
                "sni": visitor.sni,
                "lost": lost,
                "instead": [other.arn for other in instead],
                **describe(one),
            }


def describe(one: Standing) -> dict[str, Any]:
    return {
        "arn": one.arn,
        "serial": f"{one.leaf.serial:x}",
        "notAfter": one.leaf.not_after,
        "ours": one.ours,
        "installation": one.installation,
        "certificate": one.certificate,
    }


class Losses:
    """The record. Use it only under the lock around moto."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []

    def watch(self, call: Call, number: int, now: float, act: Callable[[], T]) -> T:
        """Makes a call take effect, and records what visitors lost by it."""
        if call.operation not in WATCHED.get(call.service, ()) or not call.resource:
            return act()
        before = touched(call.resource)
        content = None
        if call.service == "acm" and not before and f":{call.region}:" in call.resource:
            content = standing(call.resource)
        result = act()
        there = listeners()
        found = [
            {"listener": arn, **loss}
            for arn, seen in before.items()
            for loss in compare(seen, view(there[arn]) if arn in there else View(), now)
        ]
        if content and not content.ours:
            # It is on none of our listeners, but perhaps somewhere else.
            left = standing(call.resource)
            after = View(list=(left,)) if left else View()
            changes = compare(View(list=(content,)), after, now)
            found += [{"listener": None, **loss} for loss in changes]
        for loss in found:
            self.entries.append(
                {
                    "request": number,
                    "operation": call.operation,
                    "caller": call.access_key,
                    "at": now,
                    **loss,
                }
            )
        return result


def listeners() -> dict[str, FakeListener]:
    return {
        arn: listener
        for regions in elbv2_backends.values()
        for backend in list(regions.values())
        for balancer in backend.load_balancers.values()
        for arn, listener in balancer.listeners.items()
    }


def touched(resource: str) -> dict[str, View]:
    """The listeners that a call to a listener, a load balancer or a certificate changes."""
    return {
        arn: view(listener)
        for arn, listener in listeners().items()
        if resource in (arn, listener.load_balancer_arn)
        or resource in listener.certificates
        or resource in listener.sni
    }
