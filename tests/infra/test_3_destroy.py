"""Destroy: it first says what stays. Of ours, only certificates that may still be served stay."""

from __future__ import annotations

from conftest import World


def test_destroy_wants_the_name_of_the_environment(world: World) -> None:
    refused = world.deployment.deploy("destroy", CONFIRM="prod")
    assert refused.returncode == 1, refused.stdout
    assert "nothing was changed" in refused.stdout
    assert world.aws.client("s3").list_buckets()["Buckets"]


def test_destroy_says_what_stays_and_leaves_nothing_of_ours(world: World) -> None:
    bucket = world.bucket
    done = world.deployment.deploy("destroy", CONFIRM="dev")
    assert done.returncode == 0, done.stdout
    assert "go on serving" in done.stdout and f"Values={bucket}" in done.stdout

    client = world.aws.client
    left = {
        "buckets": [one["Name"] for one in client("s3").list_buckets()["Buckets"]],
        "functions": [
            one["FunctionName"] for one in client("lambda").list_functions()["Functions"]
        ],
        "roles": [one["RoleName"] for one in client("iam").list_roles()["Roles"]],
        "policies": [
            one["PolicyName"] for one in client("iam").list_policies(Scope="Local")["Policies"]
        ],
        "schedules": [one["Name"] for one in client("scheduler").list_schedules()["Schedules"]],
        "rules": [one["Name"] for one in client("events").list_rules()["Rules"]],
        "queues": client("sqs").list_queues().get("QueueUrls", []),
        "topics": [one["TopicArn"] for one in client("sns").list_topics()["Topics"]],
        "alarms": [
            one["AlarmName"] for one in client("cloudwatch").describe_alarms()["MetricAlarms"]
        ],
        "dashboards": [
            one["DashboardName"]
            for one in client("cloudwatch").list_dashboards()["DashboardEntries"]
        ],
        "logs": [one["logGroupName"] for one in client("logs").describe_log_groups()["logGroups"]],
        "balancers": [
            one["LoadBalancerName"]
            for one in client("elbv2").describe_load_balancers()["LoadBalancers"]
        ],
        "groups": [
            one["TargetGroupName"]
            for one in client("elbv2").describe_target_groups()["TargetGroups"]
        ],
        "stacks": [
            one["StackName"]
            for one in client("cloudformation").describe_stacks()["Stacks"]
            if one["StackStatus"] != "DELETE_COMPLETE"
        ],
    }
    ours = {kind: [name for name in names if "certloop" in name] for kind, names in left.items()}
    assert not any(ours.values()), ours
    keys = [one["KeyId"] for one in client("kms").list_keys()["Keys"]]
    states = {client("kms").describe_key(KeyId=key)["KeyMetadata"]["KeyState"] for key in keys}
    assert states <= {"PendingDeletion"}, states
    # Imported certificates stay: a listener elsewhere may serve them.
    assert client("acm").list_certificates(Includes={"keyTypes": ["EC_prime256v1", "RSA_2048"]})[
        "CertificateSummaryList"
    ]
