"""The view of a user: one command, a served certificate, a schedule that runs by itself, and a
second plan without changes."""

from __future__ import annotations

import json
import shutil
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

from cloud import ROOT, until, visit
from conftest import DOMAINS, World

# Differences of a second plan that come from the stand-in alone, by address and attribute. None so
# far.
UNTRUE: dict[str, set[str]] = {}


def listeners(world: World, port: int) -> list[dict]:
    there = world.aws.client("elbv2").describe_listeners(LoadBalancerArn=world.load_balancer_arn)[
        "Listeners"
    ]
    return [one for one in there if one["Port"] == port]


def test_one_command_ends_with_a_report_and_a_served_certificate(world: World) -> None:
    # The report of one pass comes after the line that proves the challenge route.
    assert "the challenge route: curl" in world.output, world.output
    assert "works: 404 with x-content-type-options: nosniff" in world.output, world.output
    assert world.output.index("the challenge route") < world.output.index("one pass of"), (
        world.output
    )
    for name in DOMAINS:
        leaf = visit(world.network.https, name, world.authority.root)
        assert sorted(leaf.names) == DOMAINS
        assert leaf.body == "Hello over HTTPS\n"


def test_the_listener_was_born_with_the_certificate(world: World) -> None:
    [listener] = listeners(world, 443)
    elb, acm = world.aws.client("elbv2"), world.aws.client("acm")
    tags = elb.describe_tags(ResourceArns=[listener["ListenerArn"]])["TagDescriptions"][0]["Tags"]
    assert {one["Key"]: one["Value"] for one in tags} == {
        "certloop:certificate": "site",
        "certloop:installation": world.bucket,
    }
    [default] = listener["Certificates"]
    described = acm.describe_certificate(CertificateArn=default["CertificateArn"])["Certificate"]
    assert sorted(described["SubjectAlternativeNames"]) == DOMAINS
    assert described["InUseBy"] == [world.load_balancer_arn]
    assert listener["DefaultActions"][0]["TargetGroupArn"] == world.site_target_group_arn


def test_the_function_url_answers_challenges(world: World) -> None:
    # It is public: the function's policy has both statements that such a URL needs.
    url = world.aws.client("lambda").get_function_url_config(FunctionName="certloop-dev-challenge")[
        "FunctionUrl"
    ]
    host = url.removeprefix("http://").removeprefix("https://").partition("/")[0]

    def get(path: str) -> tuple[int, str, dict[str, str]]:
        request = urllib.request.Request(f"{world.aws.endpoint}{path}", headers={"Host": host})
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.status, answer.read().decode(), dict(answer.headers)
        except urllib.error.HTTPError as error:
            return error.code, "", {name.lower(): value for name, value in error.headers.items()}

    status, _, headers = get("/.well-known/acme-challenge/not-there")
    assert (status, headers["x-content-type-options"]) == (404, "nosniff")
    token = "probe-of-the-function-url"
    s3 = world.aws.client("s3", ROOT)
    s3.put_object(
        Bucket=world.bucket, Key=f"challenges/{token}", Body=f"{token}.thumbprint".encode()
    )
    assert get(f"/.well-known/acme-challenge/{token}")[:2] == (200, f"{token}.thumbprint")
    s3.delete_object(Bucket=world.bucket, Key=f"challenges/{token}")


def test_a_priority_that_is_taken_is_refused_at_plan(world: World) -> None:
    deployment = world.deployment
    second = {
        "environment": "second", "load_balancer": world.load_balancer_arn,
        "domains": ["second.example.com"], "email": "ops@example.com", "production": False,
        "architecture": deployment.variables["architecture"],
        "packages": deployment.variables["packages"], "priority": 1,
    }  # fmt: skip
    deployment.write_tfvars("second", second)
    root = deployment.infra / "examples" / "existing-load-balancer"
    refused = deployment.deploy(
        "plan", ENV="second", ROOT=str(root), TF_DATA_DIR=str(root / ".terraform" / "second")
    )
    assert refused.returncode == 1, refused.stdout
    assert "priority" in refused.stdout and "1 is taken" in refused.stdout, refused.stdout
    deployment.write_tfvars("second", {**second, "priority": 2})
    planned = deployment.deploy(
        "plan", ENV="second", ROOT=str(root), TF_DATA_DIR=str(root / ".terraform" / "second")
    )
    assert planned.returncode == 0, planned.stdout


def test_a_second_plan_has_nothing_to_do(world: World) -> None:
    deployment = world.deployment
    deployment.terraform(
        "plan",
        "-input=false",
        "-no-color",
        "-var-file",
        str(deployment.folder / "environments/dev.tfvars"),
        "-out",
        "second",
    )
    plan = json.loads(deployment.terraform("show", "-json", "second"))
    shown = {}
    for change in plan.get("resource_changes", []):
        if change["change"]["actions"] in (["no-op"], ["read"]):
            continue
        before, after = change["change"]["before"] or {}, change["change"]["after"] or {}
        attributes = {name for name in {*before, *after} if before.get(name) != after.get(name)}
        if attributes - UNTRUE.get(change["address"], set()):
            shown[change["address"]] = (change["change"]["actions"], attributes)
    assert not shown


def test_no_secret_is_in_state_or_plan(world: World) -> None:
    deployment = world.deployment
    told = deployment.terraform("state", "pull")
    deployment.terraform(
        "plan",
        "-input=false",
        "-refresh=false",
        "-var-file",
        str(deployment.folder / "environments/dev.tfvars"),
        "-out",
        "third",
    )
    told += deployment.terraform("show", "-json", "third")
    assert world.bucket in told and "PRIVATE KEY" not in told
    s3, searched = world.aws.client("s3", ROOT), set()
    for found in s3.list_objects_v2(Bucket=world.bucket)["Contents"]:
        prefix = found["Key"].split("/")[0]
        if prefix in ("accounts", "vault"):
            held = json.load(s3.get_object(Bucket=world.bucket, Key=found["Key"])["Body"])
            # Line by line, because JSON does not keep the line breaks of a PEM. Addresses and
            # certificates are no secrets.
            secrets = [
                text for text in texts(held) if not text.startswith(("http", "-----BEGIN CERT"))
            ]
            lines = [line for text in secrets for line in text.splitlines() if len(line) > 40]
            assert not [line for line in lines if line in told], found["Key"]
            searched |= {prefix} if lines else set()
    assert searched == {"accounts", "vault"}


def texts(value: object) -> list[str]:
    if isinstance(value, dict):
        return [text for one in value.values() for text in texts(one)]
    return [value] if isinstance(value, str) else []


def test_secrets_are_encrypted_with_the_key_and_tokens_are_not(world: World) -> None:
    s3 = world.aws.client("s3", ROOT)
    kinds = {}
    for found in s3.list_objects_v2(Bucket=world.bucket)["Contents"]:
        kind = s3.head_object(Bucket=world.bucket, Key=found["Key"]).get("ServerSideEncryption")
        kinds.setdefault(found["Key"].split("/")[0], set()).add(kind)
    assert kinds["accounts"] == kinds["vault"] == {"aws:kms"}, kinds
    for prefix in ("settings.json", "certificates", "state", "limits"):
        assert kinds[prefix] == {"AES256"}, kinds
    assert "challenges" not in kinds, "no token is left over"


def test_a_document_put_by_somebody_else_is_worked_on_within_seconds_and_left_alone_by_terraform(
    world: World,
) -> None:
    [listener] = listeners(world, 443)
    document = {
        "domains": ["blog.example.com"],
        "targets": [{"type": "listener", "arn": listener["ListenerArn"]}],
    }
    s3 = world.aws.client("s3")
    s3.put_object(Bucket=world.bucket, Key="certificates/blog.json", Body=json.dumps(document))
    begun = time.monotonic()

    def served() -> bool:
        try:
            return visit(world.network.https, "blog.example.com", world.authority.root).names == [
                "blog.example.com"
            ]
        except OSError:
            return False

    until("a certificate for blog.example.com", served, 45)
    print(f"served {time.monotonic() - begun:.1f} s after the document was put")
    plan = world.deployment.terraform(
        "plan",
        "-input=false",
        "-no-color",
        "-var-file",
        str(world.deployment.folder / "environments/dev.tfvars"),
    )
    assert "blog" not in plan and "No changes" in plan, plan


def test_an_upgrade_issues_nothing_anew(world: World) -> None:
    deployment, s3 = world.deployment, world.aws.client("s3", ROOT)

    def account_and_serial() -> tuple[list[str], str]:
        accounts = [
            one["Key"]
            for one in s3.list_objects_v2(Bucket=world.bucket, Prefix="accounts/")["Contents"]
        ]
        state = json.load(s3.get_object(Bucket=world.bucket, Key="state/site.json")["Body"])
        return accounts, state["certificate"]["serial"]

    before = account_and_serial()
    code = world.aws.client("lambda").get_function(FunctionName="certloop-dev-renew")[
        "Configuration"
    ]["CodeSha256"]
    # Another build, and a setting that belongs to it.
    newer = deployment.folder / "newer"
    newer.mkdir()
    for package in Path(deployment.variables["packages"]).glob("*.zip"):
        shutil.copy(package, newer)
        with zipfile.ZipFile(newer / package.name, "a") as zipped:
            zipped.writestr("version", "newer")
    settings = {
        **deployment.variables["settings"],
        "limits": {"overlapSeconds": 0, "concurrency": 8},
    }
    deployment.write_variables(packages=str(newer), settings=settings)
    done = deployment.deploy("apply", AUTO_APPROVE="1")
    assert done.returncode == 0, done.stdout
    function = done.stdout.index("aws_lambda_function.renew: Modifications complete")
    assert function < done.stdout.index("aws_s3_object.settings: Modifying"), done.stdout
    assert (
        world.aws.client("lambda").get_function(FunctionName="certloop-dev-renew")["Configuration"][
            "CodeSha256"
        ]
        != code
    )
    assert account_and_serial() == before
    assert "kept" in done.stdout, done.stdout


def test_the_schedule_repairs_by_itself_what_somebody_broke(world: World) -> None:
    [listener] = listeners(world, 443)
    elb = world.aws.client("elbv2")
    elb.delete_listener(ListenerArn=listener["ListenerArn"])
    begun = time.monotonic()

    def served() -> bool:
        try:
            return (
                visit(world.network.https, DOMAINS[0], world.authority.root).body
                == "Hello over HTTPS\n"
            )
        except OSError:
            return False

    assert not served()
    until("the listener, made again by the next scheduled pass", served, 150)
    print(
        f"served again {time.monotonic() - begun:.0f} s after the listener was deleted;"
        " the schedule is every minute"
    )


def test_the_functions_log_and_measure(world: World) -> None:
    logs, metrics = world.aws.client("logs"), world.aws.client("cloudwatch")
    for function in ("certloop-dev-renew", "certloop-dev-challenge"):
        found = logs.filter_log_events(logGroupName=f"/aws/lambda/{function}")["events"]
        assert found, f"{function} has logged nothing"
    known = {one["MetricName"] for one in metrics.list_metrics(Namespace="certloop")["Metrics"]}
    alarms = metrics.describe_alarms()["MetricAlarms"]
    assert len(alarms) >= 10
    watched = {one["MetricName"] for one in alarms if one.get("Namespace") == "certloop"}
    # The metric ChallengeDenied exists only after a denial.
    assert watched - known <= {"ChallengeDenied"}, (watched, known)
