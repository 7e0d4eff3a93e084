"""Lambda, EventBridge and EventBridge Scheduler: who may invoke a function, and how.

ministack invokes every target. Here the load balancer, EventBridge and the function URL need a
permission in the function's policy, and Scheduler needs a role that allows it. Asynchronous
invocations are retried and end in the dead-letter queue. EventBridge publishes to a topic with its
target's role, or by a statement of the topic's policy.
"""

from __future__ import annotations

import contextvars
import json
import logging
import re
import time
from typing import Any

from ministack import app as gateway
from ministack.core import iam_evaluator, lambda_runtime
from ministack.core.arn import ArnParseError, parse_arn
from ministack.core.iam_evaluator import EvalContext
from ministack.core.responses import (
    error_response_json,
    get_account_id,
    get_region,
    json_response,
    new_uuid,
    request_scope,
)
from ministack.services import cloudwatch, eventbridge, iam, lambda_svc, scheduler, sns, sqs

logger = logging.getLogger("local")

INVOKE = "lambda:InvokeFunction"
# What a function on Lambda does not see of its machine.
PASSED_ON = ("PATH", "LANG", "LD_LIBRARY_PATH", "TZ", "TMPDIR")
RATE = re.compile(r"rate\((1 (minute|hour|day)|([2-9]|[1-9]\d+) (minutes|hours|days))\)")
CRON = re.compile(r"cron\((\S+ ){5}\S+\)")
AT = re.compile(r"at\(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\)")

# The events in delivery: (target, event, rule or schedule).
_delivery: contextvars.ContextVar[tuple[dict[str, Any], dict[str, Any], dict[str, Any]] | None] = (
    contextvars.ContextVar("delivery", default=None)
)


# Who may


def function_named(arn: str) -> tuple[dict[str, Any] | None, str]:
    """The record of the function that an ARN names, and the qualifier in it."""
    try:
        spec = parse_arn(arn)
    except ArnParseError:
        return None, ""
    _, _, rest = spec.resource.partition(":")
    name, _, qualifier = rest.partition(":")
    return lambda_svc._functions.get_scoped(spec.account_id, spec.region, name), qualifier


def context(principal: str, action: str, resource: str, **keys: Any) -> EvalContext:
    return EvalContext(
        principal_arn=principal,
        principal_type="Service",
        principal_account="",
        action=action,
        resource_arn=resource,
        region=get_region(),
        service_context={name.lower(): value for name, value in keys.items()},
    )


def policy_allows(function: str, action: str, service: str | None, **keys: Any) -> bool:
    """Whether the function's own policy allows this to a service, or with None to anybody."""
    record, qualifier = function_named(function)
    if record is None:
        return False
    # A statement is about the function or about one qualifier of it, never both.
    statements = [one for one in record["policy"]["Statement"] if one.get("Resource") == function]
    asked = context("*", action, function, **keys)
    if service is None:
        statements = [one for one in statements if one.get("Principal") in ("*", {"AWS": "*"})]
    decision = iam_evaluator.evaluate_resource_policy(
        {"Statement": statements}, asked, service=service
    )
    return decision.decision == "Allow"


def service_may_invoke(function: str, service: str, source: str) -> bool:
    if not gateway.AUTH:
        return True
    keys = {"aws:SourceArn": source, "aws:SourceAccount": get_account_id()}
    return policy_allows(function, INVOKE, service, **keys)


def trusts(role: dict[str, Any], service: str, **keys: Any) -> bool:
    """Whether a role may be assumed by a service."""
    document = role.get("AssumeRolePolicyDocument") or "{}"
    document = json.loads(document) if isinstance(document, str) else document
    statements = document.get("Statement", [])
    statements = [statements] if isinstance(statements, dict) else statements
    asked = context("*", "sts:AssumeRole", role.get("Arn", "*"), **keys)
    named = []
    for statement in statements:
        services = (statement.get("Principal") or {}).get("Service", [])
        if service in ([services] if isinstance(services, str) else services):
            named.append({**statement, "Resource": "*"})
    parsed = iam_evaluator.parse_policy_document({"Statement": named})
    return iam_evaluator.evaluate(asked, [parsed]).decision == "Allow"


def find_role(arn: str) -> dict[str, Any] | None:
    return iam._roles.get(arn.rsplit("/", 1)[-1])


def role_may(arn: str, action: str, resource: str) -> bool:
    role = find_role(arn)
    if role is None:
        return False
    account, name = get_account_id(), role["RoleName"]
    asked = context(arn, action, resource)
    policies = iam_evaluator._gather_role_policies(name, account)
    limits = iam_evaluator._permissions_boundary(iam._roles, name, account)
    return iam_evaluator.evaluate(asked, policies, *limits).decision == "Allow"


# Asynchronous invocation


def invoke_asynchronously(arn: str, event: Any) -> None:
    """As on Lambda: the alias stays in the ARN, failures are retried and end in the function's
    queue."""
    base, config, _ = lambda_svc._get_func_record_for_ref(arn)
    if not base or not config:
        raise LookupError(f"no function {arn}")
    record = lambda_svc._execution_record_for_config(base, {**config, "FunctionArn": arn})
    lambda_svc.invoke_async_with_retry(record, event)


def route_failure(target: str, name: str, event: Any, result: dict[str, Any]) -> None:
    """The function's own role writes to the destination of a failed invocation."""
    action = {"sqs": "sqs:SendMessage", "sns": "sns:Publish", "lambda": INVOKE}.get(
        target.split(":")[2], ""
    )
    role = lambda_svc._functions[name]["config"].get("Role", "")
    if gateway.AUTH and not role_may(role, action, target):
        logger.warning("%s may not %s %s: the failed event is lost", role, action, target)
        return
    _route_failure(target, name, event, result)


def dispatch_to_lambda(arn: str, payload: str) -> None:
    try:
        event = json.loads(payload)
    except ValueError:
        event = payload
    target, _, source = _delivery.get() or ({}, {}, {})
    role = target.get("RoleArn")
    if role:  # Scheduler
        keys = {"aws:SourceArn": source_of_schedule(source), "aws:SourceAccount": get_account_id()}
        found = find_role(role)
        allowed = (
            found is not None
            and trusts(found, "scheduler.amazonaws.com", **keys)
            and role_may(role, INVOKE, arn)
        )
        allowed = allowed or not gateway.AUTH
    else:
        allowed = service_may_invoke(arn, "events.amazonaws.com", source.get("Arn", ""))
    try:
        if not allowed:
            raise PermissionError(f"{role or 'events.amazonaws.com'} may not invoke {arn}")
        invoke_asynchronously(arn, event)
    except (PermissionError, LookupError) as problem:
        logger.warning("not delivered: %s", problem)
        to_dead_letters(target, payload, str(problem), source.get("Arn", ""))


def dispatch_to_sns(arn: str, payload: str) -> None:
    target, _, rule = _delivery.get() or ({}, {}, {})
    role = target.get("RoleArn")
    if role:
        keys = {"aws:SourceArn": rule.get("Arn", ""), "aws:SourceAccount": get_account_id()}
        found = find_role(role)
        allowed = (
            found is not None
            and trusts(found, "events.amazonaws.com", **keys)
            and role_may(role, "sns:Publish", arn)
        )
    else:
        allowed = topic_lets_events_in(arn)
    if allowed or not gateway.AUTH:
        _dispatch_to_sns(arn, payload)
        return
    problem = f"{role or 'events.amazonaws.com'} may not publish to {arn}"
    logger.warning("not delivered: %s", problem)
    to_dead_letters(target, payload, problem, rule.get("Arn", ""))


def topic_lets_events_in(arn: str) -> bool:
    """Without a role EventBridge sends SNS neither rule nor account: no condition ever fits."""
    topic = sns._topic_by_arn_any_scope(arn)
    policy = (topic or {}).get("attributes", {}).get("Policy") or '{"Statement": []}'
    asked = context("*", "sns:Publish", arn)
    return (
        iam_evaluator.evaluate_resource_policy(
            policy, asked, service="events.amazonaws.com"
        ).decision
        == "Allow"
    )


def source_of_schedule(schedule: dict[str, Any]) -> str:
    """A role's trust names the schedule's group."""
    return schedule.get("Arn", "").replace(":schedule/", ":schedule-group/").rpartition("/")[0]


def to_dead_letters(target: dict[str, Any], payload: str, problem: str, source: str) -> None:
    queue = (target.get("DeadLetterConfig") or {}).get("Arn")
    if not queue:
        return
    if target.get("RoleArn") and ":rule/" not in source:
        allowed = role_may(target["RoleArn"], "sqs:SendMessage", queue) or not gateway.AUTH
    else:  # EventBridge writes it as itself, with any role of the target.
        allowed = sqs.queue_policy_allows(queue, "events.amazonaws.com", source, get_account_id())
    if not allowed or sqs._queue_by_arn(queue) is None:
        logger.warning("the dead-letter queue %s cannot be written", queue)
        return
    eventbridge._dispatch_to_sqs(parse_arn(queue), payload)
    logger.info("to the dead-letter queue: %s", problem)


def invoke_target(
    target: dict[str, Any], event: dict[str, Any], rule: dict[str, Any], view: Any = None
) -> None:
    token = _delivery.set((target, event, rule))
    try:
        _invoke_target(target, event, rule, view)
    finally:
        _delivery.reset(token)


def fire(name: str, group: str = "default") -> dict[str, Any]:
    """Fires a schedule now."""
    for (account, region, _), schedule in list(scheduler._schedules._data.items()):
        if schedule.get("Name") == name and schedule.get("GroupName", "default") == group:
            break
    else:
        raise LookupError(f"no schedule {group}/{name}")
    if schedule.get("State") != "ENABLED":
        raise ValueError(f"the schedule {name} is not enabled")
    event = {
        "EventId": new_uuid(),
        "Source": "aws.scheduler",
        "DetailType": "Scheduled Event",
        "Detail": "{}",
        "Time": time.time(),
        "Resources": [schedule.get("Arn", "")],
        "Account": account,
        "Region": region,
    }
    with request_scope(account, region):
        eventbridge._invoke_target(schedule["Target"], event, schedule)
    return {"target": schedule["Target"]["Arn"]}


def emit(region: str, entry: dict[str, Any]) -> dict[str, Any]:
    """An event of an AWS service, which nobody else may put on the bus."""
    with request_scope(get_account_id(), region):
        _, _, answer = eventbridge._put_events({"Entries": [entry]}, allow_aws_source=True)
    return json.loads(answer)


# Refusals


def refused_schedule(body: dict[str, Any]) -> Any:
    expression = body.get("ScheduleExpression", "")
    if not (RATE.fullmatch(expression) or CRON.fullmatch(expression) or AT.fullmatch(expression)):
        return scheduler._error(
            400, "ValidationException", f"Invalid Schedule Expression {expression}."
        )
    target = body.get("Target") or {}
    role = find_role(target.get("RoleArn", ""))
    name = body.get("GroupName") or "default"
    group = f"arn:aws:scheduler:{get_region()}:{get_account_id()}:schedule-group/{name}"
    keys = {"aws:SourceArn": group, "aws:SourceAccount": get_account_id()}
    if gateway.AUTH and (role is None or not trusts(role, "scheduler.amazonaws.com", **keys)):
        message = (
            "The execution role you provide must allow AWS EventBridge Scheduler to assume the role."
        )
        return scheduler._error(400, "ValidationException", message)
    return None


def create_schedule(name: str, body: dict[str, Any]) -> Any:
    return refused_schedule(body) or _create_schedule(name, body)


def update_schedule(name: str, body: dict[str, Any]) -> Any:
    return refused_schedule(body) or _update_schedule(name, body)


async def lambda_request(method: str, path: str, headers: Any, body: bytes, query: Any) -> Any:
    creating = method == "POST" and path.rstrip("/").endswith("/functions")
    configuring = method == "PUT" and path.endswith("/configuration")
    if gateway.AUTH and (creating or configuring):
        try:
            given = json.loads(body or b"{}").get("Role")
        except ValueError:
            given = None
        role = find_role(given) if given else None
        if role is not None and not trusts(role, "lambda.amazonaws.com"):
            message = "The role defined for the function cannot be assumed by Lambda."
            return error_response_json("InvalidParameterValueException", message, 400)
    return await _lambda_request(method, path, headers, body, query)


async def function_url(
    url: str, method: str, path: str, headers: Any, body: bytes, query: Any, **more: Any
) -> Any:
    """A URL without authorization needs both permissions, for all (AWS since October 2025)."""
    resolved = more.get("resolved") or lambda_svc.resolve_function_url(url)
    if gateway.AUTH and resolved is not None and resolved[4].get("AuthType") == "NONE":
        account, region, name, qualifier, _ = resolved
        arn = f"arn:aws:lambda:{region}:{account}:function:{name}" + (
            f":{qualifier}" if qualifier else ""
        )
        keys = {"lambda:FunctionUrlAuthType": "NONE", "lambda:InvokedViaFunctionUrl": "true"}
        if not all(
            policy_allows(arn, action, None, **keys)
            for action in ("lambda:InvokeFunctionUrl", INVOKE)
        ):
            kind = {"Content-Type": "application/json", "x-amzn-ErrorType": "AccessDeniedException"}
            return (
                403,
                kind,
                b'{"Message":"Forbidden. For troubleshooting Function URL authorization issues, '
                b'see: urls-auth"}',
            )
    more["resolved"] = resolved
    return await _function_url(url, method, path, headers, body, query, **more)


def put_event_invoke_config(name: str, qualifier: str | None, given: dict[str, Any]) -> Any:
    """Lambda shows the maximum age of events only if it was set."""
    answer = _put_event_invoke_config(name, qualifier, given)
    if answer[0] != 200 or "MaximumEventAgeInSeconds" in given:
        return answer
    stored = lambda_svc._functions[name]["event_invoke_configs"][qualifier or ""]
    del stored["MaximumEventAgeInSeconds"]
    return json_response(stored)


# The traces of a function


def emit_logs(function: dict[str, Any], request: str, text: str, *more: Any, **named: Any) -> None:
    """Lambda writes logs with the function's role, and CloudWatch reads metrics from them."""
    config = function.get("config") or function
    group = (config.get("LoggingConfig") or {}).get(
        "LogGroup"
    ) or f"/aws/lambda/{config['FunctionName']}"
    stream = (
        f"arn:aws:logs:{get_region()}:{get_account_id()}:log-group:{group}:log-stream:{request}"
    )
    if gateway.AUTH and not role_may(config.get("Role", ""), "logs:PutLogEvents", stream):
        logger.warning("%s may not write its logs to %s", config.get("Role"), group)
        return
    _emit_logs(function, request, text, *more, **named)
    for line in (text or "").splitlines():
        if line.startswith("{") and '"_aws"' in line:
            embedded_metrics(line)


def embedded_metrics(line: str) -> None:
    try:
        given = json.loads(line)
        for directive in given["_aws"]["CloudWatchMetrics"]:
            for names in directive["Dimensions"]:
                dimensions = {name: str(given[name]) for name in names}
                for metric in directive["Metrics"]:
                    values = given[metric["Name"]]
                    for value in values if isinstance(values, list) else [values]:
                        unit = metric.get("Unit", "None")
                        cloudwatch.record_metric(
                            directive["Namespace"], metric["Name"], value, unit, dimensions
                        )
    except (ValueError, KeyError, TypeError) as problem:
        logger.warning("embedded metrics that CloudWatch would not read (%s): %s", problem, line)


# The environment of a function


def worker_environment(config: dict[str, Any], folder: str, port: int) -> dict[str, str]:
    """ministack passes on its own environment and its own address. A function must get what Lambda
    gives it, and the address of AWS from its configuration."""
    given = _worker_environment(config, folder, port)
    own = (config.get("Environment") or {}).get("Variables") or {}
    outside = set(gateway.os.environ) - set(PASSED_ON)
    kept = {
        name: value
        for name, value in given.items()
        if name not in outside or name.startswith(("AWS_", "_"))
    }
    kept["AWS_LAMBDA_LOG_GROUP_NAME"] = f"/aws/lambda/{config.get('FunctionName', '')}"
    kept["AWS_LAMBDA_INITIALIZATION_TYPE"] = "on-demand"
    kept.update(own)
    return kept


_route_failure = lambda_svc._route_async_failure
_invoke_target = eventbridge._invoke_target
_dispatch_to_sns = eventbridge._dispatch_to_sns
_create_schedule = scheduler._create_schedule
_update_schedule = scheduler._update_schedule
_lambda_request = lambda_svc.handle_request
_function_url = lambda_svc.handle_function_url_request
_put_event_invoke_config = lambda_svc._put_event_invoke_config
_emit_logs = lambda_svc._emit_lambda_logs
_worker_environment = lambda_svc._provided_worker_env


def install() -> None:
    lambda_svc._route_async_failure = route_failure
    lambda_svc.handle_request = lambda_request
    lambda_svc.handle_function_url_request = function_url
    lambda_svc._put_event_invoke_config = put_event_invoke_config
    lambda_svc._emit_lambda_logs = emit_logs
    lambda_svc._provided_worker_env = worker_environment
    eventbridge._invoke_target = invoke_target
    eventbridge._dispatch_to_lambda = dispatch_to_lambda
    eventbridge._dispatch_to_sns = dispatch_to_sns
    scheduler._create_schedule = create_schedule
    scheduler._update_schedule = update_schedule


def end_all() -> None:
    """Ends every execution environment, at once."""
    with lambda_runtime._lock:
        workers = [worker for entries in lambda_runtime._workers.values() for worker in entries]
    for worker in workers:
        process = worker._proc
        if process is not None and process.poll() is None:
            process.kill()
