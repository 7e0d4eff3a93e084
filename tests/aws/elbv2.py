"""Elastic Load Balancing (v2) as documented.

moto keeps a listener's default certificate and its certificate list in one Python list. Here
`listener.certificates` holds only the default, which moto prints for a listener, and `listener.sni`
holds the list.
"""

from __future__ import annotations

import re
import time
from collections import OrderedDict, deque
from typing import Any

from moto.core.responses import ActionResult, EmptyResult
from moto.elb.models import elb_backends
from moto.elbv2 import models
from moto.elbv2.exceptions import (
    ActionTargetGroupNotFoundError,
    DuplicateListenerError,
    ELBClientError,
    ListenerNotFoundError,
    LoadBalancerNotFoundError,
    TooManyCertificatesError,
    ValidationError,
)
from moto.elbv2.models import ELBv2Backend, FakeListener, FakeLoadBalancer, elbv2_backends
from moto.elbv2.responses import ELBV2Response
from moto.elbv2.ssl_policies import SSL_POLICIES
from moto.iam.models import iam_backends

import options
import state

CERTIFICATE_ARN = re.compile(r"arn:[\w-]+:(acm:[\w-]+|iam:):\d{12}:.+")
LISTENER_ARN = re.compile(r"arn:[\w-]+:elasticloadbalancing:[\w-]+:\d{12}:listener/.+")
SECURE = ("HTTPS", "TLS")


# Who uses a certificate


class History:
    """The certificates that load balancers held a while ago.

    `InUseBy` in ACM follows a listener with a delay. The past is kept only while a test asks for a
    delay (`inUseLagSeconds`).
    """

    def __init__(self) -> None:
        self.snapshots: dict[tuple[str, str], deque[tuple[float, dict[str, list[str]]]]] = {}

    def before(self, account: str, region: str) -> None:
        if options.get("inUseLagSeconds"):
            if (account, region) not in self.snapshots:
                start = (float("-inf"), uses(account, region))
                self.snapshots[account, region] = deque([start])
        else:
            self.snapshots.clear()

    def after(self, account: str, region: str) -> None:
        if snapshots := self.snapshots.get((account, region)):
            snapshots.append((time.monotonic(), uses(account, region)))

    def at(self, account: str, region: str, instant: float) -> dict[str, list[str]]:
        snapshots = self.snapshots.get((account, region))
        if not snapshots:
            return current_uses(account, region)
        return [found for when, found in snapshots if when <= instant][-1]


history = History()
_current: dict[tuple[str, str], tuple[int, dict[str, list[str]]]] = {}


def current_uses(account: str, region: str) -> dict[str, list[str]]:
    """`uses`, computed once per revision of the cloud."""
    revision, found = _current.get((account, region), (-1, {}))
    if revision != state.revision:
        found = uses(account, region)
        _current[account, region] = (state.revision, found)
    return found


def uses(account: str, region: str) -> dict[str, list[str]]:
    """The load balancers that hold a certificate, by the certificate's ARN."""
    found: dict[str, list[str]] = {}

    def use(certificate: str, balancer: str) -> None:
        users = found.setdefault(certificate, [])
        if balancer not in users:
            users.append(balancer)

    for balancer in elbv2_backends[account][region].load_balancers.values():
        for listener in balancer.listeners.values():
            for arn in [*listener.certificates, *listener.sni]:
                use(arn, balancer.arn)
    for balancer in elb_backends[account][region].load_balancers.values():
        name = f"arn:aws:elasticloadbalancing:{region}:{account}:loadbalancer/{balancer.name}"
        for listener in balancer.listeners:
            if listener.ssl_certificate_id:
                use(listener.ssl_certificate_id, name)
    return found


def in_use_by(certificate: str, before_delete: bool = False) -> list[str]:
    """The `InUseBy` of a certificate, with the delay of `inUseLagSeconds`.

    A certificate can be deleted only when it is unused both in truth and in ACM's view.
    """
    _, _, _, region, account, _ = certificate.split(":", 5)
    lag = options.get("inUseLagSeconds")
    if not lag:
        return current_uses(account, region).get(certificate, [])
    seen = history.at(account, region, time.monotonic() - lag).get(certificate, [])
    if before_delete:
        return seen or current_uses(account, region).get(certificate, [])
    return seen


# Which certificates a listener may be given


def sole_certificate(certificates: list[dict[str, Any]]) -> str:
    """The ARN in a list that must hold exactly one certificate, as `Certificates` always must."""
    if len(certificates) != 1:
        raise ValidationError(
            "Exactly '1' certificate ARN must be specified, "
            f"but '{len(certificates)}' were specified"
        )
    certificate = certificates[0]
    if certificate.get("IsDefault") is not None:
        raise ValidationError("You cannot set the isDefault parameter for a certificate.")
    arn = certificate.get("CertificateArn")
    if not arn or not CERTIFICATE_ARN.fullmatch(arn):
        raise ValidationError(f"Certificate ARN '{arn}' is not valid")
    return arn


def check_exists(backend: ELBv2Backend, arn: str) -> None:
    """The certificate exists, in the listener's region, and load balancers know it already."""
    import acm  # which imports this module

    not_found = ELBClientError("CertificateNotFound", f"Certificate '{arn}' not found")
    _, _, service, region, account, _ = arn.split(":", 5)
    if service == "iam":
        if iam_backends[account][backend.partition].get_certificate_by_arn(arn) is None:
            raise not_found
        return
    bundle = acm.lookup(arn)
    if bundle is None or region != backend.region_name or account != backend.account_id:
        raise not_found
    delay = options.get("unknownCertificate")
    if delay and isinstance(bundle, acm.Bundle):
        bundle.asked_for += 1
        age = time.monotonic() - bundle.created
        if bundle.asked_for <= delay.get("calls", 0) or age < delay.get("seconds", 0):
            if delay.get("code", "CertificateNotFound") == "CertificateNotFound":
                raise not_found
            raise ELBClientError(
                delay["code"],
                f"The certificate '{arn}' must have a fully-qualified domain name, "
                "a supported signature, and a supported key size.",
            )


def find_listener(backend: ELBv2Backend, arn: Any) -> FakeListener:
    if not isinstance(arn, str) or not LISTENER_ARN.fullmatch(arn):
        raise ValidationError(f"'{arn}' is not a valid listener ARN")
    for balancer in backend.load_balancers.values():
        if arn in balancer.listeners:
            return balancer.listeners[arn]
    raise ListenerNotFoundError()


def secure_listener(backend: ELBv2Backend, arn: Any) -> FakeListener:
    listener = find_listener(backend, arn)
    if listener.protocol not in SECURE:
        raise ELBClientError(
            "OperationNotPermitted", f"A {listener.protocol} listener has no certificates"
        )
    return listener


def page(response: ELBV2Response, items: list[Any]) -> tuple[list[Any], str | None]:
    """One page of a listing, and the marker of the next."""
    asked = response._get_int_param("PageSize", 400)
    if not 1 <= asked <= 400:
        raise ValidationError("PageSize must be between 1 and 400")
    size = min(asked, options.get("describePage"))
    marker = response._get_param("Marker")
    if marker and not re.fullmatch(r"after-\d+", marker):
        raise ValidationError(f"Invalid marker '{marker}'")
    start = int(marker.removeprefix("after-")) if marker else 0
    more = len(items) > start + size
    return items[start : start + size], f"after-{start + size}" if more else None


# The operations


def do_create_listener(self: ELBV2Response) -> ActionResult:
    backend = self.elbv2_backend
    protocol = self._get_param("Protocol")
    certificates = self._get_param("Certificates", [])
    balancer = backend.load_balancers.get(self._get_param("LoadBalancerArn"))
    if balancer is None:
        raise LoadBalancerNotFoundError()
    check_certificates(backend, protocol, certificates, has_default=False)
    port = str(self._get_param("Port"))
    if any(str(listener.port) == port for listener in balancer.listeners.values()):
        raise DuplicateListenerError()
    check_policy(self._get_param("SslPolicy"))
    for action in self._get_param("DefaultActions", []):
        group = action.get("TargetGroupArn")
        if group and group not in backend.target_groups:
            raise ActionTargetGroupNotFoundError(group)
    return _create_listener(self)


def check_policy(policy: str | None) -> None:
    if policy is not None and policy not in SSL_POLICIES:
        raise ELBClientError("SSLPolicyNotFound", f"Policy {policy} not found")


def check_certificates(
    backend: ELBv2Backend, protocol: str, certificates: list[dict[str, Any]], has_default: bool
) -> None:
    if protocol in SECURE:
        if certificates:
            check_exists(backend, sole_certificate(certificates))
        elif not has_default:
            raise ValidationError(f"A certificate must be specified for {protocol} listeners")
    elif certificates:
        raise ValidationError(f"Certificates cannot be specified for {protocol} listeners")


def do_modify_listener(self: ELBV2Response) -> ActionResult:
    """Replaces the default certificate. The list and all fields that are not given stay."""
    backend = self.elbv2_backend
    listener = find_listener(backend, self._get_param("ListenerArn"))
    protocol = self._get_param("Protocol") or listener.protocol
    certificates = self._get_param("Certificates", [])
    stays_secure = protocol in SECURE and listener.protocol in SECURE
    check_certificates(
        backend, protocol, certificates, has_default=stays_secure and bool(listener.certificates)
    )
    policy = self._get_param("SslPolicy")
    check_policy(policy)
    if protocol not in SECURE:
        listener.certificates, listener.sni = [], OrderedDict()
    elif certificates:
        listener.certificates = [certificates[0]["CertificateArn"]]
    listener.certificate = listener.certificates[0] if listener.certificates else None
    listener.protocol = protocol  # moto's own check of it does not know TLS
    backend.modify_listener(
        listener.arn,
        self._get_param("Port"),
        None,
        policy,
        [],
        self._get_param("DefaultActions", []),
    )
    return ActionResult({"Listeners": [listener]})


def do_describe_listeners(self: ELBV2Response) -> ActionResult:
    backend = self.elbv2_backend
    balancer_arn = self._get_param("LoadBalancerArn")
    arns = self._get_param("ListenerArns", [])
    if bool(balancer_arn) == bool(arns):
        raise ValidationError("You must specify either listener ARNs or a load balancer ARN")
    if balancer_arn:
        listeners = backend.describe_listeners(balancer_arn, [])
    else:
        listeners = [find_listener(backend, arn) for arn in arns]
    shown, marker = page(self, listeners)
    return ActionResult({"Listeners": shown, "NextMarker": marker})


def do_describe_rules(self: ELBV2Response) -> ActionResult:
    """In order of priority, the default last."""
    backend = self.elbv2_backend
    listener_arn = self._get_param("ListenerArn")
    if listener_arn:
        find_listener(backend, listener_arn)
    rules = backend.describe_rules(listener_arn, self._get_param("RuleArns"))
    shown, marker = page(self, sorted(rules, key=priority))
    return ActionResult({"Rules": shown, "NextMarker": marker})


def priority(rule: Any) -> int:
    return 1_000_000 if rule.priority == "default" else int(rule.priority)


def do_describe_load_balancers(self: ELBV2Response) -> ActionResult:
    backend = self.elbv2_backend
    arns, names = self._get_param("LoadBalancerArns", []), self._get_param("Names", [])
    there = backend.load_balancers.values()
    for wanted, field in [(arns, "arn"), (names, "name")]:
        if set(wanted) - {getattr(balancer, field) for balancer in there}:
            raise LoadBalancerNotFoundError()
    shown, marker = page(self, backend.describe_load_balancers(arns, names))
    return ActionResult({"LoadBalancers": shown, "NextMarker": marker})


def do_describe_listener_certificates(self: ELBV2Response) -> ActionResult:
    listener = find_listener(self.elbv2_backend, self._get_param("ListenerArn"))
    seen = time.monotonic() - options.get("listenerCertificatesLagSeconds")
    certificates = [{"CertificateArn": arn, "IsDefault": True} for arn in listener.certificates]
    certificates += [
        {"CertificateArn": arn, "IsDefault": False}
        for arn, added in listener.sni.items()
        if added <= seen
    ]
    shown, marker = page(self, certificates)
    return ActionResult({"Certificates": shown, "NextMarker": marker})


def do_add_listener_certificates(self: ELBV2Response) -> ActionResult:
    backend = self.elbv2_backend
    listener = secure_listener(backend, self._get_param("ListenerArn"))
    arn = sole_certificate(self._get_param("Certificates", []))
    check_exists(backend, arn)
    if arn not in listener.sni:
        balancer = backend.load_balancers[listener.load_balancer_arn]
        held = sum(len(other.sni) for other in balancer.listeners.values())
        if held >= options.get("listenerCertificates"):
            raise TooManyCertificatesError()
        listener.sni[arn] = time.monotonic()
    return ActionResult({"Certificates": [{"CertificateArn": arn, "IsDefault": False}]})


def do_remove_listener_certificates(self: ELBV2Response) -> ActionResult:
    listener = secure_listener(self.elbv2_backend, self._get_param("ListenerArn"))
    arn = sole_certificate(self._get_param("Certificates", []))
    if arn in listener.sni:
        del listener.sni[arn]
    elif arn in listener.certificates:
        raise ELBClientError("OperationNotPermitted", "Default certificate cannot be removed")
    elif code := options.get("removingUnlisted"):
        raise ELBClientError(code, f"Certificate '{arn}' not found")
    return EmptyResult()


# Installing


def new_listener(self: FakeListener, *args: Any, **kwargs: Any) -> None:
    _new_listener(self, *args, **kwargs)
    self.sni = OrderedDict()


def create_load_balancer(self: ELBv2Backend, *args: Any, **kwargs: Any) -> FakeLoadBalancer:
    """moto gives a network load balancer an application one's ARN, and has no default scheme."""
    kwargs["scheme"] = kwargs.get("scheme") or "internet-facing"
    balancer = _create_load_balancer(self, *args, **kwargs)
    if balancer.type == "network":
        application = balancer.arn
        balancer.arn = application.replace(":loadbalancer/app/", ":loadbalancer/net/")
        self.load_balancers[balancer.arn] = self.load_balancers.pop(application)
        self.tagging_service.copy_tags(application, balancer.arn)
    return balancer


def remember_uses(operation: Any) -> Any:
    """Wraps an operation that changes listeners."""

    def changed(self: Any) -> Any:
        history.before(self.current_account, self.region)
        result = operation(self)
        history.after(self.current_account, self.region)
        return result

    return changed


_new_listener = FakeListener.__init__
_create_load_balancer = ELBv2Backend.create_load_balancer
_create_listener = ELBV2Response.create_listener


def install() -> None:
    FakeListener.__init__ = new_listener  # type: ignore[method-assign]
    ELBv2Backend.create_load_balancer = create_load_balancer  # type: ignore[method-assign]
    models.register_certificate = lambda **_: None  # this module judges existence and use
    operations = {
        "create_listener": do_create_listener,
        "modify_listener": do_modify_listener,
        "describe_listeners": do_describe_listeners,
        "describe_rules": do_describe_rules,
        "describe_load_balancers": do_describe_load_balancers,
        "describe_listener_certificates": do_describe_listener_certificates,
        "add_listener_certificates": do_add_listener_certificates,
        "remove_listener_certificates": do_remove_listener_certificates,
        "delete_listener": ELBV2Response.delete_listener,
        "delete_load_balancer": ELBV2Response.delete_load_balancer,
    }
    reading = ("describe",)
    for name, operation in operations.items():
        changing = not name.startswith(reading)
        setattr(ELBV2Response, name, remember_uses(operation) if changing else operation)
