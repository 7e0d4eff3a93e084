"""The command's doctor on the deployment: it finds nothing wrong, and then anything that breaks."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from cloud import ADMINISTRATOR, REGION, REPOSITORY
from conftest import World
from test_2_permissions import user

COMMAND = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target")) / "release" / "certloop"
RENEW, CHALLENGE, BASE = "certloop-dev-renew", "certloop-dev-challenge", "certloop-dev"

Finding = dict[str, Any]


def doctor(world: World, who: tuple[str, ...] = ADMINISTRATOR) -> tuple[int, list[Finding]]:
    assert COMMAND.exists(), f"{COMMAND} is not there: make build"
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "CERTLOOP_"))
    }
    said = subprocess.run(
        [COMMAND, "--json", "doctor"],
        env={
            **environment,
            "AWS_ENDPOINT_URL": world.aws.endpoint,
            "AWS_ACCESS_KEY_ID": who[0],
            "AWS_SECRET_ACCESS_KEY": who[1],
            "AWS_REGION": REGION,
            "CERTLOOP_BUCKET": world.bucket,
            "CERTLOOP_FUNCTION": RENEW,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
    )
    assert said.returncode in (0, 1) and said.stdout, said.stderr
    return said.returncode, json.loads(said.stdout)["findings"]


def those(findings: list[Finding], verdict: str) -> list[str]:
    return [f"{one['about']}: {one['found']}" for one in findings if one["verdict"] == verdict]


def wrong(world: World) -> list[str]:
    status, findings = doctor(world)
    found = those(findings, "wrong")
    assert status == (1 if found or those(findings, "couldNotTell") else 0)
    return found


def test_nothing_is_wrong_with_what_was_deployed(world: World) -> None:
    with user(world, "doctor", world.policies["doctor"]) as who:
        world.aws.local("DELETE", "permissions")
        status, findings = doctor(world, who)
        denied = [
            one
            for one in world.aws.local("GET", "permissions")["denied"]
            if ":user/doctor" in one["principal"]
        ]
    assert not denied, "the policy doctor lacks something"
    assert not those(findings, "wrong") and not those(findings, "couldNotTell"), findings
    assert status == 0
    about = {one["about"] for one in findings}
    assert about >= {
        "alias view", "bucket", "bucket policy", "clock", "function challenge", "function renew",
        "last pass", "permissions", "port 80", "quotas", "schedule", "settings.json",
    }  # fmt: skip


def test_who_may_read_nothing_is_told_what_it_takes(world: World) -> None:
    with user(world, "stranger", world.policies["edit"]) as who:
        status, findings = doctor(world, who)
    assert status == 1, findings
    assert not those(findings, "wrong"), findings
    needed = " ".join(one["remedy"] or "" for one in findings if one["verdict"] == "couldNotTell")
    for permission in (
        "s3:GetBucketPolicy",
        "lambda:GetFunctionConfiguration",
        "lambda:InvokeFunction",
        "scheduler:GetSchedule",
    ):
        assert permission in needed, findings


def test_a_schedule_that_is_off_is_found(world: World) -> None:
    scheduler = world.aws.client("scheduler")
    schedule = scheduler.get_schedule(Name=f"{BASE}-reconcile", GroupName=BASE)
    given = (
        "Name",
        "GroupName",
        "ScheduleExpression",
        "FlexibleTimeWindow",
        "Target",
        "Description",
    )
    schedule = {name: schedule[name] for name in given if name in schedule}
    scheduler.update_schedule(**schedule, State="DISABLED")
    try:
        [found] = wrong(world)
    finally:
        scheduler.update_schedule(**schedule, State="ENABLED")
    assert found.startswith("schedule: certloop-dev-reconcile is switched off"), found


def test_a_bucket_that_others_could_be_let_into_is_found(world: World) -> None:
    s3 = world.aws.client("s3")
    policy = s3.get_bucket_policy(Bucket=world.bucket)["Policy"]
    statements = [one for one in json.loads(policy)["Statement"] if one["Sid"] != "OnlyRenewReads"]
    s3.delete_public_access_block(Bucket=world.bucket)
    s3.put_bucket_policy(
        Bucket=world.bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": statements})
    )
    try:
        found = sorted(wrong(world))
    finally:
        s3.put_bucket_policy(Bucket=world.bucket, Policy=policy)
        blocked = (
            "BlockPublicAcls",
            "IgnorePublicAcls",
            "BlockPublicPolicy",
            "RestrictPublicBuckets",
        )
        s3.put_public_access_block(
            Bucket=world.bucket, PublicAccessBlockConfiguration={name: True for name in blocked}
        )
    assert (
        len(found) == 2
        and "read private keys" in found[0]
        and "public access is not blocked" in found[1]
    ), found


def test_a_challenge_rule_for_another_path_is_found_with_the_command_that_repairs_it(
    world: World,
) -> None:
    elb = world.aws.client("elbv2")
    [plain] = [
        one
        for one in elb.describe_listeners(LoadBalancerArn=world.load_balancer_arn)["Listeners"]
        if one["Port"] == 80
    ]
    [rule] = [
        one
        for one in elb.describe_rules(ListenerArn=plain["ListenerArn"])["Rules"]
        if not one["IsDefault"]
    ]

    # The rule is changed, not deleted: Terraform has to find it again.
    def lead(path: str) -> None:
        conditions = [{"Field": "path-pattern", "PathPatternConfig": {"Values": [path]}}]
        elb.modify_rule(RuleArn=rule["RuleArn"], Conditions=conditions)

    lead("/well-known/*")
    try:
        status, findings = doctor(world)
    finally:
        lead("/.well-known/acme-challenge/*")
    [found] = [one for one in findings if one["verdict"] == "wrong"]
    assert status == 1 and found["about"] == "port 80", findings
    assert "aws elbv2 create-rule" in found["remedy"], found


def test_a_function_that_is_switched_off_or_may_not_be_invoked_is_found(world: World) -> None:
    client = world.aws.client("lambda")
    statements = json.loads(client.get_policy(FunctionName=CHALLENGE)["Policy"])["Statement"]
    [permission] = [one for one in statements if one["Sid"].startswith("load-balancer-")]
    client.remove_permission(FunctionName=CHALLENGE, StatementId=permission["Sid"])
    client.put_function_concurrency(FunctionName=CHALLENGE, ReservedConcurrentExecutions=0)
    try:
        found = sorted(wrong(world))
    finally:
        client.delete_function_concurrency(FunctionName=CHALLENGE)
        [source] = permission["Condition"]["ArnLike"].values()
        client.add_permission(
            FunctionName=CHALLENGE,
            StatementId=permission["Sid"],
            Action="lambda:InvokeFunction",
            Principal="elasticloadbalancing.amazonaws.com",
            SourceArn=source,
            SourceAccount=permission["Condition"]["StringEquals"]["AWS:SourceAccount"],
        )
    assert (
        len(found) == 2 and "switched off" in found[0] and "may not invoke challenge" in found[1]
    ), found
