"""Least privilege by trial: every statement is needed, and nothing else is permitted.

The stand-in decides every request by the policies of the module. A trial is a whole life in a
minute: an account with an external account binding, a first issuance that also creates the
listener, a renewal, a switch to another kind of key, the deletion of the replaced certificate, and
the inventory.
"""

from __future__ import annotations

import itertools
import json
import time
from contextlib import contextmanager
from typing import Any, Callable, Iterator

import pytest
from botocore.exceptions import ClientError

from cloud import ACCOUNT, REGION, ROOT, issue, until
from conftest import World

RENEW, CHALLENGE = "certloop-dev-renew", "certloop-dev-challenge"
numbers = itertools.count(1)


@pytest.fixture(scope="module", autouse=True)
def alone(world: World) -> Iterator[None]:
    """Makes sure that only a trial runs renew."""
    scheduler, events = world.aws.client("scheduler"), world.aws.client("events")
    schedule = scheduler.get_schedule(Name="certloop-dev-reconcile", GroupName="certloop-dev")
    given = (
        "Name",
        "GroupName",
        "ScheduleExpression",
        "FlexibleTimeWindow",
        "Target",
        "Description",
        "State",
    )
    schedule = {name: schedule[name] for name in given if name in schedule}
    scheduler.update_schedule(**{**schedule, "ScheduleExpression": "rate(365 days)"})
    events.disable_rule(Name="certloop-dev-document")
    time.sleep(2)
    yield
    events.enable_rule(Name="certloop-dev-document")
    scheduler.update_schedule(**schedule)


def ask(
    world: World, event: dict[str, Any], function: str = RENEW, who: tuple[str, ...] | None = None
) -> Any:
    client = world.aws.client("lambda", who) if who else world.aws.client("lambda")
    answer = client.invoke(FunctionName=function, Payload=json.dumps(event).encode())
    said = json.load(answer["Payload"])
    return {"error": said} if answer.get("FunctionError") else said


def trial(world: World) -> str | None:
    """Runs a whole life. Returns the first failure, or None."""
    name = f"trial-{next(numbers)}"
    elb, s3 = world.aws.client("elbv2"), world.aws.client("s3", ROOT)
    for found in s3.list_objects_v2(Bucket=world.bucket, Prefix="accounts/bound-").get(
        "Contents", []
    ):
        s3.delete_object(Bucket=world.bucket, Key=found["Key"])
    for listener in elb.describe_listeners(LoadBalancerArn=world.load_balancer_arn)["Listeners"]:
        if listener["Port"] == 443:
            elb.delete_listener(ListenerArn=listener["ListenerArn"])
    target = {
        "type": "listener",
        "loadBalancer": world.load_balancer_arn,
        "forward": world.site_target_group_arn,
    }
    document = {
        "domains": [f"{name}.example.com"],
        "authority": "bound",
        "targets": [target],
        "tags": {"Team": "web"},
    }
    steps: list[tuple[dict[str, Any], str]] = [
        ({"action": "issue", "name": name, "certificate": document}, "issued"),
        ({"action": "reconcile", "certificates": [name], "force": True}, "renewed"),
        (
            {
                "action": "issue",
                "name": name,
                "certificate": {**document, "keyType": "rsa-2048"},
                "replace": True,
            },
            "renewed",
        ),
        ({"action": "reconcile", "certificates": [name]}, "kept"),
        # The tag goes.
        (
            {
                "action": "issue",
                "name": name,
                "certificate": {**document, "keyType": "rsa-2048", "tags": {}},
                "replace": True,
            },
            "deployed",
        ),
    ]
    try:
        for event, expected in steps:
            said = ask(world, event)
            if "error" in said:
                return f"{event['action']}: {said['error']}"
            [entry] = said["certificates"]
            if entry["outcome"] != expected:
                return (
                    f"{event['action']}: {entry['outcome']} and not {expected}: {entry['reason']}"
                )
        said = ask(world, {"action": "status"})
        if "error" in said:
            return f"status: {said['error']}"
        acm = world.aws.client("acm")
        held = [
            one["CertificateArn"]
            for page in acm.get_paginator("list_certificates").paginate(
                Includes={"keyTypes": ["EC_prime256v1", "RSA_2048"]}
            )
            for one in page["CertificateSummaryList"]
            if one["DomainName"] == f"{name}.example.com"
            or f"{name}.example.com" in one.get("SubjectAlternativeNameSummaries", [])
        ]
        return None if len(held) == 1 else f"{len(held)} certificates are left, not one"
    finally:
        s3.delete_object(Bucket=world.bucket, Key=f"certificates/{name}.json")


def policy(world: World, role: str) -> tuple[str, dict[str, Any]]:
    iam = world.aws.client("iam")
    [name] = iam.list_role_policies(RoleName=role)["PolicyNames"]
    document = iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
    return name, json.loads(document) if isinstance(document, str) else document


class Without:
    """A role's policy without one statement."""

    def __init__(self, world: World, role: str, sid: str):
        self.iam, self.role = world.aws.client("iam"), role
        self.name, self.document = policy(world, role)
        kept = [one for one in self.document["Statement"] if one["Sid"] != sid]
        assert len(kept) == len(self.document["Statement"]) - 1, f"no statement {sid}"
        # IAM accepts no policy without a statement.
        harmless = {
            "Sid": "Nothing",
            "Effect": "Allow",
            "Action": "sts:GetCallerIdentity",
            "Resource": "*",
        }
        self.less = {**self.document, "Statement": kept or [harmless]}

    def put(self, document: dict[str, Any]) -> None:
        self.iam.put_role_policy(
            RoleName=self.role, PolicyName=self.name, PolicyDocument=json.dumps(document)
        )

    def __enter__(self) -> None:
        self.put(self.less)

    def __exit__(self, *_: Any) -> None:
        self.put(self.document)


def actions(document: dict[str, Any]) -> set[str]:
    listed = [one["Action"] for one in document["Statement"]]
    return {action for one in listed for action in ([one] if isinstance(one, str) else one)}


def asked_by(world: World, role: str) -> tuple[set[str], list[dict[str, Any]]]:
    """Returns the actions a role was allowed so far, and the requests it was denied."""
    said = world.aws.local("GET", "permissions")
    mine = f":assumed-role/{role}/"
    allowed = {
        action
        for principal, found in said["allowed"].items()
        if mine in principal
        for action in found
    }
    return allowed, [one for one in said["denied"] if mine in one["principal"]]


def test_a_whole_life_needs_every_action_of_the_role_and_no_other(world: World) -> None:
    world.aws.local("DELETE", "permissions")
    assert trial(world) is None
    allowed, denied = asked_by(world, RENEW)
    assert not denied
    _, document = policy(world, RENEW)
    # Lambda writes the logs in the role's name. Only the event check looks for a web ACL, and it
    # works without.
    needed = {action for action in actions(document) if not action.startswith(("logs:", "wafv2:"))}
    assert {action for action in allowed if not action.startswith("logs:")} == needed
    assert not any("*" in action for action in actions(document))


# Every statement of the role for renew that a life needs. The next test checks that none is missing
# here.
STATEMENTS = [
    "ReadObjects", "WriteObjects", "DeleteObjects", "ListObjects", "EncryptSecrets",
    "ImportNewCertificates", "TagNewCertificates", "ChangeOurCertificates", "ReadCertificates",
    "ListCertificates", "ReadLoadBalancers", "ChangeListeners", "CreateListeners",
    "TagNewListeners", "ReadSecrets",
]  # fmt: skip


def test_every_statement_of_renew_is_tried(world: World) -> None:
    _, document = policy(world, RENEW)
    assert sorted(one["Sid"] for one in document["Statement"]) == sorted(
        [*STATEMENTS, "Log", "ReadWebAcls"]
    )


@pytest.mark.parametrize("sid", STATEMENTS)
def test_without_one_statement_a_life_does_not_succeed(world: World, sid: str) -> None:
    world.aws.local("DELETE", "permissions")
    _, whole = policy(world, RENEW)
    [statement] = [one for one in whole["Statement"] if one["Sid"] == sid]
    with Without(world, RENEW, sid):
        wrong = trial(world)
    assert wrong, f"{sid} is not needed"
    _, denied = asked_by(world, RENEW)
    # Without the permission to list, a missing object is a 403. That is no decision of IAM's to
    # count.
    told = {one["action"] for one in denied} & actions({"Statement": [statement]})
    assert told or sid == "ListObjects" and "AccessDenied" in wrong, (wrong, denied)


@pytest.mark.parametrize("role", [RENEW, CHALLENGE])
def test_without_its_log_statement_a_function_leaves_no_log(world: World, role: str) -> None:
    logs, token = world.aws.client("logs"), f"token-{next(numbers)}"
    event = {
        RENEW: {"action": token},
        CHALLENGE: {
            "requestContext": {"elb": {}},
            "httpMethod": "GET",
            "path": f"/.well-known/acme-challenge/{token}",
            "headers": {},
        },
    }[role]

    def lines() -> int:
        return len(logs.filter_log_events(logGroupName=f"/aws/lambda/{role}")["events"])

    with Without(world, role, "Log"):
        before = lines()
        ask(world, event, role)
        time.sleep(0.5)
        assert lines() == before
    ask(world, event, role)
    until("a line in the log", lambda: lines() > before, 10)


def test_without_its_statement_challenge_answers_nobody(world: World) -> None:
    _, document = policy(world, CHALLENGE)
    assert actions(document) == {"s3:GetObject", "logs:CreateLogStream", "logs:PutLogEvents"}
    with Without(world, CHALLENGE, "ReadTokens"):
        wrong = trial(world)
    assert wrong and "answered 404 instead of 200" in wrong, wrong
    assert trial(world) is None


def test_the_schedule_needs_both_of_its_statements(world: World) -> None:
    role, sqs = "certloop-dev-schedule", world.aws.client("sqs")
    queue = sqs.get_queue_url(QueueName="certloop-dev-dead-letters")["QueueUrl"]

    def undelivered() -> int:
        said = sqs.get_queue_attributes(
            QueueUrl=queue, AttributeNames=["ApproximateNumberOfMessages"]
        )
        return int(said["Attributes"]["ApproximateNumberOfMessages"])

    fire = {"name": "certloop-dev-reconcile", "group": "certloop-dev"}
    assert undelivered() == 0
    with Without(world, role, "InvokeRenew"):
        world.aws.local("POST", "schedule", fire)
        until("a dead letter", lambda: undelivered() == 1, 10)
        with Without(world, role, "LeaveUndelivered"):
            world.aws.local("POST", "schedule", fire)
            time.sleep(1)
            assert undelivered() == 1
    sqs.purge_queue(QueueUrl=queue)


def test_what_acm_says_of_expiry_reaches_the_topic_by_the_role_of_its_rule_alone(
    world: World,
) -> None:
    sns, sqs = world.aws.client("sns"), world.aws.client("sqs")
    lost = sqs.get_queue_url(QueueName="certloop-dev-dead-letters")["QueueUrl"]
    mail = sqs.create_queue(QueueName="mail")["QueueUrl"]
    queue = sqs.get_queue_attributes(QueueUrl=mail, AttributeNames=["QueueArn"])["Attributes"][
        "QueueArn"
    ]
    letter_box = {
        "Effect": "Allow",
        "Principal": {"Service": "sns.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": queue,
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [letter_box]})
    sqs.set_queue_attributes(QueueUrl=mail, Attributes={"Policy": policy})
    [topic] = [
        one["TopicArn"]
        for one in sns.list_topics()["Topics"]
        if one["TopicArn"].endswith(":certloop-dev-alarms")
    ]
    plain = {"RawMessageDelivery": "true"}
    subscription = sns.subscribe(
        TopicArn=topic, Protocol="sqs", Endpoint=queue, Attributes=plain, ReturnSubscriptionArn=True
    )["SubscriptionArn"]
    arn = f"arn:aws:acm:{REGION}:{ACCOUNT}:certificate/0123"
    detail = json.dumps({"DaysToExpiry": 1, "CommonName": "shop.example.com"})
    entry = {
        "Source": "aws.acm",
        "DetailType": "ACM Certificate Approaching Expiration",
        "Resources": [arn],
        "Detail": detail,
    }

    def messages(url: str) -> list[str]:
        found = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
        for one in found:
            sqs.delete_message(QueueUrl=url, ReceiptHandle=one["ReceiptHandle"])
        return [one["Body"] for one in found]

    world.aws.local("POST", "event", {"region": REGION, "entry": entry})
    [told] = until("ACM's event as a message", lambda: messages(mail), 10)
    # The ARN is missing: the stand-in's transformer reads no element of a list.
    assert "(shop.example.com) expires in 1 days" in told, told
    assert messages(lost) == []
    with Without(world, "certloop-dev-expiring", "TellWhatExpires"):
        world.aws.local("POST", "event", {"region": REGION, "entry": entry})
        [letter] = until("a dead letter", lambda: messages(lost), 10)
        assert "shop.example.com" in letter, letter
        assert messages(mail) == []
    sns.unsubscribe(SubscriptionArn=subscription)
    sqs.delete_queue(QueueUrl=mail)


# The permissions of everything besides the functions


def refused(act: Callable[..., Any], **parameters: Any) -> None:
    """Asserts that a call is refused because of a missing permission."""
    with pytest.raises(ClientError) as raised:
        act(**parameters)
    code = raised.value.response["Error"]["Code"]
    assert code in ("AccessDenied", "AccessDeniedException", "403"), raised.value


def session(world: World, role: str) -> tuple[str, str, str]:
    """Credentials of a role. Its trust admits only Lambda: an administrator opens it for a
    moment."""
    iam, sts = world.aws.client("iam"), world.aws.client("sts")
    trust = iam.get_role(RoleName=role)["Role"]["AssumeRolePolicyDocument"]
    trust = json.loads(trust) if isinstance(trust, str) else trust
    me = {
        "Effect": "Allow",
        "Action": "sts:AssumeRole",
        "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:user/administrator"},
    }
    iam.update_assume_role_policy(
        RoleName=role, PolicyDocument=json.dumps({**trust, "Statement": [*trust["Statement"], me]})
    )
    try:
        given = sts.assume_role(
            RoleArn=f"arn:aws:iam::{ACCOUNT}:role/{role}", RoleSessionName="probe"
        )["Credentials"]
    finally:
        iam.update_assume_role_policy(RoleName=role, PolicyDocument=json.dumps(trust))
    return given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"]


@contextmanager
def user(world: World, name: str, policy: str) -> Iterator[tuple[str, str]]:
    """A user with one policy."""
    iam = world.aws.client("iam")
    iam.create_user(UserName=name)
    iam.attach_user_policy(UserName=name, PolicyArn=policy)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    yield key["AccessKeyId"], key["SecretAccessKey"]
    # IAM does not delete a policy that is in use.
    iam.detach_user_policy(UserName=name, PolicyArn=policy)


def keys(world: World, prefix: str) -> list[str]:
    found = world.aws.client("s3", ROOT).list_objects_v2(Bucket=world.bucket, Prefix=prefix)
    return [one["Key"] for one in found.get("Contents", [])]


def test_challenge_can_read_tokens_and_nothing_else(world: World) -> None:
    who = session(world, CHALLENGE)
    s3, root = world.aws.client("s3", who), world.aws.client("s3", ROOT)
    bucket = {"Bucket": world.bucket}
    for prefix in ("vault/", "accounts/", "limits/", "state/", "certificates/", "settings.json"):
        for key in keys(world, prefix)[:2]:
            refused(s3.get_object, **bucket, Key=key)
    refused(s3.list_objects_v2, **bucket)
    refused(s3.list_objects_v2, **bucket, Prefix="challenges/")
    root.put_object(**bucket, Key="challenges/probe", Body=b"probe.thumbprint")
    assert s3.get_object(**bucket, Key="challenges/probe")["Body"].read() == b"probe.thumbprint"
    refused(s3.get_object, **bucket, Key="challenges/not-there")
    refused(s3.put_object, **bucket, Key="challenges/planted", Body=b"x")
    refused(s3.delete_object, **bucket, Key="challenges/probe")
    root.delete_object(**bucket, Key="challenges/probe")
    refused(world.aws.client("acm", who).list_certificates)
    refused(world.aws.client("kms", who).list_keys)
    refused(world.aws.client("lambda", who).invoke, FunctionName=RENEW, Payload=b"{}")


def test_renew_can_touch_no_certificate_that_is_not_ours(world: World) -> None:
    acm, probe = world.aws.client("acm"), world.aws.client("acm", session(world, RENEW))
    material = issue("foreign.example.com").fields()
    others = {"Key": "certloop:installation", "Value": "certloop-prod-123456789012-us-east-1"}
    ours = {"Key": "certloop:installation", "Value": world.bucket}
    foreign = acm.import_certificate(**material)["CertificateArn"]
    production = acm.import_certificate(**material, Tags=[others])["CertificateArn"]
    for arn in (foreign, production):
        refused(probe.delete_certificate, CertificateArn=arn)
        refused(probe.import_certificate, CertificateArn=arn, **material)
    # Claiming another installation's certificate, or importing one without our tag.
    refused(probe.add_tags_to_certificate, CertificateArn=production, Tags=[ours])
    refused(probe.remove_tags_from_certificate, CertificateArn=production, Tags=[others])
    refused(probe.import_certificate, **material)
    refused(probe.import_certificate, **material, Tags=[others])
    refused(probe.export_certificate, CertificateArn=foreign, Passphrase=b"passphrase")
    refused(probe.request_certificate, DomainName="foreign.example.com")
    for arn in (foreign, production):
        acm.delete_certificate(CertificateArn=arn)


def test_renew_can_touch_no_listener_that_is_not_ours(world: World) -> None:
    elb, who = world.aws.client("elbv2"), session(world, RENEW)
    probe = world.aws.client("elbv2", who)
    acm = world.aws.client("acm")
    certificate = acm.import_certificate(**issue("foreign.example.com").fields())["CertificateArn"]
    subnets = [one["SubnetId"] for one in world.aws.client("ec2").describe_subnets()["Subnets"]][:2]
    other = elb.create_load_balancer(Name="other", Subnets=subnets)["LoadBalancers"][0][
        "LoadBalancerArn"
    ]
    nowhere = [{"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "404"}}]
    held = [{"CertificateArn": certificate}]
    secure = {"Protocol": "HTTPS", "Certificates": held, "DefaultActions": nowhere}
    listener = elb.create_listener(LoadBalancerArn=other, Port=443, **secure)["Listeners"][0][
        "ListenerArn"
    ]
    tags = [{"Key": "certloop:installation", "Value": world.bucket}]
    refused(probe.add_listener_certificates, ListenerArn=listener, Certificates=held)
    refused(probe.remove_listener_certificates, ListenerArn=listener, Certificates=held)
    refused(probe.modify_listener, ListenerArn=listener, Certificates=held)
    refused(probe.create_listener, LoadBalancerArn=other, Port=8443, Tags=tags, **secure)
    # On our own load balancer: no listener without our tag, none without TLS, no deletion, no rule.
    mine = world.load_balancer_arn
    refused(probe.create_listener, LoadBalancerArn=mine, Port=8443, **secure)
    refused(
        probe.create_listener,
        LoadBalancerArn=mine,
        Port=8080,
        Protocol="HTTP",
        DefaultActions=nowhere,
        Tags=tags,
    )
    [plain] = [
        one
        for one in elb.describe_listeners(LoadBalancerArn=mine)["Listeners"]
        if one["Port"] == 80
    ]
    refused(probe.delete_listener, ListenerArn=plain["ListenerArn"])
    refused(
        probe.create_rule,
        ListenerArn=plain["ListenerArn"],
        Priority=7,
        Actions=nowhere,
        Conditions=[{"Field": "path-pattern", "Values": ["/x"]}],
    )
    refused(probe.add_tags, ResourceArns=[plain["ListenerArn"]], Tags=tags)
    refused(probe.delete_load_balancer, LoadBalancerArn=mine)
    elb.delete_load_balancer(LoadBalancerArn=other)


def test_renew_can_read_no_other_secret_bucket_or_key(world: World) -> None:
    who = session(world, RENEW)
    secrets = world.aws.client("secretsmanager")
    other = secrets.create_secret(Name="somebody-elses", SecretString="x")["ARN"]
    refused(world.aws.client("secretsmanager", who).get_secret_value, SecretId=other)
    s3 = world.aws.client("s3", who)
    world.aws.client("s3").create_bucket(Bucket="somebody-elses")
    world.aws.client("s3").put_object(Bucket="somebody-elses", Key="state/x.json", Body=b"{}")
    refused(s3.get_object, Bucket="somebody-elses", Key="state/x.json")
    refused(s3.put_object, Bucket=world.bucket, Key="settings.json", Body=b"{}")
    refused(s3.delete_object, Bucket=world.bucket, Key="settings.json")
    refused(s3.delete_object, Bucket=world.bucket, Key=keys(world, "accounts/")[0])
    refused(s3.delete_bucket_policy, Bucket=world.bucket)
    kms = world.aws.client("kms", who)
    [key] = [one["KeyId"] for one in world.aws.client("kms").list_keys()["Keys"]]
    refused(kms.generate_data_key, KeyId=key, KeySpec="AES_256")
    refused(world.aws.client("iam", who).list_roles)
    world.aws.client("s3").delete_object(Bucket="somebody-elses", Key="state/x.json")
    world.aws.client("s3").delete_bucket(Bucket="somebody-elses")


def test_an_administrator_writes_documents_and_neither_plants_tokens_nor_reads_keys(
    world: World,
) -> None:
    s3 = world.aws.client("s3")
    bucket = {"Bucket": world.bucket}
    for key in (
        "challenges/planted",
        "state/site.json",
        "accounts/mine.json",
        "limits/mine.json",
        "vault/site/0.json",
        "elsewhere",
    ):
        refused(s3.put_object, **bucket, Key=key, Body=b"x")
    for prefix in ("vault/", "accounts/", "limits/", "state/", "challenges/"):
        found = (
            world.aws.client("s3", ROOT)
            .list_objects_v2(**bucket, Prefix=prefix)
            .get("Contents", [])
        )
        for one in found[:2]:
            refused(s3.get_object, **bucket, Key=one["Key"])
            refused(s3.delete_object, **bucket, Key=one["Key"])
            refused(s3.put_object_acl, **bucket, Key=one["Key"], ACL="public-read")
            refused(
                s3.copy_object,
                **bucket,
                Key="certificates/stolen.json",
                CopySource={**bucket, "Key": one["Key"]},
            )
    for key in ("settings.json", "certificates/site.json"):
        body = s3.get_object(**bucket, Key=key)["Body"].read()
        s3.put_object(**bucket, Key=key, Body=body)


def test_a_host_pulls_its_own_certificate_and_no_other(world: World) -> None:
    pull = f"arn:aws:iam::{ACCOUNT}:policy/certloop-dev-pull-site"
    with user(world, "web-host", pull) as who, user(world, "another-host", pull) as other:
        pulls(world, who, other)


def pulls(world: World, who: tuple[str, str], other: tuple[str, str]) -> None:
    s3 = world.aws.client("s3", who)
    bucket = {"Bucket": world.bucket}
    listed = [one["Key"] for one in s3.list_objects_v2(**bucket, Prefix="vault/site/")["Contents"]]
    [entry] = [key for key in listed if not key.endswith("pending.json")][-1:]
    assert "PRIVATE KEY" in s3.get_object(**bucket, Key=entry)["Body"].read().decode()
    refused(s3.list_objects_v2, **bucket, Prefix="vault/")
    refused(s3.put_object, **bucket, Key=entry, Body=b"x")
    # Its record says which of them should be served. A missing record is not "forbidden".
    assert (
        json.load(s3.get_object(**bucket, Key="state/site.json")["Body"])["certificate"]["serial"]
        in entry
    )
    refused(s3.put_object, **bucket, Key="state/site.json", Body=b"x")
    for prefix in ("vault/blog/", "accounts/", "limits/", "state/blog"):
        for key in keys(world, prefix)[:1]:
            refused(s3.get_object, **bucket, Key=key)
    # The policy alone is not enough: the bucket must name the principal too.
    refused(world.aws.client("s3", other).get_object, **bucket, Key=entry)
    refused(world.aws.client("s3", other).get_object, **bucket, Key="state/site.json")


def test_viewers_look_and_operators_do(world: World) -> None:
    with (
        user(world, "viewer", world.policies["view"]) as viewer,
        user(world, "operator", world.policies["operate"]) as operator,
    ):
        views_and_operates(world, viewer, operator)


def views_and_operates(world: World, viewer: tuple[str, str], operator: tuple[str, str]) -> None:
    status, some = {"action": "status"}, {"action": "reconcile", "certificates": ["site"]}
    assert ask(world, status, f"{RENEW}:view", viewer)["total"] >= 1
    said = ask(world, some, f"{RENEW}:view", viewer)
    assert said["errorType"] == "certloop.NotPermitted", said
    for function in (RENEW, f"{RENEW}:$LATEST", CHALLENGE):
        refused(world.aws.client("lambda", viewer).invoke, FunctionName=function, Payload=b"{}")
    assert ask(world, some, RENEW, operator)["certificates"][0]["name"] == "site"
    refused(world.aws.client("lambda", operator).invoke, FunctionName=CHALLENGE, Payload=b"{}")
    for who in (viewer, operator):
        refused(
            world.aws.client("lambda", who).update_function_code, FunctionName=RENEW, ZipFile=b"x"
        )
        refused(
            world.aws.client("s3", who).put_object,
            Bucket=world.bucket,
            Key="settings.json",
            Body=b"{}",
        )
        refused(world.aws.client("s3", who).get_object, Bucket=world.bucket, Key="state/site.json")
    refused(world.aws.client("s3", viewer).get_object, Bucket=world.bucket, Key="settings.json")
    edits(world, operator)


def test_editors_write_documents_and_do_nothing_else(world: World) -> None:
    with user(world, "editor", world.policies["edit"]) as editor:
        edits(world, editor)
        refused(
            world.aws.client("lambda", editor).invoke, FunctionName=f"{RENEW}:view", Payload=b"{}"
        )


def edits(world: World, who: tuple[str, str]) -> None:
    s3 = world.aws.client("s3", who)
    bucket = {"Bucket": world.bucket}
    assert json.load(s3.get_object(**bucket, Key="settings.json")["Body"])["authorities"]
    body = s3.get_object(**bucket, Key="certificates/site.json")["Body"].read()
    s3.put_object(**bucket, Key="certificates/site.json", Body=body)
    with pytest.raises(ClientError) as missing:
        s3.get_object(**bucket, Key="certificates/not-there.json")
    assert missing.value.response["Error"]["Code"] == "NoSuchKey"
    refused(s3.put_object, **bucket, Key="settings.json", Body=b"{}")
    refused(s3.delete_object, **bucket, Key="certificates/site.json")
    for key in ("state/site.json", *keys(world, "vault/")[:1], *keys(world, "accounts/")[:1]):
        refused(s3.get_object, **bucket, Key=key)
        refused(s3.put_object, **bucket, Key=key, Body=b"x")
    refused(s3.put_object, **bucket, Key="challenges/planted", Body=b"x")
