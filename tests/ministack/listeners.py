"""Elastic Load Balancing (v2) as documented: listeners, rules, target groups, and who uses a
certificate.

ministack keeps a listener's default certificate and has no list beside it. Here the list is the
record's `_sni`, a dict of ARN and the time when it was added. The rules are those of
tests/aws/elbv2.py.
"""

from __future__ import annotations

import re
import time
from typing import Any, Callable, Iterator

import options
from ministack.core.responses import get_account_id, get_region
from ministack.services import alb

import functions
import revision

Params = dict[str, Any]
Response = tuple[int, dict[str, str], bytes]

CERTIFICATE_ARN = re.compile(r"arn:[\w-]+:(acm:[\w-]+|iam:):\d{12}:.+")
LISTENER_ARN = re.compile(r"arn:[\w-]+:elasticloadbalancing:[\w-]+:\d{12}:listener/.+")
SECURE = ("HTTPS", "TLS")
SSL_POLICY = re.compile(
    r"ELBSecurityPolicy-(20\d\d-\d\d|TLS-1-[0-3]-[\w-]+|FS-[\w-]+"
    r"|TLS13-1-[0-3](-[\w-]+)?-20\d\d-\d\d)"
)


class Refused(Exception):
    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.code = code


def invalid(message: str) -> Refused:
    return Refused("ValidationError", message)


# Who uses a certificate


def balancers() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every load balancer of every account and region."""
    for (account, region, _), record in list(alb._lbs._data.items()):
        yield account, region, record


def listeners_of(arn: str) -> list[dict[str, Any]]:
    return [one for one in list(alb._listeners._data.values()) if one["LoadBalancerArn"] == arn]


def rules_of(listener: str) -> list[dict[str, Any]]:
    found = [rule for rule in list(alb._rules._data.values()) if rule["ListenerArn"] == listener]
    return sorted(found, key=alb._rule_sort_key)


def held(listener: dict[str, Any]) -> list[str]:
    """The default certificate and the list."""
    return [*listener.get("Certificates", []), *listener.get("_sni", {})]


def in_use_by(certificate: str, before_delete: bool = False) -> list[str]:
    """The ARNs of the load balancers that hold a certificate, for tests/aws/acm.py."""
    return [
        record["LoadBalancerArn"]
        for _, _, record in balancers()
        if any(certificate in held(one) for one in listeners_of(record["LoadBalancerArn"]))
    ]


# What a request asks


def members(params: Params, prefix: str) -> list[str]:
    return alb._parse_member_list(params, prefix)


def certificates_asked(params: Params) -> list[dict[str, str]]:
    found, number = [], 1
    while True:
        base = f"Certificates.member.{number}"
        if not any(name.startswith(f"{base}.") for name in params):
            return found
        found.append(
            {key: alb._p(params, f"{base}.{key}") for key in ("CertificateArn", "IsDefault")}
        )
        number += 1


def sole_certificate(params: Params) -> str:
    """The ARN in a list that must hold exactly one certificate, as `Certificates` always must."""
    asked = certificates_asked(params)
    if len(asked) != 1:
        raise invalid(
            f"Exactly '1' certificate ARN must be specified, but '{len(asked)}' were specified"
        )
    if asked[0]["IsDefault"]:
        raise invalid("You cannot set the isDefault parameter for a certificate.")
    arn = asked[0]["CertificateArn"]
    if not CERTIFICATE_ARN.fullmatch(arn):
        raise invalid(f"Certificate ARN '{arn}' is not valid")
    return arn


def check_exists(arn: str) -> None:
    import certificates  # which imports this module

    if not certificates.exists(arn, get_account_id(), get_region()):
        raise Refused("CertificateNotFound", f"Certificate '{arn}' not found")


def check_certificates(params: Params, protocol: str, has_default: bool) -> None:
    if protocol in SECURE:
        if certificates_asked(params):
            check_exists(sole_certificate(params))
        elif not has_default:
            raise invalid(f"A certificate must be specified for {protocol} listeners")
    elif certificates_asked(params):
        raise invalid(f"Certificates cannot be specified for {protocol} listeners")
    policy = alb._p(params, "SslPolicy")
    if policy and not SSL_POLICY.fullmatch(policy):
        raise Refused("SSLPolicyNotFound", f"Policy {policy} not found")


def check_actions(params: Params, prefix: str, balancer: str) -> None:
    for action in alb._parse_actions(params, prefix):
        group = action.get("TargetGroupArn")
        if group and group not in alb._tgs:
            raise Refused("TargetGroupNotFound", f"Target group '{group}' not found")
        if group and set(users_of(group)) - {balancer}:
            message = (
                f"The target group '{group}' cannot be associated with more than one load balancer"
            )
            raise Refused("TargetGroupAssociationLimit", message)


def users_of(group: str) -> list[str]:
    """The load balancers that forward to a target group."""
    return list(
        dict.fromkeys(
            listener["LoadBalancerArn"]
            for listener in list(alb._listeners._data.values())
            for rule in rules_of(listener["ListenerArn"])
            if any(action.get("TargetGroupArn") == group for action in rule["Actions"])
        )
    )


def find_balancer(arn: str) -> dict[str, Any]:
    if arn not in alb._lbs:
        raise Refused("LoadBalancerNotFound", f"Load balancer '{arn}' not found")
    return alb._lbs[arn]


def find_listener(arn: str) -> dict[str, Any]:
    if not LISTENER_ARN.fullmatch(arn or ""):
        raise invalid(f"'{arn}' is not a valid listener ARN")
    if arn not in alb._listeners:
        raise Refused("ListenerNotFound", f"Listener '{arn}' not found")
    return alb._listeners[arn]


def secure_listener(arn: str) -> dict[str, Any]:
    listener = find_listener(arn)
    if listener["Protocol"] not in SECURE:
        raise Refused(
            "OperationNotPermitted", f"A {listener['Protocol']} listener has no certificates"
        )
    return listener


def page(params: Params, items: list[str]) -> tuple[str, str]:
    """One page of a listing as XML, and the element that names the next."""
    asked = alb._p(params, "PageSize")
    if asked and not 1 <= int(asked) <= 400:
        raise invalid("PageSize must be between 1 and 400")
    size = min(int(asked or 400), options.get("describePage"))
    marker = alb._p(params, "Marker")
    if marker and not re.fullmatch(r"after-\d+", marker):
        raise invalid(f"Invalid marker '{marker}'")
    start = int(marker.removeprefix("after-")) if marker else 0
    following = (
        f"<NextMarker>after-{start + size}</NextMarker>" if len(items) > start + size else ""
    )
    return "".join(items[start : start + size]), following


def listing(params: Params, action: str, element: str, items: list[str]) -> Response:
    shown, following = page(params, items)
    return alb._xml(200, action, f"<{element}>{shown}</{element}>{following}")


# The operations


def create_load_balancer(params: Params) -> Response:
    name = alb._p(params, "Name")
    if not re.fullmatch(r"(?!internal-)[A-Za-z0-9]([A-Za-z0-9-]{0,30}[A-Za-z0-9])?", name):
        raise invalid(f"The load balancer name '{name}' is not valid")
    return original["CreateLoadBalancer"](params)


def describe_load_balancers(params: Params) -> Response:
    arns, names = members(params, "LoadBalancerArns"), members(params, "Names")
    there = list(alb._lbs.values())
    for wanted, field in ((arns, "LoadBalancerArn"), (names, "LoadBalancerName")):
        if set(wanted) - {one[field] for one in there}:
            raise Refused("LoadBalancerNotFound", f"Load balancers '{wanted}' not found")
        there = [one for one in there if not wanted or one[field] in wanted]
    return listing(
        params, "DescribeLoadBalancers", "LoadBalancers", [alb._lb_xml(one) for one in there]
    )


def delete_load_balancer(params: Params) -> Response:
    """Deletes its listeners too."""
    arn = alb._p(params, "LoadBalancerArn")
    attributes = {one["Key"]: one["Value"] for one in alb._lb_attrs.get(arn, [])}
    if attributes.get("deletion_protection.enabled") == "true":
        raise Refused(
            "OperationNotPermitted",
            f"Load balancer '{arn}' cannot be deleted: deletion protection is enabled",
        )
    for listener in listeners_of(arn):
        original["DeleteListener"]({"ListenerArn": listener["ListenerArn"]})
    return original["DeleteLoadBalancer"](params)


def create_listener(params: Params) -> Response:
    balancer = find_balancer(alb._p(params, "LoadBalancerArn"))
    protocol, port = alb._p(params, "Protocol"), alb._p(params, "Port")
    if protocol not in ("HTTP", "HTTPS") and balancer["Type"] == "application":
        raise invalid("The protocol of an Application Load Balancer's listener is HTTP or HTTPS")
    if not port.isdigit() or not 1 <= int(port) <= 65535:
        raise invalid("Port must be between 1 and 65535")
    check_certificates(params, protocol, has_default=False)
    check_actions(params, "DefaultActions", balancer["LoadBalancerArn"])
    if not alb._parse_actions(params, "DefaultActions"):
        raise invalid("A listener must have default actions")
    if any(one["Port"] == int(port) for one in listeners_of(balancer["LoadBalancerArn"])):
        raise Refused(
            "DuplicateListener", "A listener already exists on this port for this load balancer"
        )
    return original["CreateListener"](params)


def modify_listener(params: Params) -> Response:
    """Replaces the default certificate. The list and all fields that are not given stay."""
    listener = find_listener(alb._p(params, "ListenerArn"))
    protocol = alb._p(params, "Protocol") or listener["Protocol"]
    stays = protocol in SECURE and listener["Protocol"] in SECURE
    check_certificates(params, protocol, has_default=stays and bool(listener.get("Certificates")))
    check_actions(params, "DefaultActions", listener["LoadBalancerArn"])
    port = alb._p(params, "Port")
    others = [one for one in listeners_of(listener["LoadBalancerArn"]) if one is not listener]
    if port and any(one["Port"] == int(port) for one in others):
        raise Refused(
            "DuplicateListener", "A listener already exists on this port for this load balancer"
        )
    if protocol not in SECURE:
        listener.pop("_sni", None)
    return original["ModifyListener"](params)


def describe_listeners(params: Params) -> Response:
    balancer, arns = alb._p(params, "LoadBalancerArn"), members(params, "ListenerArns")
    if bool(balancer) == bool(arns):
        raise invalid("You must specify either listener ARNs or a load balancer ARN")
    if balancer:
        found = listeners_of(find_balancer(balancer)["LoadBalancerArn"])
    else:
        found = [find_listener(arn) for arn in arns]
    return listing(
        params, "DescribeListeners", "Listeners", [alb._listener_xml(one) for one in found]
    )


def describe_listener_certificates(params: Params) -> Response:
    listener = find_listener(alb._p(params, "ListenerArn"))
    shown = [(arn, True) for arn in listener.get("Certificates", [])]
    shown += [(arn, False) for arn in listener.get("_sni", {})]
    items = [certificate_xml(arn, default) for arn, default in shown]
    return listing(params, "DescribeListenerCertificates", "Certificates", items)


def certificate_xml(arn: str, default: bool) -> str:
    is_default = str(default).lower()
    return (
        f"<member><CertificateArn>{arn}</CertificateArn>"
        f"<IsDefault>{is_default}</IsDefault></member>"
    )


def add_listener_certificates(params: Params) -> Response:
    listener = secure_listener(alb._p(params, "ListenerArn"))
    arn = sole_certificate(params)
    check_exists(arn)
    listed = listener.setdefault("_sni", {})
    if arn not in listed:
        count = sum(len(one.get("_sni", {})) for one in listeners_of(listener["LoadBalancerArn"]))
        if count >= options.get("listenerCertificates"):
            raise Refused(
                "TooManyCertificates",
                "You've reached the limit on the number of certificates per load balancer",
            )
        listed[arn] = time.time()
    return alb._xml(
        200,
        "AddListenerCertificates",
        f"<Certificates>{certificate_xml(arn, False)}</Certificates>",
    )


def remove_listener_certificates(params: Params) -> Response:
    listener = secure_listener(alb._p(params, "ListenerArn"))
    arn = sole_certificate(params)
    listed = listener.get("_sni", {})
    if arn in listed:
        del listed[arn]
    elif arn in listener.get("Certificates", []):
        raise Refused("OperationNotPermitted", "Default certificate cannot be removed")
    elif code := options.get("removingUnlisted"):
        raise Refused(code, f"Certificate '{arn}' not found")
    return alb._empty("RemoveListenerCertificates")


def create_rule(params: Params) -> Response:
    listener = find_listener(alb._p(params, "ListenerArn"))
    check_priority(listener["ListenerArn"], alb._p(params, "Priority"))
    check_actions(params, "Actions", listener["LoadBalancerArn"])
    if not alb._parse_conditions(params) or not alb._parse_actions(params, "Actions"):
        raise invalid("A rule must have conditions and actions")
    return original["CreateRule"](params)


def modify_rule(params: Params) -> Response:
    rule = alb._rules.get(alb._p(params, "RuleArn"))
    if rule is not None:
        check_actions(params, "Actions", find_listener(rule["ListenerArn"])["LoadBalancerArn"])
    return original["ModifyRule"](params)


def check_priority(listener: str, priority: str, moved: tuple[str, ...] = ()) -> None:
    if not priority.isdigit() or not 1 <= int(priority) <= 50_000:
        raise invalid(f"Priority '{priority}' must be between 1 and 50000")
    for rule in rules_of(listener):
        if rule["Priority"] == priority and rule["RuleArn"] not in moved:
            raise Refused("PriorityInUse", f"Priority '{priority}' is currently in use")


def set_rule_priorities(params: Params) -> Response:
    asked, number = {}, 1
    while arn := alb._p(params, f"RulePriorities.member.{number}.RuleArn"):
        asked[arn] = alb._p(params, f"RulePriorities.member.{number}.Priority")
        number += 1
    for arn, priority in asked.items():
        rule = alb._rules.get(arn)
        if rule is None:
            raise Refused("RuleNotFound", f"Rule '{arn}' not found")
        check_priority(rule["ListenerArn"], priority, tuple(asked))
    if len(set(asked.values())) != len(asked):
        raise Refused("PriorityInUse", "A priority was given twice")
    return original["SetRulePriorities"](params)


def describe_rules(params: Params) -> Response:
    """In order of priority, the default last."""
    listener, arns = alb._p(params, "ListenerArn"), members(params, "RuleArns")
    if bool(listener) == bool(arns):
        raise invalid("You must specify either a listener ARN or rule ARNs")
    if listener:
        found = rules_of(find_listener(listener)["ListenerArn"])
    else:
        if missing := [arn for arn in arns if arn not in alb._rules]:
            raise Refused("RuleNotFound", f"Rule '{missing[0]}' not found")
        found = [alb._rules[arn] for arn in arns]
    return listing(params, "DescribeRules", "Rules", [alb._rule_xml(rule) for rule in found])


def delete_rule(params: Params) -> Response:
    arn = alb._p(params, "RuleArn")
    if arn not in alb._rules:
        raise Refused("RuleNotFound", f"Rule '{arn}' not found")
    return original["DeleteRule"](params)


def create_target_group(params: Params) -> Response:
    name = alb._p(params, "Name")
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9-]{0,30}[A-Za-z0-9])?", name):
        raise invalid(f"The target group name '{name}' is not valid")
    if alb._p(params, "TargetType") != "lambda":
        return original["CreateTargetGroup"](params)
    for field in ("Protocol", "Port", "VpcId"):
        if alb._p(params, field):
            raise invalid(
                f"{field} cannot be specified for target groups with target type 'lambda'"
            )
    answer = original["CreateTargetGroup"](
        {"HealthCheckEnabled": "false", "HealthCheckIntervalSeconds": "35", **params}
    )
    record = next(one for one in alb._tgs.values() if one["TargetGroupName"] == name)
    alb._tg_attrs[record["TargetGroupArn"]] = [
        {"Key": "lambda.multi_value_headers.enabled", "Value": "false"}
    ]
    return answer


def target_group_xml(group: dict[str, Any]) -> str:
    """The load balancers that forward to it come from listeners and rules; a Lambda group has no
    port."""
    text = _target_group_xml({**group, "LoadBalancerArns": users_of(group["TargetGroupArn"])})
    if group["TargetType"] == "lambda":
        for field in ("Protocol", "Port", "VpcId", "HealthCheckProtocol", "HealthCheckPort"):
            text = re.sub(f"<{field}>[^<]*</{field}>", "", text)
    return text


def delete_target_group(params: Params) -> Response:
    arn = alb._p(params, "TargetGroupArn")
    if users_of(arn):
        raise Refused(
            "ResourceInUse", f"Target group '{arn}' is currently in use by a listener or a rule"
        )
    return original["DeleteTargetGroup"](params)


def describe_target_groups(params: Params) -> Response:
    arns, names = members(params, "TargetGroupArns"), members(params, "Names")
    balancer = alb._p(params, "LoadBalancerArn")
    there = list(alb._tgs.values())
    for wanted, field in ((arns, "TargetGroupArn"), (names, "TargetGroupName")):
        if set(wanted) - {one[field] for one in there}:
            raise Refused("TargetGroupNotFound", "One or more target groups not found")
        there = [one for one in there if not wanted or one[field] in wanted]
    items = [target_group_xml(one) for one in there]
    if balancer:
        items = [text for text in items if f"<member>{balancer}</member>" in text]
    return listing(params, "DescribeTargetGroups", "TargetGroups", items)


def register_targets(params: Params) -> Response:
    arn = alb._p(params, "TargetGroupArn")
    group = alb._tgs.get(arn)
    if group and group["TargetType"] == "lambda":
        asked = [target["Id"] for target in alb._parse_targets_param(params)]
        there = [target["Id"] for target in alb._targets.get(arn, [])]
        if len({*asked, *there}) > 1:
            raise Refused("TooManyTargets", "A target group of type 'lambda' takes one target")
        for function in asked:
            if not functions.service_may_invoke(
                function, "elasticloadbalancing.amazonaws.com", arn
            ):
                raise Refused(
                    "AccessDenied",
                    "elasticloadbalancing principal does not have permission to invoke "
                    f"{function} from target group {arn}",
                )
    return original["RegisterTargets"](params)


# Installing

OPERATIONS: dict[str, Callable[[Params], Response]] = {
    "CreateLoadBalancer": create_load_balancer,
    "DescribeLoadBalancers": describe_load_balancers,
    "DeleteLoadBalancer": delete_load_balancer,
    "CreateListener": create_listener,
    "ModifyListener": modify_listener,
    "DescribeListeners": describe_listeners,
    "DescribeListenerCertificates": describe_listener_certificates,
    "AddListenerCertificates": add_listener_certificates,
    "RemoveListenerCertificates": remove_listener_certificates,
    "CreateRule": create_rule,
    "ModifyRule": modify_rule,
    "SetRulePriorities": set_rule_priorities,
    "DescribeRules": describe_rules,
    "DeleteRule": delete_rule,
    "CreateTargetGroup": create_target_group,
    "DescribeTargetGroups": describe_target_groups,
    "DeleteTargetGroup": delete_target_group,
    "RegisterTargets": register_targets,
}

original: dict[str, Callable[[Params], Response]] = dict(alb._ACTION_MAP)
_target_group_xml = alb._tg_xml


def guarded(action: str, operation: Callable[[Params], Response]) -> Callable[[Params], Response]:
    def answered(params: Params) -> Response:
        try:
            answer = operation(params)
        except Refused as refusal:
            return alb._error(refusal.code, str(refusal))
        if not action.startswith("Describe"):
            revision.changed()
        return answer

    return answered


def install() -> None:
    for action, operation in {**original, **OPERATIONS}.items():
        alb._ACTION_MAP[action] = guarded(action, operation)
    alb._tg_xml = target_group_xml
