"""`/_local/...`: the requests of tests to the cloud. See README.md. Paths and bodies are those of
tests/aws/admin.py."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs

import acm
import options
from ministack.core.responses import request_scope
from ministack.services import alb

import alarms
import balancer
import certificates
import functions
import listeners
import permissions
import revision

PREFIX = "/_local/"


async def handle(scope: Any, receive: Any, send: Any) -> None:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    query = {
        name: values[-1]
        for name, values in parse_qs(scope.get("query_string", b"").decode()).items()
    }
    status, value = await route(
        f"{scope['method']} {scope['path'].removeprefix(PREFIX)}", query, body
    )
    content = json.dumps(value).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(content)).encode()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


async def route(asked: str, query: dict[str, str], body: bytes) -> tuple[int, Any]:
    try:
        given = json.loads(body) if body else {}
        match asked:
            case "GET revision":
                return 200, {"revision": revision.number}
            case "GET load-balancers":
                return 200, {
                    "loadBalancers": [
                        describe_name(record) for _, _, record in listeners.balancers()
                    ]
                }
            case "GET load-balancer":
                return 200, describe(query["arn"])
            case "GET options":
                return 200, options.change({})
            case "POST options":
                return 200, options.change(given)
            case "POST ports":
                secure = bool(given.get("tls", given["port"] == 443))
                await balancer.opened(
                    given["loadBalancer"], given["address"], int(given["port"]), secure
                )
                return 200, {}
            case "DELETE ports":
                balancer.close(given.get("addresses") or [])
                return 200, {}
            case "GET permissions":
                return 200, {"allowed": permissions.allowed, "denied": permissions.denials}
            case "DELETE permissions":
                permissions.allowed.clear()
                permissions.denials.clear()
                return 200, {}
            case "POST alarm-states":
                where, when = (
                    (given["account"], given["region"], given["names"]),
                    (given["from"], given["to"], given.get("step", 60)),
                )
                return 200, alarms.states(*where, *when)
            case "POST schedule":
                return 200, functions.fire(given["name"], given.get("group", "default"))
            case "POST event":
                return 200, functions.emit(given["region"], given["entry"])
        return 404, {"error": f"no {asked}"}
    except LookupError as error:
        return 404, {"error": str(error)}
    except (ValueError, TypeError) as error:
        return 400, {"error": str(error)}


def describe_name(record: dict[str, Any]) -> dict[str, Any]:
    return {
        "arn": record["LoadBalancerArn"],
        "name": record["LoadBalancerName"],
        "dnsName": record["DNSName"],
    }


def describe(arn: str) -> dict[str, Any]:
    account, region, record = balancer.find(arn)
    there = listeners.listeners_of(arn)
    held = [certificate for listener in there for certificate in listeners.held(listener)]
    with request_scope(account, region):
        return {
            "revision": revision.number,
            **describe_name(record),
            "type": record["Type"],
            "scheme": record["Scheme"],
            "listeners": [describe_listener(listener) for listener in there],
            "certificates": {
                one: describe_certificate(bundle)
                for one in held
                if (bundle := certificates.lookup(one)) is not None
            },
        }


def describe_listener(listener: dict[str, Any]) -> dict[str, Any]:
    rules = listeners.rules_of(listener["ListenerArn"])
    return {
        "arn": listener["ListenerArn"],
        "port": listener["Port"],
        "protocol": listener["Protocol"],
        "defaultCertificate": (listener.get("Certificates") or [None])[0],
        "sniCertificates": list(listener.get("_sni", {})),
        "rules": [
            {
                "arn": rule["RuleArn"],
                "priority": rule["Priority"]
                if rule["Priority"] == "default"
                else int(rule["Priority"]),
                "conditions": [describe_condition(condition) for condition in rule["Conditions"]],
                "actions": [describe_action(action) for action in rule["Actions"]],
            }
            for rule in rules
        ],
    }


def describe_condition(condition: dict[str, Any]) -> dict[str, Any]:
    header = condition.get("HttpHeaderConfig") or {}
    found = {"field": condition["Field"], "values": header.get("Values") or condition["Values"]}
    return {**found, "header": header["HttpHeaderName"]} if header else found


def describe_action(action: dict[str, Any]) -> dict[str, Any]:
    kind = action["Type"]
    shapes = {
        "redirect": ("RedirectConfig", ("Protocol", "Host", "Port", "Path", "Query", "StatusCode")),
        "fixed-response": ("FixedResponseConfig", ("StatusCode", "ContentType", "MessageBody")),
    }
    if kind in shapes:
        config, names = shapes[kind]
        return {
            "type": kind,
            **{name[0].lower() + name[1:]: action[config].get(name) for name in names},
        }
    group = action.get("TargetGroupArn")
    return {
        "type": kind,
        "targetGroups": [describe_group(alb._tgs[group])] if group in alb._tgs else [],
    }


def describe_group(group: dict[str, Any]) -> dict[str, Any]:
    arn = group["TargetGroupArn"]
    targets = [target["Id"] for target in alb._targets.get(arn, [])]
    function = targets[0] if group["TargetType"] == "lambda" and targets else None
    attributes = {one["Key"]: one["Value"] for one in alb._tg_attrs.get(arn, [])}
    return {
        "arn": arn,
        "type": group["TargetType"],
        "targets": targets,
        "functionArn": function,
        "functionName": function.split(":")[6] if function else None,
        "multiValueHeaders": attributes.get("lambda.multi_value_headers.enabled") == "true",
    }


def describe_certificate(bundle: Any) -> dict[str, Any]:
    leaf = bundle._cert
    return {
        "certificate": bundle.cert.decode(),
        "chain": bundle.chain.decode(),
        "privateKey": bundle.key.decode(),
        "keyAlgorithm": acm.key_algorithm(leaf.public_key()),
        "names": acm.all_names(leaf),
        "notBefore": leaf.not_valid_before_utc.timestamp(),
        "notAfter": leaf.not_valid_after_utc.timestamp(),
    }
