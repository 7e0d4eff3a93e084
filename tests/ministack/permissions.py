"""IAM where ministack's view of a request differs from AWS's: resources, condition keys, and S3's
requests to KMS."""

from __future__ import annotations

import contextvars
from collections import Counter, defaultdict
from typing import Any
from urllib.parse import unquote
from uuid import uuid4

from ministack import app as gateway
from ministack.core import iam_actions, iam_evaluator
from ministack.core.iam_evaluator import AuthError, EvalContext, EvalResult
from ministack.core.responses import get_account_id, get_region
from ministack.core.router import extract_access_key_id
from ministack.services import alb, iam, kms, s3, tagging

import certificates

LOOPBACK = ("127.", "::1")
# The resources of these ELB operations; a request with tags needs AddTags too.
TAGGED_AT_BIRTH = {
    "CreateListener": "listener",
    "CreateRule": "listener-rule",
    "CreateLoadBalancer": "loadbalancer",
    "CreateTargetGroup": "targetgroup",
}
# S3's own requests to KMS on behalf of a caller, for the current request: {key ARN: conditions}.
_on_behalf: contextvars.ContextVar[dict[str, dict[str, str]]] = contextvars.ContextVar(
    "on_behalf", default={}
)

# The action that a request was denied for, where it differs from the request's name.
_denied: contextvars.ContextVar[str | None] = contextvars.ContextVar("denied", default=None)

Answer = EvalResult | AuthError | None

# The allowed actions with their count, by principal, and the denied ones: for tests.
allowed: dict[str, Counter[str]] = defaultdict(Counter)
denials: list[dict[str, str]] = []


# The resource of a request


def resource(
    service: str,
    method: str,
    path: str,
    headers: Any,
    body: bytes,
    query: Any,
    region: str,
    account: str,
) -> str:
    if service == "acm":
        operation = headers.get("x-amz-target", "").rpartition(".")[2]
        found = _resource(service, method, path, headers, body, query, region, account)
        if operation in ("ImportCertificate", "RequestCertificate") and found == "*":
            return f"arn:aws:acm:{region}:{account}:certificate/{uuid4()}"
        return found
    if service == "elasticloadbalancing":
        operation = iam_actions._query_param(query, "Action")
        if operation.startswith("Describe"):
            return "*"  # no Describe operation knows resources
        if operation in ("CreateLoadBalancer", "CreateTargetGroup"):
            return newborn(operation, query, region, account)
        for field in ("RuleArn", "ResourceArns.member.1", "RulePriorities.member.1.RuleArn"):
            if arn := iam_actions._query_param(query, field):
                return arn
    if service == "lambda":
        found = _resource(service, method, path, headers, body, query, region, account)
        qualifier = iam_actions._query_param(query, "Qualifier")
        if qualifier and found.count(":") == 6 and path.endswith("/invocations"):
            return f"{found}:{qualifier}"
        return found
    if service == "scheduler" and (group := iam_actions._query_param(query, "groupName")):
        found = _resource(service, method, path, headers, body, query, region, account)
        return found.replace(":schedule/default/", f":schedule/{group}/", 1)
    return _resource(service, method, path, headers, body, query, region, account)


def lambda_action(method: str, path: str) -> str | None:
    """ministack takes a read for a change, or for another read."""
    if method == "GET" and path.endswith("/concurrency"):
        return "GetFunctionConcurrency"
    if method == "GET" and "/aliases/" in path:
        return "GetAlias"
    return _lambda_action(method, path)


def newborn(operation: str, query: Any, region: str, account: str) -> str:
    """The ARN of what ELB is about to create, without its last part."""
    kind = TAGGED_AT_BIRTH[operation] + ("/app" if operation == "CreateLoadBalancer" else "")
    name = iam_actions._query_param(query, "Name")
    return f"arn:aws:elasticloadbalancing:{region}:{account}:{kind}/{name}/{uuid4().hex[:16]}"


# The tags of a resource


def listener_tags() -> list[tuple[str, list[dict[str, str]]]]:
    return list(alb._tags.items())


# The principal of a request


def condition_key(key: str, ctx: EvalContext) -> Any:
    name = key.lower()
    if name == "aws:principalarn" and ":assumed-role/" in ctx.principal_arn:
        role = iam._roles.get_scoped(
            ctx.principal_account,
            None,
            iam_evaluator._role_name_from_assumed_arn(ctx.principal_arn),
        )
        return role["Arn"] if role else ctx.principal_arn
    if name in ("aws:principalisawsservice", "aws:viaawsservice"):
        return str(ctx.principal_type == "Service").lower()
    if name == "aws:securetransport" and ctx.principal_type == "Service":
        return "true"
    if name == "kms:calleraccount":
        return ctx.principal_account
    return _condition_key(key, ctx)


def pin_origin(address: str, secure: bool) -> None:
    """There is no TLS between machines that are one machine."""
    _pin_origin(address, secure or address.startswith(LOOPBACK))


# What else a request needs


def enforce(
    access_key: str,
    action: str,
    service: str,
    region: str,
    resource_arn: str = "*",
    service_context: Any = None,
) -> Answer:
    if service == "s3" and action.startswith("kms:"):
        keys = _on_behalf.get().get(resource_arn, {})
        return judged(access_key, action, "kms", region, resource_arn, keys)
    keys = service_context or {}
    answer = judged(access_key, action, service, region, resource_arn, keys)
    if answer is not None or not keys.get("aws:TagKeys"):
        return answer
    operation = action.partition(":")[2]
    if action == "acm:ImportCertificate":
        tagging = ("acm:AddTagsToCertificate", resource_arn, keys)
    elif service == "elasticloadbalancing" and operation in TAGGED_AT_BIRTH:
        born = resource_arn
        if operation in ("CreateListener", "CreateRule"):
            start, tail = resource_arn.rsplit(":", 1)
            born = (
                f"{start}:{TAGGED_AT_BIRTH[operation]}/{tail.partition('/')[2]}/{uuid4().hex[:16]}"
            )
        keys = {**keys, "elasticloadbalancing:CreateAction": operation}
        tagging = ("elasticloadbalancing:AddTags", born, keys)
    else:
        return None
    answer = judged(access_key, tagging[0], service, region, tagging[1], tagging[2])
    _denied.set(tagging[0] if answer else None)
    return answer


def judged(
    access_key: str, action: str, service: str, region: str, resource_arn: str, keys: Any
) -> Answer:
    answer = _enforce(
        access_key, action, service, region, resource_arn=resource_arn, service_context=keys
    )
    principal = (iam_evaluator.resolve_caller_identity(access_key) or {}).get("userArn", "")
    if answer is None:
        allowed[principal][action] += 1
    else:
        why = answer.message if isinstance(answer, AuthError) else answer.reason
        denials.append(
            {"principal": principal, "action": action, "resource": resource_arn, "reason": why}
        )
    return answer


def access_denied(service: str, action: str, *more: Any, **named: Any) -> Any:
    return _access_denied(service, _denied.get() or action, *more, **named)


def request_keys(service: str, action: str, body: bytes, params: Any) -> dict[str, Any]:
    """The condition keys of a request: its tags, and the properties of a new listener."""
    found = _request_keys(service, action, body, params)
    if service == "elasticloadbalancing" and "Listener" in action:
        named = {
            "Protocol": "elasticloadbalancing:ListenerProtocol",
            "SslPolicy": "elasticloadbalancing:SecurityPolicy",
        }
        found |= {
            key: value
            for field, key in named.items()
            if (value := iam_actions._query_param(params, field))
        }
    if service == "monitoring" and (namespace := iam_actions._query_param(params, "Namespace")):
        found["cloudwatch:namespace"] = namespace
    return found


def additional_checks(
    method: str, path: str, headers: Any, body: bytes, query: Any
) -> list[tuple[str, str]]:
    """S3's requests to KMS with the caller's permissions."""
    checks = _additional_checks(method, path, headers, body, query)
    bucket, _, key = path.lstrip("/").partition("/")
    operation = iam_actions._s3_action(method, path, query)
    if not key or operation not in ("PutObject", "GetObject", "GetObjectVersion"):
        return checks
    behalf: dict[str, dict[str, str]] = {}
    if operation == "PutObject":
        needed = needed_to_write(headers, bucket, key)
        source = iam_actions._s3_source_object(headers)
        if source and (
            read := needed_to_read(*source[0].removeprefix("arn:aws:s3:::").partition("/")[::2])
        ):
            behalf[read[0]] = read[1]
            checks.append(("kms:Decrypt", read[0]))
    else:
        needed = None if method == "HEAD" else needed_to_read(bucket, key)
    if needed:
        behalf[needed[0]] = needed[1]
        checks.append(
            ("kms:GenerateDataKey" if operation == "PutObject" else "kms:Decrypt", needed[0])
        )
    _on_behalf.set(behalf)
    return checks


def needed_to_write(headers: Any, bucket: str, key: str) -> tuple[str, dict[str, str]] | None:
    found, _ = s3._resolve_sse_write_headers(headers, bucket)
    return on_behalf(found or {}, bucket, key)


def needed_to_read(bucket: str, key: str) -> tuple[str, dict[str, str]] | None:
    stored = ((s3._buckets.get(bucket) or {}).get("objects") or {}).get(unquote(key))
    return on_behalf(s3._stored_sse_headers(stored), bucket, key) if stored else None


def on_behalf(
    encryption: dict[str, str], bucket: str, key: str
) -> tuple[str, dict[str, str]] | None:
    if encryption.get("x-amz-server-side-encryption") != "aws:kms":
        return None
    named = encryption.get("x-amz-server-side-encryption-aws-kms-key-id", "")
    record = kms._resolve_key(named)
    arn = record["Arn"] if record else f"arn:aws:kms:{get_region()}:{get_account_id()}:key/{named}"
    whole = "<BucketKeyEnabled>true" in to_text(s3._bucket_encryption.get(bucket))
    return arn, {
        "kms:ViaService": f"s3.{get_region()}.amazonaws.com",
        "kms:CallerAccount": get_account_id(),
        "kms:EncryptionContext:aws:s3:arn": f"arn:aws:s3:::{bucket}"
        + ("" if whole else f"/{unquote(key)}"),
        "kms:EncryptionContextKeys": "aws:s3:arn",
    }


def to_text(blob: Any) -> str:
    return blob.decode() if isinstance(blob, bytes) else str(blob or "")


async def s3_request(
    method: str, path: str, headers: Any, body: bytes, query: Any, *more: Any, **named: Any
) -> Any:
    """S3 answers "no such key" only to principals that may list."""
    status, answer, content = await _s3_request(method, path, headers, body, query, *more, **named)
    bucket, _, key = path.lstrip("/").partition("/")
    if (
        not (gateway.AUTH and status == 404 and key and method in ("GET", "HEAD"))
        or b"NoSuchBucket" in content
    ):
        return status, answer, content
    who = extract_access_key_id(headers, query)
    keys = {"s3:prefix": unquote(key)}
    denied = _enforce(who, "s3:ListBucket", "s3", get_region(), f"arn:aws:s3:::{bucket}", keys)
    if denied is None:
        return status, answer, content
    return s3._error("AccessDenied", "Access Denied", 403, f"/{bucket}/{key}")


_resource = iam_actions.extract_resource_arn
_lambda_action = iam_actions._lambda_action
_additional_checks = iam_actions.s3_additional_checks
_access_denied = iam_actions.access_denied_response
_request_keys = iam_actions.request_tag_context
_enforce = iam_evaluator.enforce
_condition_key = iam_evaluator._resolve_condition_key
_pin_origin = gateway.pin_request_origin
_s3_request = s3.handle_request


def install() -> None:
    iam_actions.extract_resource_arn = resource
    iam_actions._lambda_action = lambda_action
    iam_actions.s3_additional_checks = additional_checks
    iam_actions.access_denied_response = access_denied
    iam_actions.request_tag_context = request_keys
    iam_evaluator.enforce = enforce
    iam_evaluator._resolve_condition_key = condition_key
    gateway.pin_request_origin = pin_origin
    s3.handle_request = s3_request
    # ministack looks for the request's tags in the model of a service named elasticloadbalancing,
    # which does not exist.
    iam_actions._TAG_OPERATIONS["elasticloadbalancing"] = frozenset(
        {*TAGGED_AT_BIRTH, "AddTags", "RemoveTags"}
    )
    tagging._RESOURCE_TAG_COLLECTORS["acm"] = certificates.tags
    tagging._RESOURCE_TAG_COLLECTORS["elasticloadbalancing"] = listener_tags


def add_user(name: str, access_key: str, secret: str) -> None:
    """A user who may do everything and is subject to resource policies, which ministack's root is
    not."""
    iam._create_user({"UserName": [name]})
    everything = (
        '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}'
    )
    iam._user_inline_policies[name] = {"administrator": everything}
    iam._access_keys[access_key] = {
        "UserName": name,
        "AccessKeyId": access_key,
        "SecretAccessKey": secret,
        "Status": "Active",
        "CreateDate": iam._now(),
    }
