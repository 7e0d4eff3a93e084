"""`/_local/...`: the requests of tests and of the load balancer's stand-in. See README.md."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import parse_qs

from moto.core.base_backend import BackendDict
from moto.core.model_instances import reset_model_data
from moto.elbv2.models import FakeListener, FakeLoadBalancer, elbv2_backends

import acm
import elbv2
import options
import state
from gateway import Gateway
from server import Request, Response

PREFIX = "/_local/"


class Admin:
    def __init__(self, gateway: Gateway):
        self.gateway = gateway

    def handle(self, request: Request) -> Response:
        query = {name: values[-1] for name, values in parse_qs(request.query).items()}
        route = f"{request.method} {request.path.removeprefix(PREFIX)}"
        handlers = {
            "GET faults": self.faults,
            "POST faults": self.add_faults,
            "DELETE faults": self.clear_faults,
            "GET requests": self.requests,
            "DELETE requests": self.clear_requests,
            "GET losses": self.losses,
            "DELETE losses": self.clear_losses,
            "GET options": lambda query, body: options.change({}),
            "POST options": lambda query, body: options.change(body or {}),
            "POST reset": self.reset,
            "GET revision": lambda query, body: {"revision": state.revision},
            "GET load-balancer": self.load_balancer,
            "GET load-balancers": self.load_balancers,
        }
        if route not in handlers:
            return answer(404, {"error": f"no {route}; there are {', '.join(handlers)}"})
        try:
            body = json.loads(request.body) if request.body else None
            return answer(200, handlers[route](query, body))
        except LookupError as error:
            return answer(404, {"error": str(error)})
        except (ValueError, TypeError) as error:
            return answer(400, {"error": str(error)})

    def faults(self, query: dict[str, str], _: Any) -> Any:
        if "fired" in query:
            self.gateway.faults.wait_fired(int(query["fired"]), float(query.get("seconds", "30")))
        return {"faults": self.gateway.faults.state()}

    def add_faults(self, _: Any, body: Any) -> Any:
        rules = body if isinstance(body, list) else [body]
        return {"ids": self.gateway.faults.add(rules)}

    def clear_faults(self, *_: Any) -> Any:
        self.gateway.faults.clear()
        return {}

    def requests(self, query: dict[str, str], _: Any) -> Any:
        since = int(query.get("since", "0"))
        found = self.gateway.recorder.since(since)
        return {"requests": found, "next": found[-1]["number"] if found else since}

    def clear_requests(self, *_: Any) -> Any:
        self.gateway.recorder.clear()
        return {}

    def losses(self, *_: Any) -> Any:
        with state.lock:
            return {"losses": list(self.gateway.losses.entries)}

    def clear_losses(self, *_: Any) -> Any:
        with state.lock:
            self.gateway.losses.entries.clear()
        return {}

    def reset(self, *_: Any) -> Any:
        with state.lock:
            self.gateway.faults.clear()
            self.gateway.rates.reset()
            self.gateway.recorder.clear()
            self.gateway.losses.entries.clear()
            options.reset()
            elbv2.history.snapshots.clear()
            forget_all()
            state.changed()
        return {}

    def load_balancers(self, *_: Any) -> Any:
        with state.lock:
            return {
                "loadBalancers": [
                    {"arn": balancer.arn, "name": balancer.name, "dnsName": balancer.dns_name}
                    for regions in elbv2_backends.values()
                    for backend in list(regions.values())
                    for balancer in backend.load_balancers.values()
                ]
            }

    def load_balancer(self, query: dict[str, str], _: Any) -> Any:
        with state.lock:
            return describe_balancer(find_balancer(query["arn"]))


def forget_all() -> None:
    """Empties moto, except the default networks, which take it long to create again."""
    for service in BackendDict._instances:
        if service.service_name != "ec2":
            for account in service.values():
                account.reset()
    reset_model_data()


def answer(status: int, value: Any) -> Response:
    return Response(status, {"Content-Type": "application/json"}, json.dumps(value).encode())


def find_balancer(arn: str) -> FakeLoadBalancer:
    if match := re.fullmatch(
        r"arn:[\w-]+:elasticloadbalancing:([\w-]+):(\d+):loadbalancer/.+", arn
    ):
        region, account = match.groups()
        if balancer := elbv2_backends[account][region].load_balancers.get(arn):
            return balancer
    raise LookupError(f"no load balancer {arn}")


def describe_balancer(balancer: FakeLoadBalancer) -> dict[str, Any]:
    listeners = list(balancer.listeners.values())
    attached = dict.fromkeys(
        arn for listener in listeners for arn in [*listener.certificates, *listener.sni]
    )
    return {
        "revision": state.revision,
        "arn": balancer.arn,
        "name": balancer.name,
        "dnsName": balancer.dns_name,
        "type": balancer.type,
        "scheme": balancer.scheme,
        "listeners": [describe_listener(balancer, listener) for listener in listeners],
        "certificates": {
            arn: describe_certificate(bundle) for arn in attached if (bundle := acm.lookup(arn))
        },
    }


def describe_listener(balancer: FakeLoadBalancer, listener: FakeListener) -> dict[str, Any]:
    return {
        "arn": listener.arn,
        "port": int(listener.port),
        "protocol": listener.protocol,
        "defaultCertificate": listener.certificates[0] if listener.certificates else None,
        "sniCertificates": list(listener.sni),
        "rules": [
            {
                "arn": rule.arn,
                "priority": rule.priority if rule.priority == "default" else int(rule.priority),
                "conditions": [describe_condition(condition) for condition in rule.conditions],
                "actions": [describe_action(balancer, action.data) for action in rule.actions],
            }
            for rule in sorted(listener.rules.values(), key=elbv2.priority)
        ],
    }


def describe_condition(condition: dict[str, Any]) -> dict[str, Any]:
    field = condition["Field"]
    config = {
        "path-pattern": "PathPatternConfig",
        "host-header": "HostHeaderConfig",
        "http-request-method": "HttpRequestMethodConfig",
        "source-ip": "SourceIpConfig",
        "http-header": "HttpHeaderConfig",
        "query-string": "QueryStringConfig",
    }[field]
    given = condition.get(config) or {}
    found = {"field": field, "values": list(given.get("Values") or condition.get("Values") or [])}
    if "HttpHeaderName" in given:
        found["header"] = given["HttpHeaderName"]
    return found


def describe_action(balancer: FakeLoadBalancer, action: dict[str, Any]) -> dict[str, Any]:
    kind = action["Type"]
    if kind == "redirect":
        config = action["RedirectConfig"]
        names = ("Protocol", "Host", "Port", "Path", "Query", "StatusCode")
        return {"type": kind, **{name[0].lower() + name[1:]: config.get(name) for name in names}}
    if kind == "fixed-response":
        config = action["FixedResponseConfig"]
        names = ("StatusCode", "ContentType", "MessageBody")
        return {"type": kind, **{name[0].lower() + name[1:]: config.get(name) for name in names}}
    if kind != "forward":
        return {"type": kind}
    groups = (action.get("ForwardConfig") or {}).get("TargetGroups") or []
    arns = [group["TargetGroupArn"] for group in groups] or [action["TargetGroupArn"]]
    _, _, _, region, account, _ = balancer.arn.split(":", 5)
    there = elbv2_backends[account][region].target_groups
    return {
        "type": kind,
        "targetGroups": [describe_group(there[arn]) for arn in arns if arn in there],
    }


def describe_group(group: Any) -> dict[str, Any]:
    targets = list(group.targets)
    function = targets[0] if group.target_type == "lambda" and targets else None
    return {
        "arn": group.arn,
        "type": group.target_type,
        "targets": targets,
        "functionArn": function,
        "functionName": function.split(":")[6] if function else None,
        "multiValueHeaders": group.attributes.get("lambda.multi_value_headers.enabled") == "true",
    }


def describe_certificate(bundle: Any) -> dict[str, Any]:
    certificate = bundle._cert
    return {
        "certificate": bundle.cert.decode(),
        "chain": bundle.chain.decode(),
        "privateKey": bundle.key.decode(),
        "keyAlgorithm": acm.key_algorithm(certificate.public_key()),
        "names": acm.all_names(certificate),
        "notBefore": certificate.not_valid_before_utc.timestamp(),
        "notAfter": certificate.not_valid_after_utc.timestamp(),
    }
