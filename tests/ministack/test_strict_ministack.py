"""One test for each thing that AWS refuses or does and ministack does not, and for `/_local/`."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path
from typing import Any, Callable, Iterator

import boto3
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "aws"))

from pki import issue, pem, root  # noqa: E402  (tests/aws/pki.py)

REGION = "eu-west-1"
ACCOUNT = "123456789012"
ROOT = ("test", "test")
ADMINISTRATOR = ("AKIAADMINISTRATOR000", "administrator")
NOWHERE = {
    "Type": "fixed-response",
    "FixedResponseConfig": {"StatusCode": "404", "ContentType": "text/plain", "MessageBody": "no"},
}
REDIRECT = {
    "Type": "redirect",
    "RedirectConfig": {"Protocol": "HTTPS", "Port": "443", "StatusCode": "HTTP_301"},
}

# A function that answers with its event and its environment. `event["call"]` makes it call AWS with
# its role.
BOOTSTRAP = f"""#!{sys.executable}
import json, os, time, urllib.request
api = "http://" + os.environ["AWS_LAMBDA_RUNTIME_API"] + "/2018-06-01/runtime/invocation/"
while True:
    with urllib.request.urlopen(api + "next") as asked:
        event, headers = json.load(asked), asked.headers
    id = headers["Lambda-Runtime-Aws-Request-Id"]
    if isinstance(event, dict) and event.get("sleep"):
        time.sleep(event["sleep"])
    if isinstance(event, dict) and event.get("fail"):
        answer, end = {{"errorMessage": "as told", "errorType": "Told"}}, "error"
    else:
        if isinstance(event, dict) and event.get("say"):
            print(event["say"], flush=True)
        seen = {{
            "event": event,
            "arn": headers["Lambda-Runtime-Invoked-Function-Arn"],
            "remaining": int(headers["Lambda-Runtime-Deadline-Ms"]) / 1000 - time.time(),
            "environment": dict(os.environ),
        }}
        many = isinstance(event, dict) and "multiValueHeaders" in event
        answer, end = {{"statusCode": 200, "body": json.dumps(seen), **seen}}, "response"
        kind = {{"headers": {{"x-one": "a"}}}}
        if many:
            kind = {{"multiValueHeaders": {{"x-many": ["a", "b"]}}}}
        answer.update(kind)
    body = json.dumps(answer).encode()
    urllib.request.urlopen(urllib.request.Request(api + id + "/" + end, body))
"""


def start(folder: Path, *more: str) -> tuple[subprocess.Popen[bytes], int]:
    process = subprocess.Popen(
        [
            sys.executable,
            str(HERE / "strict_ministack.py"),
            "--folder",
            str(folder),
            "--watch-stdin",
            *more,
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert process.stdout
    for line in process.stdout:
        if line.startswith(b"listening "):
            return process, int(line.split()[1])
    raise AssertionError("it did not start")


class Cloud:
    """A running stand-in, its clients, and the things tests do over and over."""

    def __init__(self, port: int):
        self.port = port
        self.count = 0
        self.known: dict[Any, Any] = {}

    def client(
        self, service: str, who: tuple[str, ...] = ADMINISTRATOR, region: str = REGION
    ) -> Any:
        if (service, who, region) not in self.known:
            self.known[service, who, region] = boto3.client(
                service,
                region_name=region,
                endpoint_url=f"http://127.0.0.1:{self.port}",
                aws_access_key_id=who[0],
                aws_secret_access_key=who[1],
                aws_session_token=who[2] if len(who) > 2 else None,
                config=Config(retries={"total_max_attempts": 1}),
            )
        return self.known[service, who, region]

    def __getattr__(self, service: str) -> Any:
        if service.startswith("_"):
            raise AttributeError(service)
        return self.client({"elb": "elbv2", "function": "lambda"}.get(service, service))

    def name(self, what: str = "a") -> str:
        self.count += 1
        return f"{what}{self.count}"

    def local(self, method: str, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/_local/{path}",
            method=method,
            data=json.dumps(body).encode() if body else None,
        )
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    def query(self, service: str, params: dict[str, str]) -> str:
        """A call in the protocol of Terraform's provider, where boto3 uses a newer one."""
        url = f"http://127.0.0.1:{self.port}/"
        request = AWSRequest(
            "POST", url, data=params, headers={"content-type": "application/x-www-form-urlencoded"}
        )
        SigV4Auth(Credentials(*ADMINISTRATOR), service, REGION).add_auth(request)
        sent = request.prepare()
        with urllib.request.urlopen(
            urllib.request.Request(url, sent.body.encode(), dict(sent.headers.items()))
        ) as answer:
            return answer.read().decode()

    def imported(self, *names: str, tags: dict[str, str] | None = None, **how: Any) -> str:
        given = issue(*(names or ("a.example",)), **how).fields()
        if tags:
            given["Tags"] = to_tags(tags)
        return self.acm.import_certificate(**given)["CertificateArn"]

    def balancer(self) -> str:
        subnets = [one["SubnetId"] for one in self.ec2.describe_subnets()["Subnets"]][:2]
        found = self.elb.create_load_balancer(Name=self.name("front"), Subnets=subnets)
        return found["LoadBalancers"][0]["LoadBalancerArn"]

    def listener(
        self, balancer: str, port: int = 443, certificate: str | None = None, **more: Any
    ) -> str:
        given = (
            {"Protocol": "HTTPS", "Certificates": [{"CertificateArn": certificate}]}
            if certificate
            else {"Protocol": "HTTP"}
        )
        made = self.elb.create_listener(
            **{
                "LoadBalancerArn": balancer,
                "Port": port,
                "DefaultActions": [NOWHERE],
                **given,
                **more,
            }
        )
        return made["Listeners"][0]["ListenerArn"]

    def listed(self, listener: str) -> list[tuple[str, bool]]:
        pages = self.elb.get_paginator("describe_listener_certificates").paginate(
            ListenerArn=listener
        )
        return [
            (one["CertificateArn"], one["IsDefault"])
            for page in pages
            for one in page["Certificates"]
        ]

    def add(self, listener: str, certificate: str) -> None:
        self.elb.add_listener_certificates(
            ListenerArn=listener, Certificates=[{"CertificateArn": certificate}]
        )

    def remove(self, listener: str, certificate: str) -> None:
        self.elb.remove_listener_certificates(
            ListenerArn=listener, Certificates=[{"CertificateArn": certificate}]
        )

    def role(
        self, *statements: dict[str, Any], service: str = "lambda.amazonaws.com", **condition: Any
    ) -> str:
        trust = {
            "Effect": "Allow",
            "Action": "sts:AssumeRole",
            "Principal": {"Service": service, "AWS": ACCOUNT},
            **condition,
        }
        name = self.name("role")
        arn = self.iam.create_role(RoleName=name, AssumeRolePolicyDocument=document(trust))["Role"][
            "Arn"
        ]
        if statements:
            self.iam.put_role_policy(
                RoleName=name, PolicyName="p", PolicyDocument=document(*statements)
            )
        return arn

    def assumed(self, *statements: dict[str, Any]) -> tuple[str, ...]:
        """Credentials of a role that may do only this."""
        return self.session(self.role(*statements))

    def session(self, role: str) -> tuple[str, ...]:
        found = self.sts.assume_role(RoleArn=role, RoleSessionName="test")["Credentials"]
        return found["AccessKeyId"], found["SecretAccessKey"], found["SessionToken"]

    def bucket(self) -> str:
        name = self.name("certloop-test-")
        self.s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
        return name

    def deployed(self, role: str | None = None, **more: Any) -> str:
        package = io.BytesIO()
        with zipfile.ZipFile(package, "w") as file:
            entry = zipfile.ZipInfo("bootstrap")
            entry.external_attr = 0o755 << 16
            file.writestr(entry, BOOTSTRAP)
        made = self.function.create_function(
            FunctionName=self.name("function"),
            Role=role or self.role(LOGS),
            Runtime="provided.al2023",
            Handler="bootstrap",
            Code={"ZipFile": package.getvalue()},
            **more,
        )
        return made["FunctionArn"]

    def invoked(self, function: str, event: Any = None, **more: Any) -> Any:
        answer = self.function.invoke(FunctionName=function, Payload=json.dumps(event), **more)
        return json.load(answer["Payload"])

    def logged(self, function: str) -> str:
        """The content of a function's log group."""
        group = f"/aws/lambda/{function.split(':')[6]}"
        try:
            streams = self.logs.describe_log_streams(logGroupName=group)["logStreams"]
        except ClientError:
            return ""
        events = [
            self.logs.get_log_events(logGroupName=group, logStreamName=one["logStreamName"])
            for one in streams
        ]
        return "\n".join(event["message"] for found in events for event in found["events"])

    def ran(self, function: str, seconds: float = 5) -> bool:
        return eventually(lambda: "REPORT" in self.logged(function), seconds)

    def queue(self) -> tuple[str, str]:
        url = self.sqs.create_queue(QueueName=self.name("queue"))["QueueUrl"]
        found = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        return url, found["Attributes"]["QueueArn"]

    def received(self, url: str) -> list[str]:
        return [one["Body"] for one in self.sqs.receive_message(QueueUrl=url).get("Messages", [])]


LOGS = {
    "Effect": "Allow",
    "Action": "logs:*",
    "Resource": f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/aws/lambda/*:*",
}


def document(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def allow(*actions: str, on: str | list[str] = "*", **condition: Any) -> dict[str, Any]:
    return {
        "Effect": "Allow",
        "Action": list(actions),
        "Resource": on,
        **({"Condition": condition} if condition else {}),
    }


def to_tags(tags: dict[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def refused(code: str, call: Callable[..., Any], *args: Any, **given: Any) -> str:
    with pytest.raises(ClientError) as problem:
        call(*args, **given)
    assert problem.value.response["Error"]["Code"] == code, problem.value
    return problem.value.response["Error"]["Message"]


def eventually(true: Callable[[], Any], seconds: float = 5) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if true():
            return True
        time.sleep(0.05)
    return False


def fetch(url: str, host: str = "", method: str = "GET") -> tuple[int, Any, bytes]:
    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: Any) -> None:
            return None

    request = urllib.request.Request(url, headers={"Host": host} if host else {}, method=method)
    try:
        with urllib.request.build_opener(Stay).open(request) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as answer:
        return answer.code, answer.headers, answer.read()


def free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"127.0.0.1:{free.getsockname()[1]}"


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    process, port = start(tmp_path_factory.mktemp("ministack"))
    yield Cloud(port)
    assert process.stdin
    process.stdin.close()
    assert process.wait(10) == 0


# Certificate Manager: tests/aws/test_strict_aws.py has a test for each rule of the module that both
# stand-ins use


def test_an_import_is_judged(cloud: Cloud) -> None:
    given = issue("a.example").fields(
        PrivateKey=issue("b.example", number=1).fields()["PrivateKey"]
    )
    refused("ValidationException", cloud.acm.import_certificate, **given)
    given = issue("a.example").fields(CertificateChain=None)
    refused("ValidationException", cloud.acm.import_certificate, **given)


def test_a_certificate_is_described_as_it_is(cloud: Cloud) -> None:
    material = issue("a.example", "b.example", serial=0x0ABC, kind="p384")
    arn = cloud.acm.import_certificate(**material.fields())["CertificateArn"]
    assert arn.startswith(f"arn:aws:acm:{REGION}:{ACCOUNT}:certificate/")
    found = cloud.acm.describe_certificate(CertificateArn=arn)["Certificate"]
    assert found["SubjectAlternativeNames"] == ["a.example", "b.example"]
    assert (found["Serial"], found["KeyAlgorithm"], found["Type"]) == (
        "0a:bc",
        "EC_secp384r1",
        "IMPORTED",
    )
    assert found["KeyUsages"] == [{"Name": "DIGITAL_SIGNATURE"}]
    assert found["NotAfter"].timestamp() == material.leaf.not_valid_after_utc.timestamp()
    answer = cloud.acm.get_certificate(CertificateArn=arn)
    assert answer["CertificateChain"].encode() == pem(material.chain[0])


def test_importing_again_keeps_tags_and_refuses_them(cloud: Cloud) -> None:
    arn = cloud.imported(tags={"certloop:certificate": "a"})
    again = issue("a.example", number=1).fields(CertificateArn=arn)
    cloud.acm.import_certificate(**again)
    assert cloud.acm.list_tags_for_certificate(CertificateArn=arn)["Tags"] == to_tags(
        {"certloop:certificate": "a"}
    )
    refused("ValidationException", cloud.acm.import_certificate, **again, Tags=to_tags({"a": "b"}))
    other = issue("a.example", kind="rsa2048").fields(CertificateArn=arn)
    assert "different key type" in refused(
        "ValidationException", cloud.acm.import_certificate, **other
    )


def test_only_rsa_2048_is_listed_unasked(cloud: Cloud) -> None:
    arns = {kind: cloud.imported(kind=kind) for kind in ("p256", "rsa2048", "rsa3072")}
    everything = ["RSA_2048", "RSA_3072", "EC_prime256v1"]

    def listed(**more: Any) -> set[str]:
        pages = cloud.acm.get_paginator("list_certificates").paginate(**more)
        return {one["CertificateArn"] for page in pages for one in page["CertificateSummaryList"]}

    assert listed() & set(arns.values()) == {arns["rsa2048"]}
    assert set(arns.values()) <= listed(
        Includes={"keyTypes": everything}, PaginationConfig={"PageSize": 1}
    )


def test_a_certificate_in_use_says_by_whom_and_stays(cloud: Cloud) -> None:
    default, listed = cloud.imported(), cloud.imported()
    balancer = cloud.balancer()
    listener = cloud.listener(balancer, certificate=default)
    cloud.add(listener, listed)
    for arn in (default, listed):
        assert cloud.acm.describe_certificate(CertificateArn=arn)["Certificate"]["InUseBy"] == [
            balancer
        ]
        refused("ResourceInUseException", cloud.acm.delete_certificate, CertificateArn=arn)
    cloud.elb.delete_load_balancer(LoadBalancerArn=balancer)
    cloud.acm.delete_certificate(CertificateArn=default)
    refused("ResourceNotFoundException", cloud.acm.describe_certificate, CertificateArn=default)
    refused("ResourceNotFoundException", cloud.acm.delete_certificate, CertificateArn=default)
    refused("ListenerNotFound", cloud.elb.describe_listeners, ListenerArns=[listener])


# Listeners


def test_the_default_certificate_and_the_list_are_apart(cloud: Cloud) -> None:
    first, second, third = (cloud.imported() for _ in range(3))
    listener = cloud.listener(cloud.balancer(), certificate=first)
    cloud.add(listener, second)
    cloud.add(listener, second)
    assert cloud.listed(listener) == [(first, True), (second, False)]
    cloud.elb.modify_listener(ListenerArn=listener, Certificates=[{"CertificateArn": third}])
    assert cloud.listed(listener) == [(third, True), (second, False)]
    shown = cloud.elb.describe_listeners(ListenerArns=[listener])["Listeners"][0]
    assert shown["Certificates"] == [{"CertificateArn": third}]
    cloud.add(listener, third)
    assert cloud.listed(listener) == [(third, True), (second, False), (third, False)]
    page = cloud.elb.describe_listener_certificates(ListenerArn=listener, PageSize=2)
    assert len(page["Certificates"]) == 2 and page["NextMarker"]


def test_the_default_certificate_cannot_be_removed(cloud: Cloud) -> None:
    default, listed = cloud.imported(), cloud.imported()
    listener = cloud.listener(cloud.balancer(), certificate=default)
    cloud.add(listener, listed)
    refused("OperationNotPermitted", cloud.remove, listener, default)
    cloud.remove(listener, listed)
    cloud.remove(listener, listed)
    assert cloud.listed(listener) == [(default, True)]


def test_unknown_certificates_are_refused(cloud: Cloud) -> None:
    known = cloud.imported()
    gone = known[:-1] + ("0" if known[-1] != "0" else "1")
    balancer = cloud.balancer()
    refused("CertificateNotFound", cloud.listener, balancer, certificate=gone)
    listener = cloud.listener(balancer, certificate=known)
    refused("CertificateNotFound", cloud.add, listener, gone)
    refused(
        "CertificateNotFound",
        cloud.elb.modify_listener,
        ListenerArn=listener,
        Certificates=[{"CertificateArn": gone}],
    )
    elsewhere = cloud.client("acm", region="us-east-1").import_certificate(
        **issue("a.example").fields()
    )["CertificateArn"]
    refused("CertificateNotFound", cloud.add, listener, elsewhere)


def test_25_certificates_beside_the_default(cloud: Cloud) -> None:
    listener = cloud.listener(cloud.balancer(), certificate=cloud.imported())
    for _ in range(25):
        cloud.add(listener, cloud.imported())
    refused("TooManyCertificates", cloud.add, listener, cloud.imported())


def test_what_a_listener_must_have(cloud: Cloud) -> None:
    certificate, balancer = cloud.imported(), cloud.balancer()
    refused("ValidationError", cloud.listener, balancer, Protocol="HTTPS")
    refused("ValidationError", cloud.listener, balancer, certificate=certificate, Protocol="HTTP")
    refused(
        "SSLPolicyNotFound",
        cloud.listener,
        balancer,
        certificate=certificate,
        SslPolicy="ELBSecurityPolicy-Best",
    )
    listener = cloud.listener(
        balancer,
        certificate=certificate,
        SslPolicy="ELBSecurityPolicy-TLS13-1-2-2021-06",
        Tags=to_tags({"a": "b"}),
    )
    assert cloud.elb.describe_tags(ResourceArns=[listener])["TagDescriptions"][0][
        "Tags"
    ] == to_tags({"a": "b"})
    refused("DuplicateListener", cloud.listener, balancer, certificate=certificate)
    refused("ListenerNotFound", cloud.elb.describe_listeners, ListenerArns=[listener[:-1] + "_"])
    refused("LoadBalancerNotFound", cloud.elb.describe_listeners, LoadBalancerArn=balancer + "0")


def test_a_priority_is_used_once(cloud: Cloud) -> None:
    listener = cloud.listener(cloud.balancer(), port=80)
    rule = {"Conditions": [{"Field": "path-pattern", "Values": ["/a*"]}], "Actions": [NOWHERE]}
    first = cloud.elb.create_rule(ListenerArn=listener, Priority=2, **rule)["Rules"][0]["RuleArn"]
    refused("PriorityInUse", cloud.elb.create_rule, ListenerArn=listener, Priority=2, **rule)
    second = cloud.elb.create_rule(ListenerArn=listener, Priority=1, **rule)["Rules"][0]["RuleArn"]
    refused(
        "PriorityInUse",
        cloud.elb.set_rule_priorities,
        RulePriorities=[{"RuleArn": second, "Priority": 2}],
    )
    shown = cloud.elb.describe_rules(ListenerArn=listener)["Rules"]
    assert [one["Priority"] for one in shown] == ["1", "2", "default"]
    assert shown[1]["RuleArn"] == first
    refused("RuleNotFound", cloud.elb.delete_rule, RuleArn=first[:-1] + "_")


def test_a_target_group_serves_one_load_balancer(cloud: Cloud) -> None:
    made = cloud.elb.create_target_group(Name=cloud.name("group"), TargetType="lambda")[
        "TargetGroups"
    ][0]
    assert "Port" not in made
    group = made["TargetGroupArn"]
    first = cloud.balancer()
    forward = [{"Type": "forward", "TargetGroupArn": group}]
    listener = cloud.listener(first, port=80, DefaultActions=forward)
    found = cloud.elb.describe_target_groups(TargetGroupArns=[group])["TargetGroups"][0]
    assert found["LoadBalancerArns"] == [first]
    refused(
        "TargetGroupAssociationLimit",
        cloud.listener,
        cloud.balancer(),
        port=80,
        DefaultActions=forward,
    )
    refused("ResourceInUse", cloud.elb.delete_target_group, TargetGroupArn=group)
    cloud.elb.delete_listener(ListenerArn=listener)
    cloud.elb.delete_target_group(TargetGroupArn=group)


# Permissions


def test_a_first_import_is_asked_for_by_certificate_and_tag(cloud: Cloud) -> None:
    mine = {"aws:RequestTag/certloop:installation": "mine"}
    all_certificates = f"arn:aws:acm:*:{ACCOUNT}:certificate/*"
    may = cloud.assumed(
        allow(
            "acm:ImportCertificate",
            "acm:AddTagsToCertificate",
            on=all_certificates,
            StringEquals=mine,
        )
    )
    acm, given = cloud.client("acm", may), issue("a.example").fields()
    acm.import_certificate(**given, Tags=to_tags({"certloop:installation": "mine"}))
    refused(
        "AccessDeniedException",
        acm.import_certificate,
        **given,
        Tags=to_tags({"certloop:installation": "other"}),
    )
    refused("AccessDeniedException", acm.import_certificate, **given)


def test_tags_at_an_import_need_a_permission_of_their_own(cloud: Cloud) -> None:
    acm = cloud.client("acm", cloud.assumed(allow("acm:ImportCertificate")))
    given = issue("a.example").fields()
    acm.import_certificate(**given)
    assert "AddTagsToCertificate" in refused(
        "AccessDeniedException", acm.import_certificate, **given, Tags=to_tags({"a": "b"})
    )


def test_a_certificate_is_changed_by_its_tags(cloud: Cloud) -> None:
    mine = {"aws:ResourceTag/certloop:installation": "mine"}
    acm = cloud.client(
        "acm",
        cloud.assumed(allow("acm:ImportCertificate", "acm:DeleteCertificate", StringEquals=mine)),
    )
    ours, theirs = (
        cloud.imported(tags={"certloop:installation": whose}) for whose in ("mine", "other")
    )
    again = issue("a.example", number=1).fields()
    acm.import_certificate(**again, CertificateArn=ours)
    refused("AccessDeniedException", acm.import_certificate, **again, CertificateArn=theirs)
    refused("AccessDeniedException", acm.delete_certificate, CertificateArn=theirs)
    acm.delete_certificate(CertificateArn=ours)


def test_a_listener_is_changed_by_its_tags_and_arn(cloud: Cloud) -> None:
    balancer, certificate = cloud.balancer(), cloud.imported()
    ours = cloud.listener(
        balancer, certificate=certificate, Tags=to_tags({"certloop:installation": "mine"})
    )
    theirs = cloud.listener(balancer, port=444, certificate=certificate)
    pattern = balancer.replace(":loadbalancer/", ":listener/") + "/*"
    mine = {"aws:ResourceTag/certloop:installation": "mine"}
    who = cloud.assumed(
        allow("elasticloadbalancing:AddListenerCertificates", on=pattern, StringEquals=mine),
        allow("elasticloadbalancing:AddTags", on=pattern),
    )
    elb = cloud.client("elbv2", who)
    added = [{"CertificateArn": certificate}]
    elb.add_listener_certificates(ListenerArn=ours, Certificates=added)
    refused("AccessDenied", elb.add_listener_certificates, ListenerArn=theirs, Certificates=added)
    elb.add_tags(ResourceArns=[ours], Tags=to_tags({"a": "b"}))
    refused("AccessDenied", elb.add_tags, ResourceArns=[balancer], Tags=to_tags({"a": "b"}))


def test_descriptions_of_load_balancers_know_no_resource(cloud: Cloud) -> None:
    balancer = cloud.balancer()
    scoped = cloud.client(
        "elbv2", cloud.assumed(allow("elasticloadbalancing:Describe*", on=balancer))
    )
    refused("AccessDenied", scoped.describe_listeners, LoadBalancerArn=balancer)
    cloud.client(
        "elbv2", cloud.assumed(allow("elasticloadbalancing:Describe*"))
    ).describe_listeners(LoadBalancerArn=balancer)


def test_a_listener_with_tags_needs_add_tags(cloud: Cloud) -> None:
    certificate, balancer = cloud.imported(), cloud.balancer()
    create = allow(
        "elasticloadbalancing:CreateListener",
        on=balancer,
        StringEquals={
            "aws:RequestTag/certloop:installation": "mine",
            "elasticloadbalancing:ListenerProtocol": "HTTPS",
        },
    )
    tag = allow(
        "elasticloadbalancing:AddTags",
        on=balancer.replace(":loadbalancer/", ":listener/") + "/*",
        StringEquals={"elasticloadbalancing:CreateAction": "CreateListener"},
    )
    given = {
        "LoadBalancerArn": balancer,
        "Port": 443,
        "Protocol": "HTTPS",
        "DefaultActions": [NOWHERE],
        "Certificates": [{"CertificateArn": certificate}],
        "Tags": to_tags({"certloop:installation": "mine"}),
    }
    message = refused(
        "AccessDenied", cloud.client("elbv2", cloud.assumed(create)).create_listener, **given
    )
    assert "CreateListener" in message or "AddTags" in message
    elb = cloud.client("elbv2", cloud.assumed(create, tag))
    plain = {**given, "Protocol": "HTTP", "Port": 80}
    del plain["Certificates"]
    refused("AccessDenied", elb.create_listener, **plain)
    made = elb.create_listener(**given)["Listeners"][0]["ListenerArn"]
    refused("AccessDenied", elb.add_tags, ResourceArns=[made], Tags=to_tags({"a": "b"}))


def encrypted(cloud: Cloud, bucket: str) -> tuple[str, dict[str, str]]:
    key = cloud.kms.create_key()["KeyMetadata"]["Arn"]
    return key, {"Bucket": bucket, "ServerSideEncryption": "aws:kms", "SSEKMSKeyId": key}


def test_s3_uses_a_key_with_the_callers_permissions(cloud: Cloud) -> None:
    bucket = cloud.bucket()
    key, given = encrypted(cloud, bucket)
    objects = allow("s3:GetObject", "s3:PutObject", on=f"arn:aws:s3:::{bucket}/*")

    def may(**condition: Any) -> Any:
        return cloud.client(
            "s3",
            cloud.assumed(
                objects, allow("kms:GenerateDataKey", "kms:Decrypt", on=key, **condition)
            ),
        )

    none = cloud.client("s3", cloud.assumed(objects))
    assert "kms:GenerateDataKey" in refused("AccessDenied", none.put_object, Key="vault/a", **given)
    none.put_object(Bucket=bucket, Key="challenges/a")
    conditions = {
        "StringEquals": {"kms:ViaService": f"s3.{REGION}.amazonaws.com"},
        "StringLike": {"kms:EncryptionContext:aws:s3:arn": f"arn:aws:s3:::{bucket}/vault/*"},
    }
    some = may(**conditions)
    some.put_object(Key="vault/a", Body=b"secret", **given)
    refused("AccessDenied", some.put_object, Key="accounts/a", **given)
    refused(
        "AccessDenied",
        may(StringEquals={"kms:ViaService": "sqs.amazonaws.com"}).put_object,
        Key="vault/a",
        **given,
    )
    assert some.get_object(Bucket=bucket, Key="vault/a")["Body"].read() == b"secret"
    assert "kms:Decrypt" in refused("AccessDenied", none.get_object, Bucket=bucket, Key="vault/a")
    none.head_object(Bucket=bucket, Key="vault/a")
    directly = cloud.client(
        "kms", cloud.assumed(allow("kms:GenerateDataKey", on=key, **conditions))
    )
    refused("AccessDeniedException", directly.generate_data_key, KeyId=key, KeySpec="AES_256")


def test_a_key_policy_is_asked_too(cloud: Cloud) -> None:
    bucket = cloud.bucket()
    key, given = encrypted(cloud, bucket)
    statement = {
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"},
        "Resource": "*",
    }
    through = {"StringLike": {"kms:EncryptionContext:aws:s3:arn": f"arn:aws:s3:::{bucket}/vault/*"}}
    use = {**statement, "Action": ["kms:Decrypt", "kms:GenerateDataKey"], "Condition": through}
    cloud.kms.put_key_policy(
        KeyId=key,
        Policy=document({**statement, "Action": "kms:PutKeyPolicy"}, use),
        PolicyName="default",
    )
    cloud.s3.put_object(Key="vault/a", **given)
    refused("AccessDenied", cloud.s3.put_object, Key="state/a", **given)


def test_a_key_that_is_not_there_is_told_to_who_may_list(cloud: Cloud) -> None:
    bucket = cloud.bucket()
    get = allow("s3:GetObject", on=f"arn:aws:s3:::{bucket}/*")
    blind = cloud.client("s3", cloud.assumed(get))
    refused("AccessDenied", blind.get_object, Bucket=bucket, Key="state/a")
    refused("403", blind.head_object, Bucket=bucket, Key="state/a")
    listing = allow(
        "s3:ListBucket", on=f"arn:aws:s3:::{bucket}", StringLike={"s3:prefix": "state/*"}
    )
    seeing = cloud.client("s3", cloud.assumed(get, listing))
    refused("NoSuchKey", seeing.get_object, Bucket=bucket, Key="state/a")
    refused("AccessDenied", seeing.get_object, Bucket=bucket, Key="vault/a")
    seeing.list_objects_v2(Bucket=bucket, Prefix="state/a")
    refused("AccessDenied", seeing.list_objects_v2, Bucket=bucket)


def test_a_bucket_policy_knows_a_role_by_its_arn(cloud: Cloud) -> None:
    bucket = cloud.bucket()
    role = cloud.role(allow("s3:*"))
    everybody = {"Effect": "Deny", "Principal": "*"}
    policy = document(
        {
            **everybody,
            "NotAction": "s3:GetObject",
            "NotResource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/settings.json"],
            "Condition": {"StringNotEquals": {"aws:PrincipalArn": role}},
        },
        {
            **everybody,
            "Action": "s3:*",
            "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"],
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        },
        {
            **everybody,
            "Action": "s3:*",
            "Resource": f"arn:aws:s3:::{bucket}/services",
            "Condition": {"Bool": {"aws:PrincipalIsAWSService": "false"}},
        },
    )
    cloud.s3.put_bucket_policy(Bucket=bucket, Policy=policy)
    cloud.s3.put_object(Bucket=bucket, Key="settings.json")
    refused("AccessDenied", cloud.s3.put_object, Bucket=bucket, Key="vault/a")
    renew = cloud.client("s3", cloud.session(role))
    renew.put_object(Bucket=bucket, Key="vault/a")
    refused("AccessDenied", renew.put_object, Bucket=bucket, Key="services")
    cloud.client("s3", ROOT).get_object(
        Bucket=bucket, Key="vault/a"
    )  # ministack's root passes everywhere


def test_an_alias_is_a_resource_of_its_own(cloud: Cloud) -> None:
    function = cloud.deployed()
    name = function.split(":")[6]
    cloud.function.create_alias(FunctionName=name, Name="view", FunctionVersion="$LATEST")
    viewer = cloud.client(
        "lambda", cloud.assumed(allow("lambda:InvokeFunction", on=f"{function}:view"))
    )
    for given in (
        {"FunctionName": name, "Qualifier": "view"},
        {"FunctionName": f"{function}:view"},
    ):
        answer = json.load(viewer.invoke(**given)["Payload"])
        assert answer["arn"] == f"{function}:view"
    refused("AccessDeniedException", viewer.invoke, FunctionName=name)
    assert cloud.invoked(name)["arn"] == function


def test_what_was_asked_for_can_be_looked_at(cloud: Cloud) -> None:
    role = cloud.role(allow("s3:ListAllMyBuckets"))
    who = cloud.session(role)
    cloud.client("s3", who).list_buckets()
    refused("AccessDenied", cloud.client("s3", who).create_bucket, Bucket="b")
    seen = cloud.local("GET", "permissions")
    session = role.replace(":iam:", ":sts:").replace(":role/", ":assumed-role/") + "/test"
    assert seen["allowed"][session] == {"s3:ListAllMyBuckets": 1}
    denied = [one for one in seen["denied"] if one["principal"] == session]
    assert [(one["action"], one["resource"]) for one in denied] == [
        ("s3:CreateBucket", "arn:aws:s3:::b")
    ]


# Functions


def test_a_function_runs_with_its_role_and_nothing_of_this_machine(cloud: Cloud) -> None:
    function = cloud.deployed(Timeout=7, Environment={"Variables": {"CERTLOOP_BUCKET": "b"}})
    found = cloud.invoked(function)
    environment = found["environment"]
    assert environment["CERTLOOP_BUCKET"] == "b"
    assert environment["AWS_ENDPOINT_URL"] == f"http://127.0.0.1:{cloud.port}"
    assert (
        "HOME" not in environment
        and "MINISTACK_ACCOUNT_ID" not in environment
        and "AUTH" not in environment
    )
    assert 6 < found["remaining"] <= 7
    who = tuple(
        environment[name]
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    )
    role = cloud.function.get_function_configuration(FunctionName=function)["Role"].rpartition("/")[
        2
    ]
    identity = cloud.client("sts", who).get_caller_identity()["Arn"]
    assert identity.startswith(f"arn:aws:sts::{ACCOUNT}:assumed-role/{role}/")
    refused("AccessDenied", cloud.client("s3", who).list_buckets)


def test_a_function_asks_the_aws_it_was_configured_with(cloud: Cloud) -> None:
    elsewhere = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
    function = cloud.deployed(Environment={"Variables": elsewhere})
    assert cloud.invoked(function)["environment"]["AWS_ENDPOINT_URL"] == "http://127.0.0.1:9"


def test_a_function_that_takes_too_long_is_ended(cloud: Cloud) -> None:
    function = cloud.deployed(Timeout=1)
    began = time.monotonic()
    assert "timed out after 1" in cloud.invoked(function, {"sleep": 30})["errorMessage"]
    assert time.monotonic() - began < 10
    assert cloud.invoked(function, {})["arn"] == function


def test_lambda_must_be_let_into_the_role(cloud: Cloud) -> None:
    role = cloud.role(service="ec2.amazonaws.com")
    message = refused("InvalidParameterValueException", cloud.deployed, role)
    assert "cannot be assumed by Lambda" in message


def test_a_function_that_failed_is_told_to_its_queue(cloud: Cloud) -> None:
    url, queue = cloud.queue()
    for may, told in (
        (allow("sqs:SendMessage", on=queue), True),
        (allow("sqs:SendMessage", on=queue + "-other"), False),
    ):
        function = cloud.deployed(cloud.role(may, LOGS))
        cloud.function.put_function_event_invoke_config(
            FunctionName=function,
            MaximumRetryAttempts=0,
            DestinationConfig={"OnFailure": {"Destination": queue}},
        )
        cloud.function.invoke(
            FunctionName=function, InvocationType="Event", Payload=b'{"fail": true}'
        )
        assert cloud.ran(function)
        assert eventually(lambda: cloud.received(url), 2 if told else 0.5) == told


def test_logs_are_written_with_the_role_and_metrics_read_out_of_them(cloud: Cloud) -> None:
    silent, function = cloud.deployed(cloud.role()), cloud.deployed()
    metric = {
        "Namespace": "certloop",
        "Dimensions": [["Function"]],
        "Metrics": [{"Name": "Passes", "Unit": "Count"}],
    }
    said = {"_aws": {"Timestamp": 1, "CloudWatchMetrics": [metric]}, "Passes": 2}
    for each in (silent, function):
        cloud.invoked(each, {"say": json.dumps({**said, "Function": each})})
    assert cloud.ran(function) and "REPORT" not in cloud.logged(silent)

    def metrics(of: str) -> list[Any]:
        return cloud.cloudwatch.list_metrics(
            Namespace="certloop",
            MetricName="Passes",
            Dimensions=[{"Name": "Function", "Value": of}],
        )["Metrics"]

    assert len(metrics(function)) == 1 and metrics(silent) == []


def permit(cloud: Cloud, function: str, service: str, source: str, **more: Any) -> None:
    cloud.function.add_permission(
        FunctionName=function,
        StatementId=cloud.name("permit"),
        Action="lambda:InvokeFunction",
        Principal=service,
        SourceArn=source,
        **more,
    )


def behind(cloud: Cloud, function: str, many: bool = False) -> tuple[str, str]:
    """A load balancer that redirects everything except the challenge path, which a function
    answers."""
    group = cloud.elb.create_target_group(Name=cloud.name("group"), TargetType="lambda")[
        "TargetGroups"
    ][0]["TargetGroupArn"]
    if many:
        attributes = to_tags({"lambda.multi_value_headers.enabled": "true"})
        cloud.elb.modify_target_group_attributes(TargetGroupArn=group, Attributes=attributes)
    balancer = cloud.balancer()
    listener = cloud.listener(balancer, port=80, DefaultActions=[REDIRECT])
    cloud.elb.create_rule(
        ListenerArn=listener,
        Priority=1,
        Conditions=[
            {
                "Field": "path-pattern",
                "PathPatternConfig": {"Values": ["/.well-known/acme-challenge/*"]},
            }
        ],
        Actions=[{"Type": "forward", "TargetGroupArn": group}],
    )
    return balancer, group


def test_the_load_balancer_needs_permission_at_registration_and_later(cloud: Cloud) -> None:
    function = cloud.deployed()
    balancer, group = behind(cloud, function)
    targets = {"TargetGroupArn": group, "Targets": [{"Id": function}]}
    assert "does not have permission" in refused(
        "AccessDenied", cloud.elb.register_targets, **targets
    )
    permit(cloud, function, "elasticloadbalancing.amazonaws.com", group + "0")
    refused("AccessDenied", cloud.elb.register_targets, **targets)
    permit(cloud, function, "elasticloadbalancing.amazonaws.com", group)
    cloud.elb.register_targets(**targets)
    refused(
        "TooManyTargets",
        cloud.elb.register_targets,
        TargetGroupArn=group,
        Targets=[{"Id": cloud.deployed()}],
    )
    address = free_address()
    cloud.local("POST", "ports", {"loadBalancer": balancer, "address": address, "port": 80})
    status, headers, body = fetch(
        f"http://{address}/.well-known/acme-challenge/a?b=c%20d&b=e", "shop.example"
    )
    seen = json.loads(body)
    assert (status, headers["x-one"], headers["server"]) == (200, "a", "awselb/2.0")
    assert seen["event"]["headers"]["host"] == "shop.example"
    assert (
        seen["event"]["queryStringParameters"] == {"b": "e"}
        and "multiValueHeaders" not in seen["event"]
    )
    assert seen["event"]["requestContext"] == {"elb": {"targetGroupArn": group}}
    assert fetch(f"http://{address}/.well-known/acme-challenge/a", method="HEAD")[::2] == (200, b"")
    status, headers, _ = fetch(f"http://{address}/a%20b?c=d", "shop.example")
    assert (status, headers["location"]) == (301, "https://shop.example:443/a%20b?c=d")
    for statement in json.loads(cloud.function.get_policy(FunctionName=function)["Policy"])[
        "Statement"
    ]:
        cloud.function.remove_permission(FunctionName=function, StatementId=statement["Sid"])
    assert fetch(f"http://{address}/.well-known/acme-challenge/a")[0] == 502


def test_headers_come_and_go_in_lists_where_the_group_says_so(cloud: Cloud) -> None:
    function = cloud.deployed()
    balancer, group = behind(cloud, function, many=True)
    permit(cloud, function, "elasticloadbalancing.amazonaws.com", group, SourceAccount=ACCOUNT)
    cloud.elb.register_targets(TargetGroupArn=group, Targets=[{"Id": function}])
    address = free_address()
    cloud.local("POST", "ports", {"loadBalancer": balancer, "address": address, "port": 80})
    _, headers, body = fetch(
        f"http://{address}/.well-known/acme-challenge/a?b=c&b=d", "shop.example"
    )
    event = json.loads(body)["event"]
    assert headers.get_all("x-many") == ["a", "b"]
    assert event["multiValueHeaders"]["host"] == ["shop.example"] and "headers" not in event
    assert (
        event["multiValueQueryStringParameters"] == {"b": ["c", "d"]}
        and "queryStringParameters" not in event
    )


def test_a_public_url_needs_both_permissions(cloud: Cloud) -> None:
    function = cloud.deployed()
    url = cloud.function.create_function_url_config(FunctionName=function, AuthType="NONE")[
        "FunctionUrl"
    ]
    host = url.removeprefix("https://").rstrip("/")

    def status() -> int:
        return fetch(f"http://127.0.0.1:{cloud.port}/.well-known/acme-challenge/a", host)[0]

    everybody = {"FunctionName": function, "Principal": "*"}
    url_permission = {
        "StatementId": "public-url",
        "Action": "lambda:InvokeFunctionUrl",
        "FunctionUrlAuthType": "NONE",
    }
    permission = {
        "StatementId": "function",
        "Action": "lambda:InvokeFunction",
        "InvokedViaFunctionUrl": True,
    }
    assert status() == 403
    cloud.function.add_permission(**everybody, **url_permission)
    assert status() == 403
    cloud.function.add_permission(**everybody, **permission)
    assert status() == 200
    cloud.function.remove_permission(FunctionName=function, StatementId="public-url")
    assert status() == 403


# Events and schedules


def test_a_new_object_invokes_what_its_rule_names_and_is_permitted(cloud: Cloud) -> None:
    bucket, function = cloud.bucket(), cloud.deployed()
    forbidden = cloud.deployed()
    url, queue = cloud.queue()
    cloud.s3.put_bucket_notification_configuration(
        Bucket=bucket, NotificationConfiguration={"EventBridgeConfiguration": {}}
    )
    pattern = {
        "source": ["aws.s3"],
        "detail-type": ["Object Created"],
        "detail": {
            "bucket": {"name": [bucket]},
            "object": {"key": [{"wildcard": "certificates/*.json"}]},
        },
    }
    name = cloud.name("rule")
    rule = cloud.events.put_rule(Name=name, EventPattern=json.dumps(pattern))["RuleArn"]
    letters = {"DeadLetterConfig": {"Arn": queue}}
    targets = [{"Id": "a", "Arn": function}, {"Id": "b", "Arn": forbidden, **letters}]
    cloud.events.put_targets(Rule=name, Targets=targets)
    permit(cloud, function, "events.amazonaws.com", rule)
    permit(cloud, forbidden, "events.amazonaws.com", rule + "-other")
    cloud.s3.put_object(Bucket=bucket, Key="state/shop.json")
    cloud.s3.put_object(Bucket=bucket, Key="certificates/shop.txt")
    cloud.s3.put_object(Bucket=bucket, Key="certificates/shop.json")
    assert cloud.ran(function)
    assert cloud.logged(function).count("REPORT") == 1
    assert not cloud.ran(forbidden, 0.3)
    assert cloud.received(url) == []  # the queue's policy does not let EventBridge in
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "events.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": queue,
        "Condition": {"ArnEquals": {"aws:SourceArn": rule}},
    }
    cloud.sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": document(statement)})
    cloud.s3.put_object(Bucket=bucket, Key="certificates/shop.json")
    assert eventually(lambda: "shop.json" in "".join(cloud.received(url)))


def open_to(cloud: Cloud, service: str, **condition: Any) -> tuple[str, str]:
    """A queue that this service may write to, over TLS."""
    url, queue = cloud.queue()
    statement = {
        "Principal": {"Service": service},
        **allow("sqs:SendMessage", on=queue, **condition),
    }
    plain = {"Effect": "Deny", "Principal": "*", "Action": "sqs:*", "Resource": queue}
    plain["Condition"] = {"Bool": {"aws:SecureTransport": "false"}}
    cloud.sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": document(statement, plain)})
    return url, queue


@pytest.mark.parametrize(
    ("statement", "trust", "may", "arrives"),
    [
        ({}, None, None, True),
        ({"StringEquals": {"aws:SourceAccount": ACCOUNT}}, None, None, False),
        ({"ArnEquals": {"aws:SourceArn": "<rule>"}}, None, None, False),
        (None, None, None, False),
        (None, "<rule>", "<topic>", True),
        (None, "<rule>-other", "<topic>", False),
        (None, "<rule>", "<topic>-other", False),
    ],
)
def test_a_rule_publishes_with_its_role_or_by_a_statement_without_conditions(
    cloud: Cloud,
    statement: dict[str, Any] | None,
    trust: str | None,
    may: str | None,
    arrives: bool,
) -> None:
    name = cloud.name("rule")
    rule = cloud.events.put_rule(Name=name, EventPattern=json.dumps({"source": [f"aws.{name}"]}))[
        "RuleArn"
    ]
    topic = cloud.sns.create_topic(Name=cloud.name("topic"))["TopicArn"]
    url, queue = open_to(cloud, "sns.amazonaws.com")
    lost_url, lost = open_to(cloud, "events.amazonaws.com", ArnEquals={"aws:SourceArn": rule})
    cloud.sns.subscribe(
        TopicArn=topic, Protocol="sqs", Endpoint=queue, Attributes={"RawMessageDelivery": "true"}
    )
    policy = {
        "Principal": {"Service": "cloudwatch.amazonaws.com"},
        **allow("sns:Publish", on=topic),
    }
    if statement is not None:
        condition = json.loads(json.dumps(statement).replace("<rule>", rule))
        policy = {
            "Principal": {"Service": "events.amazonaws.com"},
            **allow("sns:Publish", on=topic, **condition),
        }
    cloud.sns.set_topic_attributes(
        TopicArn=topic, AttributeName="Policy", AttributeValue=document(policy)
    )
    role = {}
    if trust and may:
        source = {
            "ArnEquals": {"aws:SourceArn": trust.replace("<rule>", rule)},
            "StringEquals": {"aws:SourceAccount": ACCOUNT},
        }
        allowed = allow("sns:Publish", on=may.replace("<topic>", topic))
        role = {"RoleArn": cloud.role(allowed, service="events.amazonaws.com", Condition=source)}
    target = {
        "Id": "a",
        "Arn": topic,
        "Input": '"expires"',
        "DeadLetterConfig": {"Arn": lost},
        **role,
    }
    cloud.events.put_targets(Rule=name, Targets=[target])
    entry = {"Source": f"aws.{name}", "DetailType": "t", "Detail": "{}"}
    cloud.local("POST", "event", {"region": REGION, "entry": entry})
    there, elsewhere = (url, lost_url) if arrives else (lost_url, url)
    assert eventually(lambda: cloud.received(there) == ['"expires"'])
    assert cloud.received(elsewhere) == []


def schedule(
    cloud: Cloud, function: str, role: str, expression: str = "rate(1 minute)", **target: Any
) -> str:
    name = cloud.name("schedule")
    cloud.scheduler.create_schedule(
        Name=name,
        ScheduleExpression=expression,
        FlexibleTimeWindow={"Mode": "OFF"},
        Target={"Arn": function, "RoleArn": role, "Input": '{"action": "reconcile"}', **target},
    )
    return name


def test_a_schedule_fires_with_its_role(cloud: Cloud) -> None:
    function = cloud.deployed()
    role = cloud.role(
        allow("lambda:InvokeFunction", on=function), service="scheduler.amazonaws.com"
    )
    cloud.local("POST", "schedule", {"name": schedule(cloud, function, role)})
    assert cloud.ran(function)


def test_a_schedule_whose_role_may_not_ends_in_the_queue(cloud: Cloud) -> None:
    function = cloud.deployed()
    url, queue = cloud.queue()
    role = cloud.role(allow("sqs:SendMessage", on=queue), service="scheduler.amazonaws.com")
    name = schedule(cloud, function, role, DeadLetterConfig={"Arn": queue})
    cloud.local("POST", "schedule", {"name": name})
    assert eventually(lambda: cloud.received(url) == ['{"action": "reconcile"}'])
    assert not cloud.ran(function, 0.3)


def test_scheduler_must_be_let_into_the_role(cloud: Cloud) -> None:
    function = cloud.deployed()
    may = allow("lambda:InvokeFunction", on=function)
    refused("ValidationException", schedule, cloud, function, cloud.role(may))
    group = f"arn:aws:scheduler:{REGION}:{ACCOUNT}:schedule-group/"
    for name, good in (("default", True), ("other", False)):
        condition = {
            "ArnEquals": {"aws:SourceArn": group + name},
            "StringEquals": {"aws:SourceAccount": ACCOUNT},
        }
        role = cloud.role(may, service="scheduler.amazonaws.com", Condition=condition)
        if good:
            schedule(cloud, function, role)
        else:
            refused("ValidationException", schedule, cloud, function, role)


def test_schedule_expressions_are_checked(cloud: Cloud) -> None:
    function = cloud.deployed()
    role = cloud.role(service="scheduler.amazonaws.com")
    for expression in ("every tuesday", "rate(0 minutes)", "cron(0 12 * *)"):
        refused("ValidationException", schedule, cloud, function, role, expression)
    for expression in ("rate(10 minutes)", "cron(0 12 * * ? *)"):
        schedule(cloud, function, role, expression)


def test_terraform_reads_an_alarm_as_it_was_put(cloud: Cloud) -> None:
    names = {
        "Action": "PutMetricAlarm",
        "Version": "2010-08-01",
        "AlarmName": "a & b",
        "EvaluationPeriods": "3",
    }
    metric = {
        "Metrics.member.1.Id": "m",
        "Metrics.member.1.MetricStat.Period": "300",
        "Metrics.member.1.MetricStat.Metric.Dimensions.member.1.Name": "Function",
        "AlarmActions.member.1": "arn:a",
        "TreatMissingData": "notBreaching",
        "ComparisonOperator": "GreaterThanThreshold",
    }
    cloud.query("monitoring", {**names, **metric})
    described = cloud.query("monitoring", {"Action": "DescribeAlarms", "Version": "2010-08-01"})
    assert "<AlarmName>a &amp; b</AlarmName>" in described
    assert "<AlarmActions><member>arn:a</member></AlarmActions>" in described
    assert "<TreatMissingData>notBreaching</TreatMissingData>" in described
    assert "<Dimensions><member><Name>Function</Name></member></Dimensions>" in described


ALARM = {
    "Action": "PutMetricAlarm",
    "Version": "2010-08-01",
    "EvaluationPeriods": "1",
    "Threshold": "0",
    "ComparisonOperator": "GreaterThanThreshold",
}


def on_metric(period: int, statistic: str, metric: str = "Failing", **more: str) -> dict[str, str]:
    dimensions = {"Dimensions.member.1.Name": "Function", "Dimensions.member.1.Value": "renew"}
    return {
        **ALARM,
        "Namespace": "n",
        "MetricName": metric,
        "Period": str(period),
        "Statistic": statistic,
        **dimensions,
        **more,
    }


def on_math(
    expression: str, metrics: dict[str, str], period: int = 3600, **more: str
) -> dict[str, str]:
    found = {
        "Metrics.member.1.Id": "told",
        "Metrics.member.1.Expression": expression,
        "Metrics.member.1.ReturnData": "true",
    }
    for n, (name, metric) in enumerate(metrics.items(), 2):
        stat = f"Metrics.member.{n}.MetricStat"
        found |= {
            f"Metrics.member.{n}.Id": name,
            f"Metrics.member.{n}.ReturnData": "false",
            f"{stat}.Metric.Namespace": "n",
            f"{stat}.Metric.MetricName": metric,
            f"{stat}.Metric.Dimensions.member.1.Name": "Function",
            f"{stat}.Metric.Dimensions.member.1.Value": "renew",
            f"{stat}.Period": str(period),
            f"{stat}.Stat": "Maximum",
        }
    return {**ALARM, **found, **more}


def test_alarms_are_in_the_states_that_cloudwatch_would_put_them_in(cloud: Cloud) -> None:
    hour, end = 3600, time.time() // 3600 * 3600
    begin = end - 48 * hour

    def put(metric: str, hours: dict[int, float], function: str = "renew") -> None:
        data = [
            {
                "MetricName": metric,
                "Timestamp": begin + at * hour + 60,
                "Value": value,
                "Dimensions": [{"Name": "Function", "Value": function}],
            }
            for at, value in hours.items()
        ]
        cloud.cloudwatch.put_metric_data(Namespace="n", MetricData=data)

    # Hour by hour: nothing, twice something, once nothing, missing, something.
    put("Failing", {0: 0, 1: 1, 2: 2, 3: 0, 6: 1})
    put("Failing", {0: 9, 1: 9}, "another")
    put("Managed", {0: 5, 1: 5, 2: 7, 4: 3, 5: 3})
    given = {
        "one hour": on_metric(hour, "Maximum", TreatMissingData="ignore"),
        "two hours": on_metric(hour, "Minimum", TreatMissingData="ignore", EvaluationPeriods="2"),
        "over at once": on_metric(hour, "Maximum", TreatMissingData="notBreaching"),
        "missing": on_metric(
            hour, "Sum", TreatMissingData="breaching",
            ComparisonOperator="LessThanThreshold", Threshold="1",
        ),
        "fewer": on_math(
            "DIFF(FILL(managed, REPEAT))", {"managed": "Managed"},
            TreatMissingData="notBreaching", EvaluationPeriods="3", DatapointsToAlarm="1",
            ComparisonOperator="LessThanOrEqualToThreshold", Threshold="-2",
        ),
        "both": on_math(
            "IF(FILL(a, 0) > 0 AND FILL(b, 0) >= 5, a - 1, 0)",
            {"a": "Failing", "b": "Managed"}, TreatMissingData="notBreaching",
        ),
    }  # fmt: skip
    for name, alarm in given.items():
        cloud.query("monitoring", {**alarm, "AlarmName": name})
    asked = {
        "account": ACCOUNT,
        "region": REGION,
        "names": list(given),
        "from": begin + hour,
        "to": begin + 12 * hour,
        "step": hour,
    }
    found = {
        name: [(round((at - begin) / hour) - 1, state) for at, state in states][1:]
        for name, states in cloud.local("POST", "alarm-states", asked).items()
    }
    assert found == {
        "one hour": [(0, "OK"), (1, "ALARM"), (3, "OK"), (6, "ALARM")],
        "two hours": [(0, "OK"), (2, "ALARM"), (3, "OK")],
        "over at once": [(0, "OK"), (1, "ALARM"), (3, "OK"), (6, "ALARM"), (7, "OK")],
        "missing": [(0, "ALARM"), (1, "OK"), (3, "ALARM"), (6, "OK"), (7, "ALARM")],
        "fewer": [(0, "OK"), (4, "ALARM"), (7, "OK")],
        "both": [(0, "OK"), (2, "ALARM"), (3, "OK")],
    }


@pytest.mark.parametrize(
    "alarm, why",
    [
        (on_math("DIFF(nobody)", {"managed": "Managed"}), "nothing is called nobody"),
        (on_math("MAXIMUM(managed)", {"managed": "Managed"}), "MAXIMUM is not understood"),
        (on_math("managed <", {"managed": "Managed"}), "missing"),
        (on_math("m", {"m": "Managed"}) | {"Metrics.member.2.ReturnData": "true"}, "return data"),
        (
            on_math("a - b", {"a": "A", "b": "B"}) | {"Metrics.member.3.MetricStat.Period": "60"},
            "different periods",
        ),
        (on_metric(300, "Sum", EvaluationPeriods="289"), "more than 86400"),
        (on_metric(3600, "Sum", DatapointsToAlarm="2"), "DatapointsToAlarm"),
    ],
)
def test_an_alarm_that_cloudwatch_would_not_take(
    cloud: Cloud, alarm: dict[str, str], why: str
) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        cloud.query("monitoring", {**alarm, "AlarmName": "bad"})
    assert refused.value.code == 400 and why in refused.value.read().decode()


def test_the_age_of_events_is_shown_only_if_it_was_given(cloud: Cloud) -> None:
    function = cloud.deployed()
    cloud.function.put_function_event_invoke_config(FunctionName=function, MaximumRetryAttempts=0)
    found = cloud.function.get_function_event_invoke_config(FunctionName=function)
    assert found["MaximumRetryAttempts"] == 0 and "MaximumEventAgeInSeconds" not in found


# /_local/ and the ports


def test_the_load_balancer_is_described_with_its_keys(cloud: Cloud) -> None:
    material = issue("a.example")
    certificate = cloud.acm.import_certificate(**material.fields())["CertificateArn"]
    other = cloud.imported("b.example", kind="rsa2048")
    before = cloud.local("GET", "revision")["revision"]
    balancer = cloud.balancer()
    listener = cloud.listener(balancer, certificate=certificate)
    cloud.add(listener, other)
    assert cloud.local("GET", "revision")["revision"] > before
    found = cloud.local("GET", f"load-balancer?arn={balancer}")
    shown = found["listeners"][0]
    assert (shown["port"], shown["defaultCertificate"], shown["sniCertificates"]) == (
        443,
        certificate,
        [other],
    )
    assert shown["rules"][0]["actions"] == [
        {
            "type": "fixed-response",
            "statusCode": "404",
            "contentType": "text/plain",
            "messageBody": "no",
        }
    ]
    given = material.fields()
    held = found["certificates"][certificate]
    assert (
        held["privateKey"].encode() == given["PrivateKey"]
        and held["chain"].encode() == given["CertificateChain"]
    )
    assert found["certificates"][other]["keyAlgorithm"] == "RSA_2048"
    assert balancer in [one["arn"] for one in cloud.local("GET", "load-balancers")["loadBalancers"]]


def test_port_443_serves_what_the_listener_holds(cloud: Cloud) -> None:
    balancer = cloud.balancer()
    listener = cloud.listener(balancer, certificate=cloud.imported("default.example"))
    address = free_address()
    cloud.local("POST", "ports", {"loadBalancer": balancer, "address": address, "port": 443})

    def served(name: str) -> ssl.SSLSocket:
        context = ssl.create_default_context(cadata=pem(root()).decode())
        host, _, port = address.rpartition(":")
        return context.wrap_socket(
            socket.create_connection((host, int(port))), server_hostname=name
        )

    with pytest.raises(ssl.SSLCertVerificationError):
        served("shop.example")
    certificate = cloud.imported("shop.example", "*.shop.example")
    cloud.add(listener, certificate)
    for name in ("shop.example", "www.shop.example", "default.example"):
        with served(name) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 404")
    cloud.remove(listener, certificate)
    with pytest.raises(ssl.SSLCertVerificationError):
        served("shop.example")
    cloud.local("DELETE", "ports", {"addresses": [address]})
    assert eventually(lambda: not reachable(address))


def reachable(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port))).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("how", ["stdin", "term", "kill"])
def test_nothing_outlives_it(tmp_path: Path, how: str) -> None:
    process, port = start(tmp_path)
    cloud = Cloud(port)
    function = cloud.deployed()
    cloud.function.invoke(FunctionName=function, InvocationType="Event", Payload=b'{"sleep": 30}')
    assert eventually(lambda: running(str(tmp_path)) == 1)
    time.sleep(0.2)  # it sleeps and notices nothing
    assert process.stdin
    if how == "stdin":
        process.stdin.close()
    else:
        process.send_signal(signal.SIGTERM if how == "term" else signal.SIGKILL)
    process.wait(5)
    assert eventually(lambda: running(str(tmp_path)) == 0)


def running(folder: str) -> int:
    """How many processes were started from this folder."""
    found = 0
    for line in Path("/proc").glob("[0-9]*/environ"):
        try:
            found += f"LAMBDA_TASK_ROOT={folder}".encode() in line.read_bytes()
        except OSError:
            continue
    return found
