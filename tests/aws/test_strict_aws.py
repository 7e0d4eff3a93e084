"""One test for each thing that AWS refuses or answers and moto does not, and for `/_local/`."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable, Iterator

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID

import pki
from pki import (
    CLIENT_AUTH,
    DAY,
    SERVER_AUTH,
    Material,
    intermediate,
    issue,
    key,
    key_pem,
    pem,
    root,
)

REGION = "eu-west-1"
ALL_KEY_TYPES = [
    "RSA_1024",
    "RSA_2048",
    "RSA_3072",
    "RSA_4096",
    "EC_prime256v1",
    "EC_secp384r1",
    "EC_secp521r1",
]
REDIRECT = {
    "Type": "redirect",
    "RedirectConfig": {"Protocol": "HTTPS", "Port": "443", "StatusCode": "HTTP_301"},
}
NOWHERE = {
    "Type": "fixed-response",
    "FixedResponseConfig": {"StatusCode": "404", "ContentType": "text/plain", "MessageBody": "no"},
}


class Cloud:
    """A running stand-in, its clients, and the things tests do over and over."""

    def __init__(self, port: int):
        self.port = port
        self.connection = http.client.HTTPConnection("127.0.0.1", port)
        self.clients: dict[tuple[str, str, str], Any] = {}

    def client(self, service: str, region: str = REGION, access_key: str = "AKIDRENEW") -> Any:
        wanted = (service, region, access_key)
        if wanted not in self.clients:
            self.clients[wanted] = boto3.client(
                service,
                region_name=region,
                endpoint_url=f"http://127.0.0.1:{self.port}",
                aws_access_key_id=access_key,
                aws_secret_access_key="secret",
                config=Config(retries={"total_max_attempts": 1}),
            )
        return self.clients[wanted]

    @property
    def acm(self) -> Any:
        return self.client("acm")

    @property
    def elb(self) -> Any:
        return self.client("elbv2")

    @property
    def s3(self) -> Any:
        return self.client("s3")

    def local(self, method: str, path: str, body: Any = None) -> Any:
        self.connection.request(
            method, f"/_local/{path}", json.dumps(body) if body is not None else None
        )
        response = self.connection.getresponse()
        answer = json.loads(response.read())
        assert response.status == 200, answer
        return answer

    def options(self, **changes: Any) -> None:
        self.local("POST", "options", changes)

    def load(self, material: Material, **changed: Any) -> str:
        return self.acm.import_certificate(**material.fields(**changed))["CertificateArn"]

    def describe(self, arn: str) -> dict[str, Any]:
        return self.acm.describe_certificate(CertificateArn=arn)["Certificate"]

    def balancer(self, name: str = "front", region: str = REGION, **more: Any) -> str:
        subnets = self.client("ec2", region).describe_subnets()["Subnets"]
        created = self.client("elbv2", region).create_load_balancer(
            Name=name, Subnets=[s["SubnetId"] for s in subnets[:2]], **more
        )
        return created["LoadBalancers"][0]["LoadBalancerArn"]

    def listener(self, balancer: str, certificate: str | None, port: int = 443, **more: Any) -> str:
        parameters = {
            "Protocol": "HTTPS" if certificate else "HTTP",
            "DefaultActions": [NOWHERE],
            **more,
        }
        if certificate:
            parameters["Certificates"] = [{"CertificateArn": certificate}]
        created = self.elb.create_listener(LoadBalancerArn=balancer, Port=port, **parameters)
        return created["Listeners"][0]["ListenerArn"]

    def add(self, listener: str, certificate: str) -> None:
        self.elb.add_listener_certificates(
            ListenerArn=listener, Certificates=[{"CertificateArn": certificate}]
        )

    def remove(self, listener: str, certificate: str) -> None:
        self.elb.remove_listener_certificates(
            ListenerArn=listener, Certificates=[{"CertificateArn": certificate}]
        )

    def put_default(self, listener: str, certificate: str) -> None:
        self.elb.modify_listener(
            ListenerArn=listener, Certificates=[{"CertificateArn": certificate}]
        )

    def losses(self) -> list[dict[str, Any]]:
        return self.local("GET", "losses")["losses"]

    def lost(self) -> list[tuple[str, str, bool]]:
        """Name, kind of key and SNI of the losses since the last call of this."""
        found = [
            (loss["name"], loss["keyType"], loss["sni"]) for loss in self.losses() if loss["lost"]
        ]
        self.local("DELETE", "losses")
        return found

    def held(self, listener: str) -> list[tuple[str, bool]]:
        answer = self.elb.describe_listener_certificates(ListenerArn=listener)
        return [(c["CertificateArn"], c["IsDefault"]) for c in answer["Certificates"]]


@pytest.fixture(scope="module")
def process() -> Iterator[Cloud]:
    command = [
        sys.executable,
        str(Path(__file__).with_name("strict_aws.py")),
        "--port",
        "0",
        "--watch-stdin",
    ]
    running = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert running.stdin and running.stdout
    yield Cloud(int(running.stdout.readline().removeprefix("listening ")))
    running.stdin.close()
    assert running.wait(5) == 0


@pytest.fixture
def cloud(process: Cloud) -> Cloud:
    process.local("POST", "reset")
    return process


def refusal(code: str, act: Callable[..., Any], *arguments: Any, **parameters: Any) -> str:
    """Asserts that a call is refused with this error code, and returns the message."""
    with pytest.raises(ClientError) as caught:
        act(*arguments, **parameters)
    error = caught.value.response
    assert error["Error"]["Code"] == code, error
    if code == "ValidationException":
        assert error["ResponseMetadata"]["HTTPStatusCode"] == 400
    return error["Error"]["Message"]


# ACM: what may be imported


def test_certificate_and_issuer_without_common_name(cloud: Cloud) -> None:
    arn = cloud.load(issue("shop.example.com", "www.example.com"))
    described = cloud.describe(arn)
    assert described["DomainName"] == "shop.example.com"
    assert described["SubjectAlternativeNames"] == ["shop.example.com", "www.example.com"]
    assert described["Issuer"] == "Test Authority"


def test_common_name_is_the_domain_name(cloud: Cloud) -> None:
    arn = cloud.load(issue("a.example.com", "b.example.com", common_name="b.example.com"))
    assert cloud.describe(arn)["DomainName"] == "b.example.com"


def test_certificate_for_an_address(cloud: Cloud) -> None:
    assert cloud.describe(cloud.load(issue("192.0.2.7")))["DomainName"] == "192.0.2.7"


def test_certificate_for_nothing_is_refused(cloud: Cloud) -> None:
    refusal("ValidationException", cloud.load, issue())


def test_key_must_match(cloud: Cloud) -> None:
    other = key_pem(key("p256", 1))
    message = refusal("ValidationException", cloud.load, issue("a.example.com"), PrivateKey=other)
    assert "do not match" in message


def test_encrypted_key_is_refused(cloud: Cloud) -> None:
    encrypted = key("p256").private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    )
    refusal("ValidationException", cloud.load, issue("a.example.com"), PrivateKey=encrypted)


def test_both_pem_forms_of_a_key(cloud: Cloud) -> None:
    sec1 = key("p256").private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    assert b"BEGIN EC PRIVATE KEY" in sec1
    cloud.load(issue("a.example.com"), PrivateKey=sec1)


def test_chain_must_certify_the_leaf(cloud: Cloud) -> None:
    refusal("ValidationException", cloud.load, issue("a.example.com"), CertificateChain=pem(root()))


def test_chain_must_certify_each_next(cloud: Cloud) -> None:
    stray = issue("b.example.com", self_signed=True).leaf
    chain = pem(intermediate()) + pem(stray)
    refusal("ValidationException", cloud.load, issue("a.example.com"), CertificateChain=chain)
    cloud.load(issue("a.example.com"), CertificateChain=pem(intermediate()) + pem(root()))


def test_leaf_must_not_be_in_the_chain(cloud: Cloud) -> None:
    material = issue("a.example.com")
    for chain in ([material.leaf, intermediate()], [intermediate(), material.leaf]):
        blob = b"".join(map(pem, chain))
        message = refusal("ValidationException", cloud.load, material, CertificateChain=blob)
        assert "must not contain the certificate itself" in message


def test_one_certificate_only(cloud: Cloud) -> None:
    material = issue("a.example.com")
    both = pem(material.leaf) + pem(intermediate())
    message = refusal("ValidationException", cloud.load, material, Certificate=both)
    assert "contains more than one certificate" in message


def test_missing_chain_is_refused(cloud: Cloud) -> None:
    message = refusal(
        "ValidationException", cloud.load, issue("a.example.com"), CertificateChain=None
    )
    assert "not a valid self signed" in message


def test_self_signed_needs_no_chain(cloud: Cloud) -> None:
    cloud.load(issue("a.example.com", self_signed=True))


def test_spoilt_pem_is_refused(cloud: Cloud) -> None:
    material = issue("a.example.com")
    for spoilt in (pem(material.leaf).replace(b"\n", b" \n"), b"subject=\n" + pem(material.leaf)):
        refusal("ValidationException", cloud.load, material, Certificate=spoilt)
    refusal(
        "ValidationException",
        cloud.load,
        material,
        Certificate=material.leaf.public_bytes(Encoding.DER),
    )
    refusal("ValidationException", cloud.load, material, CertificateChain=b"nothing")


def test_dates_are_checked(cloud: Cloud) -> None:
    refusal("ValidationException", cloud.load, issue("a.example.com", start=-2 * DAY, end=-DAY))
    refusal("ValidationException", cloud.load, issue("a.example.com", start=DAY))


@pytest.mark.parametrize(
    ("field", "limit"),
    [("Certificate", 32768), ("PrivateKey", 5120), ("CertificateChain", 2097152)],
)
def test_size_limits(cloud: Cloud, field: str, limit: int) -> None:
    message = refusal(
        "ValidationException", cloud.load, issue("a.example.com"), **{field: b"x" * (limit + 1)}
    )
    assert str(limit) in message


def test_unsupported_key_is_refused(cloud: Cloud) -> None:
    private_key = ec.generate_private_key(ec.SECP256K1())
    subject = pki.name("a.example.com")
    leaf = pki.sign(subject, private_key.public_key(), subject, private_key, [])
    refusal("ValidationException", cloud.load, Material(leaf, private_key, []))


# ACM: importing again


def test_reimport_keeps_tags_uses_and_arn(cloud: Cloud) -> None:
    arn = cloud.load(issue("a.example.com"), Tags=[{"Key": "Team", "Value": "web"}])
    balancer = cloud.balancer()
    cloud.listener(balancer, arn)
    renewed = issue("a.example.com", number=1)
    assert cloud.load(renewed, CertificateArn=arn) == arn
    assert cloud.acm.list_tags_for_certificate(CertificateArn=arn)["Tags"] == [
        {"Key": "Team", "Value": "web"}
    ]
    described = cloud.describe(arn)
    assert described["InUseBy"] == [balancer]
    assert int(described["Serial"].replace(":", ""), 16) == renewed.leaf.serial_number
    assert described["ImportedAt"] > described["CreatedAt"]


def test_reimport_refuses_tags(cloud: Cloud) -> None:
    arn = cloud.load(issue("a.example.com"))
    tags = [{"Key": "Team", "Value": "web"}]
    message = refusal(
        "ValidationException", cloud.load, issue("a.example.com"), CertificateArn=arn, Tags=tags
    )
    assert message == "Tagging is not permitted on re-import."


@pytest.mark.parametrize("kind", ["p384", "rsa2048"])
def test_reimport_refuses_another_key_type_or_size(cloud: Cloud, kind: str) -> None:
    arn = cloud.load(issue("a.example.com"))
    refusal(
        "ValidationException", cloud.load, issue("a.example.com", kind=kind), CertificateArn=arn
    )
    assert cloud.describe(arn)["KeyAlgorithm"] == "EC_prime256v1"


def test_reimport_needs_a_name_in_common(cloud: Cloud) -> None:
    arn = cloud.load(issue("a.example.com", "b.example.com"))
    refusal("ValidationException", cloud.load, issue("c.example.com"), CertificateArn=arn)
    cloud.load(issue("B.example.com", "c.example.com"), CertificateArn=arn)


def test_reimport_may_not_lose_key_usages(cloud: Cloud) -> None:
    arn = cloud.load(issue("a.example.com", usages=("digital_signature", "key_agreement")))
    message = refusal("ValidationException", cloud.load, issue("a.example.com"), CertificateArn=arn)
    assert (
        message
        == "New certificate is missing one or more Key Usages "
        "supported by the currently imported certificate"
    )


def test_reimport_may_lose_key_encipherment_only_with_ecdsa(cloud: Cloud) -> None:
    classic = ("digital_signature", "key_encipherment")
    ecdsa = cloud.load(issue("a.example.com", usages=classic))
    cloud.load(issue("a.example.com"), CertificateArn=ecdsa)
    rsa = cloud.load(issue("a.example.com", kind="rsa2048", usages=classic))
    refusal(
        "ValidationException",
        cloud.load,
        issue("a.example.com", kind="rsa2048"),
        CertificateArn=rsa,
    )


def test_reimport_may_lose_only_client_auth(cloud: Cloud) -> None:
    arn = cloud.load(issue("a.example.com", extended=(SERVER_AUTH, CLIENT_AUTH)))
    cloud.load(issue("a.example.com"), CertificateArn=arn)
    cloud.load(
        issue("a.example.com", extended=(SERVER_AUTH, ExtendedKeyUsageOID.CODE_SIGNING)),
        CertificateArn=arn,
    )
    message = refusal("ValidationException", cloud.load, issue("a.example.com"), CertificateArn=arn)
    assert message == (
        "New certificate is missing one or more Extended Key Usages "
        "supported by the currently imported certificate"
    )


def test_reimport_may_not_bring_usages_where_there_were_none(cloud: Cloud) -> None:
    arn = cloud.load(issue("a.example.com", usages=None, extended=None))
    refusal(
        "ValidationException", cloud.load, issue("a.example.com", extended=None), CertificateArn=arn
    )
    refusal(
        "ValidationException", cloud.load, issue("a.example.com", usages=None), CertificateArn=arn
    )
    cloud.load(issue("a.example.com", usages=None, extended=None, number=1), CertificateArn=arn)


def test_refused_reimport_changes_nothing(cloud: Cloud) -> None:
    material = issue("a.example.com")
    arn = cloud.load(material)
    refusal("ValidationException", cloud.load, issue("b.example.com"), CertificateArn=arn)
    assert cloud.acm.get_certificate(CertificateArn=arn)["Certificate"].encode() == pem(
        material.leaf
    )


def test_reimport_of_nothing(cloud: Cloud) -> None:
    arn = f"arn:aws:acm:{REGION}:123456789012:certificate/00000000-0000-0000-0000-000000000000"
    refusal("ResourceNotFoundException", cloud.load, issue("a.example.com"), CertificateArn=arn)


def test_yearly_quota_counts_new_imports_and_deletion_gives_nothing_back(cloud: Cloud) -> None:
    cloud.options(yearlyImports=2)
    first = cloud.load(issue("a.example.com"))
    cloud.load(issue("a.example.com", number=1), CertificateArn=first)
    cloud.load(issue("b.example.com"))
    cloud.acm.delete_certificate(CertificateArn=first)
    refusal("LimitExceededException", cloud.load, issue("c.example.com"))


def test_yearly_quota_may_count_reimports(cloud: Cloud) -> None:
    cloud.options(yearlyImports=2, reimportsCount=True)
    arn = cloud.load(issue("a.example.com"))
    cloud.load(issue("a.example.com", number=1), CertificateArn=arn)
    refusal("LimitExceededException", cloud.load, issue("a.example.com"), CertificateArn=arn)
    cloud.options(yearlyImports=3)
    refusal("ValidationException", cloud.load, issue("b.example.com"), CertificateArn=arn)
    cloud.load(issue("a.example.com"), CertificateArn=arn)


def test_quota_of_certificates(cloud: Cloud) -> None:
    cloud.options(importedCertificates=1)
    cloud.load(issue("a.example.com"))
    refusal("LimitExceededException", cloud.load, issue("b.example.com"))


# ACM: reading, tagging, deleting


def test_description(cloud: Cloud) -> None:
    material = issue(
        "a.example.com",
        kind="rsa2048",
        usages=("digital_signature", "key_encipherment"),
        serial=0xA1B2C3,
    )
    described = cloud.describe(cloud.load(material))
    assert described["Serial"] == "a1:b2:c3"
    assert described["KeyAlgorithm"] == "RSA_2048"
    assert described["SignatureAlgorithm"] == "SHA256WITHECDSA"
    assert described["KeyUsages"] == [{"Name": "DIGITAL_SIGNATURE"}, {"Name": "KEY_ENCIPHERMENT"}]
    assert described["ExtendedKeyUsages"] == [
        {"Name": "TLS_WEB_SERVER_AUTHENTICATION", "OID": "1.3.6.1.5.5.7.3.1"}
    ]
    assert (described["Type"], described["Status"], described["InUseBy"]) == (
        "IMPORTED",
        "ISSUED",
        [],
    )
    assert described["NotAfter"] == material.leaf.not_valid_after_utc
    assert "RenewalSummary" not in described


def test_key_algorithm_names(cloud: Cloud) -> None:
    names = {
        kind: cloud.describe(cloud.load(issue("a.example.com", kind=kind)))["KeyAlgorithm"]
        for kind in ("p256", "p384")
    }
    assert names == {"p256": "EC_prime256v1", "p384": "EC_secp384r1"}


def test_status_expires(cloud: Cloud) -> None:
    arn = cloud.load(issue("a.example.com"))
    cloud.options(clockOffsetSeconds=91 * 86400)
    assert cloud.describe(arn)["Status"] == "EXPIRED"


def test_get_returns_the_chain_as_imported(cloud: Cloud) -> None:
    material = issue("a.example.com")
    got = cloud.acm.get_certificate(CertificateArn=cloud.load(material))
    assert got["Certificate"].encode() == pem(material.leaf)
    assert got["CertificateChain"].encode() == pem(intermediate())


def test_ecdsa_is_listed_only_when_asked_for(cloud: Cloud) -> None:
    ecdsa = cloud.load(issue("a.example.com"))
    rsa = cloud.load(issue("b.example.com", kind="rsa2048"))

    def listed(**parameters: Any) -> list[str]:
        return [
            c["CertificateArn"]
            for c in cloud.acm.list_certificates(**parameters)["CertificateSummaryList"]
        ]

    assert listed() == [rsa]
    assert listed(Includes={"keyUsage": ["DIGITAL_SIGNATURE"]}) == [rsa]
    assert listed(Includes={"keyTypes": ALL_KEY_TYPES}) == [ecdsa, rsa]


def test_list_is_paginated(cloud: Cloud) -> None:
    arns = [cloud.load(issue(f"n{n}.example.com")) for n in range(5)]
    parameters = {"Includes": {"keyTypes": ALL_KEY_TYPES}}
    one = cloud.acm.list_certificates(MaxItems=2, **parameters)
    assert len(one["CertificateSummaryList"]) == 2 and one["NextToken"]
    cloud.options(listCertificatesPage=2)
    pages = list(cloud.acm.get_paginator("list_certificates").paginate(**parameters))
    assert [len(p["CertificateSummaryList"]) for p in pages] == [2, 2, 1]
    assert [c["CertificateArn"] for p in pages for c in p["CertificateSummaryList"]] == arns
    refusal("ValidationException", cloud.acm.list_certificates, NextToken="nonsense")
    cloud.acm.delete_certificate(CertificateArn=arns[1])
    [third, _] = cloud.acm.list_certificates(NextToken=one["NextToken"], **parameters)[
        "CertificateSummaryList"
    ]
    assert third["CertificateArn"] == arns[2]


def test_pages_are_complete_whatever_was_listed_before(cloud: Cloud) -> None:
    rsa, ecdsa = (
        cloud.load(issue(f"{kind}.example.com", kind=kind)) for kind in ("rsa2048", "p256")
    )
    other = cloud.load(issue("other.example.com", kind="rsa2048"))
    cloud.acm.list_certificates()  # without key types: no ECDSA
    cloud.options(listCertificatesPage=1)
    pages = cloud.acm.get_paginator("list_certificates").paginate(
        Includes={"keyTypes": ["RSA_2048", "EC_prime256v1"]}
    )
    assert [one["CertificateArn"] for page in pages for one in page["CertificateSummaryList"]] == [
        rsa,
        ecdsa,
        other,
    ]


def test_summaries(cloud: Cloud) -> None:
    names = [f"n{n}.example.com" for n in range(101)]
    arn = cloud.load(issue(*names, kind="rsa2048"))
    cloud.listener(cloud.balancer(), arn)
    [summary] = cloud.acm.list_certificates()["CertificateSummaryList"]
    assert summary["SubjectAlternativeNameSummaries"] == names[:100]
    assert summary["HasAdditionalSubjectAlternativeNames"] is True
    assert (summary["InUse"], summary["Type"], summary["Status"]) == (True, "IMPORTED", "ISSUED")
    assert summary["KeyUsages"] == ["DIGITAL_SIGNATURE"]
    assert summary["ExtendedKeyUsages"] == ["TLS_WEB_SERVER_AUTHENTICATION"]
    assert {"NotBefore", "NotAfter", "ImportedAt", "CreatedAt"} <= set(summary)
    assert not {"Serial", "InUseBy", "Subject"} & set(summary)


def test_tags(cloud: Cloud) -> None:
    arn = cloud.load(issue("a.example.com"))
    cloud.acm.add_tags_to_certificate(
        CertificateArn=arn, Tags=[{"Key": "a", "Value": "1"}, {"Key": "b"}]
    )
    cloud.acm.remove_tags_from_certificate(CertificateArn=arn, Tags=[{"Key": "a"}])
    assert cloud.acm.list_tags_for_certificate(CertificateArn=arn)["Tags"] == [{"Key": "b"}]
    reserved = [{"Key": "aws:mine", "Value": "1"}]
    refusal(
        "ValidationException", cloud.acm.add_tags_to_certificate, CertificateArn=arn, Tags=reserved
    )
    refusal("ValidationException", cloud.load, issue("b.example.com"), Tags=reserved)
    many = [{"Key": f"k{n}"} for n in range(50)]
    refusal(
        "TooManyTagsException", cloud.acm.add_tags_to_certificate, CertificateArn=arn, Tags=many
    )


def test_refused_tags_leave_no_certificate(cloud: Cloud) -> None:
    cloud.options(yearlyImports=1)
    refusal(
        "ValidationException",
        cloud.load,
        issue("a.example.com"),
        Tags=[{"Key": "aws:mine", "Value": "1"}],
    )
    found = cloud.acm.list_certificates(Includes={"keyTypes": ALL_KEY_TYPES})
    assert found["CertificateSummaryList"] == []
    cloud.load(issue("a.example.com"))


@pytest.mark.parametrize(
    "operation",
    ["describe_certificate", "get_certificate", "delete_certificate", "list_tags_for_certificate"],
)
def test_arns(cloud: Cloud, operation: str) -> None:
    act = getattr(cloud.acm, operation)
    refusal("InvalidArnException", act, CertificateArn="arn:aws:elasticloadbalancing:eu-west-1:1:x")
    gone = f"arn:aws:acm:{REGION}:123456789012:certificate/00000000-0000-0000-0000-000000000000"
    refusal("ResourceNotFoundException", act, CertificateArn=gone)


def test_certificate_in_use_is_not_deleted(cloud: Cloud) -> None:
    default, sni = cloud.load(issue("a.example.com")), cloud.load(issue("b.example.com"))
    balancer = cloud.balancer()
    listener = cloud.listener(balancer, default)
    cloud.add(listener, sni)
    for arn in (default, sni):
        assert cloud.describe(arn)["InUseBy"] == [balancer]
        refusal("ResourceInUseException", cloud.acm.delete_certificate, CertificateArn=arn)
    cloud.remove(listener, sni)
    assert cloud.describe(sni)["InUseBy"] == []
    cloud.acm.delete_certificate(CertificateArn=sni)
    refusal("ResourceNotFoundException", cloud.describe, sni)


def test_in_use_by_may_lag(cloud: Cloud) -> None:
    cloud.options(inUseLagSeconds=0.3)
    default, sni = cloud.load(issue("a.example.com")), cloud.load(issue("b.example.com"))
    listener = cloud.listener(cloud.balancer(), default)
    cloud.add(listener, sni)
    assert cloud.describe(sni)["InUseBy"] == []
    refusal("ResourceInUseException", cloud.acm.delete_certificate, CertificateArn=sni)
    time.sleep(0.35)
    assert len(cloud.describe(sni)["InUseBy"]) == 1
    cloud.remove(listener, sni)
    assert len(cloud.describe(sni)["InUseBy"]) == 1
    refusal("ResourceInUseException", cloud.acm.delete_certificate, CertificateArn=sni)
    time.sleep(0.35)
    cloud.acm.delete_certificate(CertificateArn=sni)


def test_deletion_may_lag(cloud: Cloud) -> None:
    cloud.options(deleteLagSeconds=0.2)
    arn = cloud.load(issue("a.example.com"))
    cloud.acm.delete_certificate(CertificateArn=arn)
    cloud.describe(arn)
    time.sleep(0.25)
    refusal("ResourceNotFoundException", cloud.describe, arn)


# Load balancers


def test_modify_replaces_the_default_and_keeps_the_list(cloud: Cloud) -> None:
    one, two, sni = (cloud.load(issue(f"{n}.example.com")) for n in ("one", "two", "sni"))
    listener = cloud.listener(cloud.balancer(), one)
    cloud.add(listener, sni)
    modified = cloud.elb.modify_listener(
        ListenerArn=listener, Certificates=[{"CertificateArn": two}]
    )
    assert modified["Listeners"][0]["Certificates"] == [{"CertificateArn": two}]
    assert modified["Listeners"][0]["DefaultActions"][0]["Type"] == "fixed-response"
    assert cloud.held(listener) == [(two, True), (sni, False)]


def test_modify_takes_exactly_one_certificate(cloud: Cloud) -> None:
    one, two = cloud.load(issue("one.example.com")), cloud.load(issue("two.example.com"))
    listener = cloud.listener(cloud.balancer(), one)
    both = [{"CertificateArn": one}, {"CertificateArn": two}]
    refusal("ValidationError", cloud.elb.modify_listener, ListenerArn=listener, Certificates=both)
    refusal(
        "ValidationError",
        cloud.elb.add_listener_certificates,
        ListenerArn=listener,
        Certificates=both,
    )


def test_is_default_is_refused(cloud: Cloud) -> None:
    arn = cloud.load(issue("a.example.com"))
    listener = cloud.listener(cloud.balancer(), arn)
    for operation in (
        "modify_listener",
        "add_listener_certificates",
        "remove_listener_certificates",
    ):
        for value in (True, False):
            certificates = [{"CertificateArn": arn, "IsDefault": value}]
            message = refusal(
                "ValidationError",
                getattr(cloud.elb, operation),
                ListenerArn=listener,
                Certificates=certificates,
            )
            assert message == "You cannot set the isDefault parameter for a certificate."


def test_unknown_certificates(cloud: Cloud) -> None:
    arn = cloud.load(issue("a.example.com"))
    gone = arn[:-4] + "0000"
    elsewhere = cloud.client("acm", "us-east-1").import_certificate(
        **issue("a.example.com").fields()
    )["CertificateArn"]
    balancer = cloud.balancer()
    listener = cloud.listener(balancer, arn)
    for unknown in (gone, elsewhere):
        refusal("CertificateNotFound", cloud.add, listener, unknown)
        certificates = [{"CertificateArn": unknown}]
        refusal(
            "CertificateNotFound",
            cloud.elb.modify_listener,
            ListenerArn=listener,
            Certificates=certificates,
        )
        refusal("CertificateNotFound", cloud.listener, balancer, unknown, port=8443)
    refusal("ValidationError", cloud.add, listener, "nonsense")
    assert cloud.held(listener) == [(arn, True)]


def test_listeners_show_the_default_only(cloud: Cloud) -> None:
    default, sni = cloud.load(issue("a.example.com")), cloud.load(issue("b.example.com"))
    balancer = cloud.balancer()
    listener = cloud.listener(balancer, default)
    cloud.add(listener, sni)
    for parameters in ({"ListenerArns": [listener]}, {"LoadBalancerArn": balancer}):
        [described] = cloud.elb.describe_listeners(**parameters)["Listeners"]
        assert described["Certificates"] == [{"CertificateArn": default}]


def test_default_in_the_list_appears_twice(cloud: Cloud) -> None:
    arn = cloud.load(issue("a.example.com"))
    listener = cloud.listener(cloud.balancer(), arn)
    cloud.add(listener, arn)
    assert cloud.held(listener) == [(arn, True), (arn, False)]
    cloud.remove(listener, arn)
    assert cloud.held(listener) == [(arn, True)]


def test_adding_is_idempotent(cloud: Cloud) -> None:
    cloud.options(listenerCertificates=1)
    default, sni = cloud.load(issue("a.example.com")), cloud.load(issue("b.example.com"))
    listener = cloud.listener(cloud.balancer(), default)
    cloud.add(listener, sni)
    cloud.add(listener, sni)
    assert cloud.held(listener) == [(default, True), (sni, False)]


def test_default_cannot_be_removed(cloud: Cloud) -> None:
    arn = cloud.load(issue("a.example.com"))
    listener = cloud.listener(cloud.balancer(), arn)
    assert (
        refusal("OperationNotPermitted", cloud.remove, listener, arn)
        == "Default certificate cannot be removed"
    )
    assert cloud.held(listener) == [(arn, True)]


def test_removing_what_is_not_listed(cloud: Cloud) -> None:
    arn, other = cloud.load(issue("a.example.com")), cloud.load(issue("b.example.com"))
    listener = cloud.listener(cloud.balancer(), arn)
    cloud.remove(listener, other)
    cloud.options(removingUnlisted="CertificateNotFound")
    refusal("CertificateNotFound", cloud.remove, listener, other)


def test_quota_does_not_count_the_default(cloud: Cloud) -> None:
    default = cloud.load(issue("default.example.com"))
    listener = cloud.listener(cloud.balancer(), default)
    for n in range(25):
        cloud.add(listener, cloud.load(issue(f"n{n}.example.com")))
    refusal("TooManyCertificates", cloud.add, listener, cloud.load(issue("more.example.com")))
    assert len(cloud.held(listener)) == 26
    cloud.options(listenerCertificates=26)
    cloud.add(listener, default)


def test_quota_is_the_load_balancers(cloud: Cloud) -> None:
    cloud.options(listenerCertificates=1)
    balancer, default = cloud.balancer(), cloud.load(issue("a.example.com"))
    one, two = cloud.listener(balancer, default), cloud.listener(balancer, default, port=8443)
    cloud.add(one, default)
    refusal("TooManyCertificates", cloud.add, two, default)


def test_listener_certificates_are_paginated(cloud: Cloud) -> None:
    arns = [cloud.load(issue(f"n{n}.example.com")) for n in range(5)]
    listener = cloud.listener(cloud.balancer(), arns[0])
    for arn in arns[1:]:
        cloud.add(listener, arn)
    cloud.options(describePage=2)
    pages = list(
        cloud.elb.get_paginator("describe_listener_certificates").paginate(ListenerArn=listener)
    )
    assert [[c["CertificateArn"] for c in p["Certificates"]] for p in pages] == [
        arns[:2],
        arns[2:4],
        arns[4:],
    ]


def test_other_descriptions_are_paginated(cloud: Cloud) -> None:
    balancers = [cloud.balancer(f"front{n}") for n in range(3)]
    listeners = [cloud.listener(balancers[0], None, port=80 + n) for n in range(3)]
    cloud.options(describePage=2)
    pages = list(cloud.elb.get_paginator("describe_load_balancers").paginate())
    assert [b["LoadBalancerArn"] for p in pages for b in p["LoadBalancers"]] == balancers and len(
        pages
    ) == 2
    pages = list(
        cloud.elb.get_paginator("describe_listeners").paginate(LoadBalancerArn=balancers[0])
    )
    assert [x["ListenerArn"] for p in pages for x in p["Listeners"]] == listeners and len(
        pages
    ) == 2


def test_https_listener_needs_a_certificate(cloud: Cloud) -> None:
    balancer = cloud.balancer()
    refusal("ValidationError", cloud.listener, balancer, None, Protocol="HTTPS")
    listener = cloud.listener(balancer, None, port=80)
    refusal("ValidationError", cloud.elb.modify_listener, ListenerArn=listener, Protocol="HTTPS")


def test_http_listener_takes_no_certificate(cloud: Cloud) -> None:
    balancer, arn = cloud.balancer(), cloud.load(issue("a.example.com"))
    refusal("ValidationError", cloud.listener, balancer, arn, Protocol="HTTP")
    listener = cloud.listener(balancer, None, port=80)
    certificates = [{"CertificateArn": arn}]
    refusal(
        "ValidationError",
        cloud.elb.modify_listener,
        ListenerArn=listener,
        Certificates=certificates,
    )
    refusal("OperationNotPermitted", cloud.add, listener, arn)
    assert cloud.held(listener) == []


def test_listeners_that_are_not_there(cloud: Cloud) -> None:
    arn = cloud.load(issue("a.example.com"))
    listener = cloud.listener(cloud.balancer(), arn)
    gone = listener[:-4] + "0000"
    refusal("ListenerNotFound", cloud.add, gone, arn)
    refusal("ListenerNotFound", cloud.held, gone)
    refusal("ListenerNotFound", cloud.elb.describe_listeners, ListenerArns=[listener, gone])
    refusal(
        "ListenerNotFound",
        cloud.elb.modify_listener,
        ListenerArn=gone,
        Certificates=[{"CertificateArn": arn}],
    )
    refusal("ListenerNotFound", cloud.elb.describe_rules, ListenerArn=gone)
    refusal("ValidationError", cloud.held, arn)
    describe = cloud.elb.describe_load_balancers
    [balancer] = describe()["LoadBalancers"]
    refusal("LoadBalancerNotFound", describe, LoadBalancerArns=[balancer["LoadBalancerArn"], gone])


def test_network_load_balancer(cloud: Cloud) -> None:
    balancer = cloud.balancer("net", Type="network")
    assert ":loadbalancer/net/" in balancer
    one, two, sni = (cloud.load(issue(f"{n}.example.com")) for n in ("one", "two", "sni"))
    group = cloud.elb.create_target_group(
        Name="group", Protocol="TCP", Port=80, TargetType="ip", VpcId=vpc(cloud)
    )
    forward = {"Type": "forward", "TargetGroupArn": group["TargetGroups"][0]["TargetGroupArn"]}
    listener = cloud.listener(balancer, one, Protocol="TLS", DefaultActions=[forward])
    cloud.add(listener, sni)
    cloud.elb.modify_listener(ListenerArn=listener, Certificates=[{"CertificateArn": two}])
    assert ":listener/net/" in listener
    assert cloud.held(listener) == [(two, True), (sni, False)]


def vpc(cloud: Cloud) -> str:
    return cloud.client("ec2").describe_vpcs()["Vpcs"][0]["VpcId"]


def test_new_listener_names_a_policy_and_a_target_group_that_exist(cloud: Cloud) -> None:
    balancer = cloud.balancer()
    certificate = cloud.load(issue("a.example.com"))
    policy = {"SslPolicy": "ELBSecurityPolicy-None"}
    refusal("SSLPolicyNotFound", cloud.listener, balancer, certificate, **policy)
    gone = "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/gone/50dc6c495c0c9188"
    forward = {"DefaultActions": [{"Type": "forward", "TargetGroupArn": gone}]}
    refusal("TargetGroupNotFound", cloud.listener, balancer, certificate, **forward)
    cloud.listener(balancer, certificate)


def test_one_listener_per_port(cloud: Cloud) -> None:
    balancer = cloud.balancer()
    cloud.listener(balancer, None, port=80)
    refusal("DuplicateListener", cloud.listener, balancer, None, port=80)


def test_load_balancer_description(cloud: Cloud) -> None:
    arn = cloud.balancer()
    [described] = cloud.elb.describe_load_balancers(LoadBalancerArns=[arn])["LoadBalancers"]
    assert described["DNSName"].endswith(f".{REGION}.elb.amazonaws.com")
    assert (described["Scheme"], described["Type"]) == ("internet-facing", "application")


def test_rules_come_in_order_of_priority(cloud: Cloud) -> None:
    listener = cloud.listener(cloud.balancer(), None, port=80)
    for priority in (20, 3, 100):
        cloud.elb.create_rule(
            ListenerArn=listener,
            Priority=priority,
            Conditions=[{"Field": "path-pattern", "Values": [f"/{priority}"]}],
            Actions=[REDIRECT],
        )
    rules = cloud.elb.describe_rules(ListenerArn=listener)["Rules"]
    assert [rule["Priority"] for rule in rules] == ["3", "20", "100", "default"]


# What visitors lose

OURS = [
    {"Key": "certloop:installation", "Value": "shop-certificates"},
    {"Key": "certloop:certificate", "Value": "shop"},
]


@pytest.fixture
def site(cloud: Cloud) -> str:
    """A listener whose default is a placeholder that nobody accepts."""
    return cloud.listener(
        cloud.balancer(), cloud.load(issue("placeholder.invalid", self_signed=True))
    )


def later(cloud: Cloud, days: int) -> Any:
    """A client of load balancers whose clock is ahead, as its signatures show."""
    client = cloud.client("elbv2", access_key=f"AKIDLATER{days}")

    def sign(request: Any, **_: Any) -> None:
        ahead = time.gmtime(time.time() + days * 86400)
        request.headers["X-Amz-Date"] = time.strftime("%Y%m%dT%H%M%SZ", ahead)

    client.meta.events.register("before-send.elastic-load-balancing-v2", sign, unique_id="clock")
    return client


def take_off(client: Any, listener: str, certificate: str) -> None:
    client.remove_listener_certificates(
        ListenerArn=listener, Certificates=[{"CertificateArn": certificate}]
    )


def test_removing_the_only_one_loses_its_names(cloud: Cloud, site: str) -> None:
    theirs = issue("a.example.com", "*.example.org", kind="rsa2048", common_name="a.example.com")
    arn = cloud.load(theirs)
    cloud.add(site, arn)
    assert cloud.losses() == []
    before = cloud.local("GET", "requests")["next"]
    take_off(cloud.client("elbv2", access_key="shop-renew"), site, arn)
    wild, exact = cloud.losses()
    assert 0 <= time.time() - exact.pop("at") < 5
    placeholder, _ = cloud.held(site)[0]
    assert exact == {
        "request": before + 1,
        "operation": "RemoveListenerCertificates",
        "caller": "shop-renew",
        "listener": site,
        "name": "a.example.com",
        "keyType": "RSA",
        "sni": True,
        "lost": True,
        "arn": arn,
        "serial": f"{theirs.leaf.serial_number:x}",
        "notAfter": theirs.leaf.not_valid_after_utc.timestamp(),
        "ours": False,
        "installation": None,
        "certificate": None,
        "instead": [placeholder],
    }
    assert (wild["name"], wild["keyType"]) == ("*.example.org", "RSA")


@pytest.mark.parametrize(
    ("theirs", "other", "names"),
    [
        (issue("a.example.com"), issue("a.example.com", "b.example.com", number=1), []),
        (issue("A.Example.com"), issue("a.example.COM", number=1), []),
        (issue("a.example.com"), issue("*.example.com", number=1), []),
        (issue("a.b.example.com"), issue("*.example.com", number=1), ["a.b.example.com"]),
        (issue("example.com"), issue("*.example.com", number=1), ["example.com"]),
        (issue("*.example.com"), issue("a.example.com", number=1), ["*.example.com"]),
        (issue("*.example.com"), issue("*.example.com", number=1), []),
        (
            issue("a.example.com", "b.example.com"),
            issue("a.example.com", number=1),
            ["b.example.com"],
        ),
        (issue("a.example.com"), issue("a.example.com", kind="rsa2048"), ["a.example.com"]),
        (issue("a.example.com", kind="p384"), issue("a.example.com"), []),
        (issue("a.example.com", kind="rsa2048"), issue("a.example.com"), ["a.example.com"]),
        (
            issue("a.example.com"),
            issue("a.example.com", number=1, self_signed=True),
            ["a.example.com"],
        ),
        (
            issue("a.example.com"),
            issue("b.example.com", number=1, common_name="a.example.com"),
            ["a.example.com"],
        ),
        (issue("a.example.com", self_signed=True), issue("b.example.com", number=1), []),
    ],
)
def test_what_another_one_covers_is_not_lost(
    cloud: Cloud, site: str, theirs: Material, other: Material, names: list[str]
) -> None:
    arn = cloud.load(theirs)
    cloud.add(site, arn)
    cloud.add(site, cloud.load(other))
    cloud.remove(site, arn)
    assert [(name, sni) for name, _, sni in cloud.lost()] == [(name, True) for name in names]


def test_validity_is_judged_by_the_caller_s_clock(cloud: Cloud, site: str) -> None:
    theirs = cloud.load(issue("a.example.com"))
    shorter = cloud.load(issue("a.example.com", number=1, end=10 * DAY))
    for arn in (theirs, shorter):
        cloud.add(site, arn)
    take_off(later(cloud, 9), site, theirs)
    assert cloud.lost() == []
    cloud.add(site, theirs)
    take_off(later(cloud, 11), site, theirs)
    [loss] = cloud.losses()
    assert (loss["arn"], loss["instead"]) == (theirs, [shorter])
    cloud.local("DELETE", "losses")
    cloud.add(site, theirs)
    take_off(later(cloud, 91), site, theirs)
    assert cloud.lost() == []  # it had ended as well


def test_what_is_revoked_serves_nobody(cloud: Cloud, site: str) -> None:
    theirs, other = issue("a.example.com"), issue("a.example.com", number=1)
    arns = [cloud.load(theirs), cloud.load(other)]
    for arn in arns:
        cloud.add(site, arn)
    cloud.options(revoked=[f"{other.leaf.serial_number:032x}"])
    cloud.remove(site, arns[0])
    assert cloud.lost() == [("a.example.com", "ECDSA", True)]
    cloud.remove(site, arns[1])
    assert cloud.lost() == []


def test_default_is_lost_with_and_without_sni(cloud: Cloud) -> None:
    theirs, other = cloud.load(issue("a.example.com")), cloud.load(issue("b.example.com"))
    site = cloud.listener(cloud.balancer(), theirs)
    cloud.put_default(site, other)
    assert cloud.lost() == [("a.example.com", "ECDSA", True), ("a.example.com", "ECDSA", False)]
    # If it moves to the list first, only visitors without SNI lose it.
    cloud.put_default(site, theirs)
    cloud.lost()
    cloud.add(site, theirs)
    cloud.put_default(site, other)
    assert cloud.lost() == [("a.example.com", "ECDSA", False)]
    cloud.remove(site, theirs)
    assert cloud.lost() == [("a.example.com", "ECDSA", True)]
    # A certificate that covers it takes nothing, and one that is also the default can leave the
    # list.
    cloud.put_default(site, theirs)
    cloud.lost()
    cloud.add(site, theirs)
    cloud.remove(site, theirs)
    cloud.put_default(site, cloud.load(issue("a.example.com", "b.example.com", number=1)))
    assert cloud.lost() == []
    # A certificate with another kind of key takes it.
    cloud.put_default(site, cloud.load(issue("a.example.com", "b.example.com", kind="rsa2048")))
    assert cloud.lost() == [
        ("a.example.com", "ECDSA", True),
        ("a.example.com", "ECDSA", False),
        ("b.example.com", "ECDSA", True),
        ("b.example.com", "ECDSA", False),
    ]


def test_address_is_served_without_sni_only(cloud: Cloud, site: str) -> None:
    arn = cloud.load(issue("192.0.2.7"))
    cloud.add(site, arn)
    cloud.remove(site, arn)
    assert cloud.lost() == []
    placeholder, _ = cloud.held(site)[0]
    cloud.put_default(site, arn)
    cloud.put_default(site, placeholder)
    assert cloud.lost() == [("192.0.2.7", "ECDSA", False)]


def test_import_over_an_arn_loses_what_it_leaves_out(cloud: Cloud, site: str) -> None:
    arn = cloud.load(issue("a.example.com", "b.example.com"))
    elsewhere = cloud.listener(cloud.balancer("second"), arn)
    cloud.add(site, arn)
    cloud.load(
        issue("a.example.com", "b.example.com", "c.example.com", number=1), CertificateArn=arn
    )
    assert cloud.lost() == []
    cloud.add(site, cloud.load(issue("b.example.com", number=2)))
    cloud.load(issue("a.example.com", "b.example.com", number=3), CertificateArn=arn)
    cloud.load(issue("a.example.com", number=4), CertificateArn=arn)
    assert [(x["name"], x["sni"], x["listener"], x["instead"]) for x in cloud.losses()] == [
        ("c.example.com", True, site, [cloud.held(site)[0][0]]),
        ("c.example.com", True, elsewhere, [arn]),
        ("c.example.com", False, elsewhere, [arn]),
        ("b.example.com", True, elsewhere, [arn]),
        ("b.example.com", False, elsewhere, [arn]),
    ]
    cloud.local("DELETE", "losses")
    refusal("ValidationException", cloud.load, issue("other.example.com"), CertificateArn=arn)
    refusal(
        "InvalidArnException",
        cloud.load,
        issue("a.example.com"),
        CertificateArn="no certificate's ARN",
    )
    assert cloud.lost() == []


def test_ours_has_both_tags(cloud: Cloud, site: str) -> None:
    for tags, ours in ((OURS, True), (OURS[:1], False), (OURS[1:], False)):
        arn = cloud.load(issue("a.example.com"), Tags=tags)
        cloud.add(site, arn)
        cloud.remove(site, arn)
        [loss] = cloud.losses()
        assert (loss["ours"], loss["lost"]) == (ours, True)
        values = {tag["Key"].partition(":")[2]: tag["Value"] for tag in tags}
        assert (loss["installation"], loss["certificate"]) == (
            values.get("installation"),
            values.get("certificate"),
        )
        cloud.local("DELETE", "losses")


def test_what_stands_on_no_listener(cloud: Cloud) -> None:
    theirs = cloud.load(issue("a.example.com", "b.example.com"))
    cloud.load(issue("a.example.com", number=1), CertificateArn=theirs)
    [loss] = cloud.losses()
    assert (loss["name"], loss["listener"], loss["instead"]) == ("b.example.com", None, [])
    cloud.acm.delete_certificate(CertificateArn=theirs)
    assert cloud.lost() == [("b.example.com", "ECDSA", True), ("a.example.com", "ECDSA", True)]
    ours = cloud.load(issue("a.example.com", "b.example.com"), Tags=OURS)
    cloud.load(issue("a.example.com", number=1), CertificateArn=ours)
    cloud.acm.delete_certificate(CertificateArn=ours)
    refusal("ResourceNotFoundException", cloud.acm.delete_certificate, CertificateArn=ours)
    assert cloud.losses() == []


def test_what_may_be_chosen_wrongly_is_noted(cloud: Cloud, site: str) -> None:
    theirs = cloud.load(issue("a.example.com"))
    ended = cloud.load(issue("a.example.com", number=1, end=10 * DAY))
    cloud.add(site, theirs)
    add = later(cloud, 11).add_listener_certificates
    add(ListenerArn=site, Certificates=[{"CertificateArn": ended}])
    [loss] = cloud.losses()
    assert (loss["lost"], loss["name"], loss["arn"], loss["instead"]) == (
        False,
        "a.example.com",
        theirs,
        [ended],
    )
    # It is recorded once, for the call that caused it.
    other = cloud.load(issue("a.example.com", number=2))
    add(ListenerArn=site, Certificates=[{"CertificateArn": other}])
    assert len(cloud.losses()) == 1


def test_listener_that_goes(cloud: Cloud) -> None:
    theirs = cloud.load(issue("a.example.com"))
    balancer = cloud.balancer()
    both = [("a.example.com", "ECDSA", True), ("a.example.com", "ECDSA", False)]
    site = cloud.listener(balancer, theirs)
    cloud.elb.modify_listener(ListenerArn=site, Protocol="HTTP", Port=80)
    assert cloud.lost() == both
    cloud.elb.delete_listener(ListenerArn=cloud.listener(balancer, theirs))
    assert cloud.lost() == both
    cloud.listener(balancer, theirs)
    cloud.elb.delete_load_balancer(LoadBalancerArn=balancer)
    assert cloud.lost() == both


def test_server_certificate_of_iam_is_foreign(cloud: Cloud, site: str) -> None:
    made = issue("a.example.com")
    uploaded = cloud.client("iam").upload_server_certificate(
        ServerCertificateName="old",
        CertificateBody=pem(made.leaf).decode(),
        PrivateKey=key_pem(made.private_key).decode(),
    )
    arn = uploaded["ServerCertificateMetadata"]["Arn"]
    cloud.add(site, arn)
    cloud.remove(site, arn)
    assert cloud.lost() == [("a.example.com", "ECDSA", True)]


def test_refused_call_loses_nothing(cloud: Cloud) -> None:
    theirs = cloud.load(issue("a.example.com"))
    site = cloud.listener(cloud.balancer(), theirs)
    refusal("OperationNotPermitted", cloud.remove, site, theirs)
    refusal("ResourceInUseException", cloud.acm.delete_certificate, CertificateArn=theirs)
    cloud.local("POST", "faults", {"operation": "ModifyListener", "code": "Throttling"})
    other = cloud.load(issue("b.example.com"))
    refusal("Throttling", cloud.put_default, site, other)
    assert cloud.losses() == []
    cloud.local(
        "POST", "faults", {"operation": "ModifyListener", "kind": "after", "code": "Throttling"}
    )
    refusal("Throttling", cloud.put_default, site, other)
    assert len(cloud.losses()) == 2
    cloud.local("POST", "reset")
    assert cloud.losses() == []


# What settles only after a while


@pytest.mark.parametrize("code", ["CertificateNotFound", "UnsupportedCertificate"])
def test_new_certificate_is_unknown_to_listeners_for_some_calls(cloud: Cloud, code: str) -> None:
    default = cloud.load(issue("a.example.com"))
    listener = cloud.listener(cloud.balancer(), default)
    cloud.options(unknownCertificate={"calls": 2, "code": code})
    fresh = cloud.load(issue("b.example.com"))
    refusal(code, cloud.add, listener, fresh)
    refusal(
        code,
        cloud.elb.modify_listener,
        ListenerArn=listener,
        Certificates=[{"CertificateArn": fresh}],
    )
    cloud.add(listener, fresh)


def test_new_certificate_is_unknown_to_listeners_for_some_time(cloud: Cloud) -> None:
    default = cloud.load(issue("a.example.com"))
    listener = cloud.listener(cloud.balancer(), default)
    cloud.options(unknownCertificate={"seconds": 0.2})
    fresh = cloud.load(issue("b.example.com"))
    refusal("CertificateNotFound", cloud.add, listener, fresh)
    time.sleep(0.25)
    cloud.load(issue("b.example.com", number=1), CertificateArn=fresh)
    cloud.add(listener, fresh)


def test_added_certificate_is_listed_after_a_while(cloud: Cloud) -> None:
    default, sni = cloud.load(issue("a.example.com")), cloud.load(issue("b.example.com"))
    listener = cloud.listener(cloud.balancer(), default)
    cloud.options(listenerCertificatesLagSeconds=0.2)
    cloud.add(listener, sni)
    assert cloud.held(listener) == [(default, True)]
    time.sleep(0.25)
    assert cloud.held(listener) == [(default, True), (sni, False)]


def test_rates(cloud: Cloud) -> None:
    cloud.options(rates=True)
    arn = cloud.load(issue("a.example.com"))
    refusal("ThrottlingException", cloud.load, issue("b.example.com"))
    cloud.describe(arn)
    time.sleep(1.05)
    cloud.load(issue("b.example.com"))
    cloud.options(rates={"DescribeLoadBalancers": 1, "s3": 1})
    cloud.elb.describe_load_balancers()
    refusal("Throttling", cloud.elb.describe_load_balancers)
    cloud.s3.list_buckets()
    refusal("SlowDown", cloud.s3.list_buckets)


# S3


@pytest.fixture
def bucket(cloud: Cloud) -> str:
    cloud.s3.create_bucket(
        Bucket="bucket", CreateBucketConfiguration={"LocationConstraint": REGION}
    )
    return "bucket"


def race(cloud: Cloud, path: str, condition: dict[str, str]) -> list[int]:
    """The statuses of sixteen writes at the same moment.

    moto computes the requested checksum between its check and its write: there one thread would
    overtake another.
    """
    scope = f"AKIDRENEW/20260101/{REGION}/s3/aws4_request"
    headers = {
        "Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0",
        "x-amz-sdk-checksum-algorithm": "SHA256",
        **condition,
    }
    together = threading.Barrier(16)

    def put(_: int) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", cloud.port)
        connection.connect()
        together.wait()
        connection.request("PUT", path, body=b"x" * 1_000_000, headers=headers)
        return connection.getresponse().status

    with ThreadPoolExecutor(16) as pool:
        return sorted(pool.map(put, range(16)))


def test_conditional_creation_has_one_winner(cloud: Cloud, bucket: str) -> None:
    assert race(cloud, f"/{bucket}/lease", {"If-None-Match": "*"}) == [200] + [412] * 15


def test_conditional_replacement_has_one_winner(cloud: Cloud, bucket: str) -> None:
    tag = cloud.s3.put_object(Bucket=bucket, Key="state", Body=b"0")["ETag"]
    assert race(cloud, f"/{bucket}/state", {"If-Match": tag}) == [200] + [412] * 15
    missing = {"Bucket": bucket, "Key": "none", "Body": b"", "IfMatch": tag}
    refusal("NoSuchKey", cloud.s3.put_object, **missing)
    refusal("PreconditionFailed", cloud.s3.delete_object, Bucket=bucket, Key="state", IfMatch=tag)


def test_only_a_star_may_follow_if_none_match(cloud: Cloud, bucket: str) -> None:
    refusal(
        "NotImplemented", cloud.s3.put_object, Bucket=bucket, Key="k", Body=b"", IfNoneMatch='"tag"'
    )


def test_missing_key_without_list_bucket(cloud: Cloud, bucket: str) -> None:
    cloud.s3.put_object(Bucket=bucket, Key="there", Body=b"1")
    cloud.options(noListBucket=["AKIDCHALLENGE"])
    narrow = cloud.client("s3", access_key="AKIDCHALLENGE")
    assert narrow.get_object(Bucket=bucket, Key="there")["Body"].read() == b"1"
    refusal("AccessDenied", narrow.get_object, Bucket=bucket, Key="absent")
    refusal("403", narrow.head_object, Bucket=bucket, Key="absent")
    refusal("AccessDenied", narrow.list_objects_v2, Bucket=bucket)
    refusal("NoSuchKey", cloud.s3.get_object, Bucket=bucket, Key="absent")
    refusal("NoSuchBucket", narrow.get_object, Bucket="nowhere", Key="absent")


def test_small_pages(cloud: Cloud, bucket: str) -> None:
    for n in range(5):
        cloud.s3.put_object(Bucket=bucket, Key=f"state/{n}.json", Body=b"{}")
    cloud.options(listObjectsPage=2)
    pages = list(cloud.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="state/"))
    assert [[o["Key"] for o in p["Contents"]] for p in pages] == [
        ["state/0.json", "state/1.json"],
        ["state/2.json", "state/3.json"],
        ["state/4.json"],
    ]


def test_missing_bucket(cloud: Cloud) -> None:
    refusal("NoSuchBucket", cloud.s3.get_object, Bucket="nowhere", Key="k")
    refusal("NoSuchBucket", cloud.s3.put_object, Bucket="nowhere", Key="k", Body=b"")
    refusal("NoSuchBucket", cloud.s3.list_objects_v2, Bucket="nowhere")


# /_local/


def test_fault_before(cloud: Cloud, bucket: str) -> None:
    cloud.local(
        "POST",
        "faults",
        {
            "service": "s3",
            "operation": "PutObject",
            "match": "state/",
            "conditional": True,
            "nth": 2,
            "status": 409,
            "code": "ConditionalRequestConflict",
        },
    )
    cloud.s3.put_object(Bucket=bucket, Key="state/a", Body=b"", IfNoneMatch="*")
    cloud.s3.put_object(Bucket=bucket, Key="state/b", Body=b"")
    refusal(
        "ConditionalRequestConflict",
        cloud.s3.put_object,
        Bucket=bucket,
        Key="state/c",
        Body=b"",
        IfNoneMatch="*",
    )
    refusal("404", cloud.s3.head_object, Bucket=bucket, Key="state/c")
    cloud.s3.put_object(Bucket=bucket, Key="state/c", Body=b"", IfNoneMatch="*")
    [rule] = cloud.local("GET", "faults")["faults"]
    assert (rule["matched"], rule["fired"]) == (3, 1)


def test_fault_after(cloud: Cloud, bucket: str) -> None:
    cloud.local(
        "POST",
        "faults",
        [
            {"operation": "PutObject", "kind": "after"},
            {"operation": "ImportCertificate", "kind": "after", "status": 500},
        ],
    )
    with pytest.raises(ConnectionClosedError):
        cloud.s3.put_object(Bucket=bucket, Key="k", Body=b"done")
    assert cloud.s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"done"
    refusal("InternalFailure", cloud.load, issue("a.example.com", kind="rsa2048"))
    assert len(cloud.acm.list_certificates()["CertificateSummaryList"]) == 1
    record = [r for r in cloud.local("GET", "requests")["requests"] if "fault" in r]
    assert [(r["operation"], r["performed"], r["status"]) for r in record] == [
        ("PutObject", 200, 0),
        ("ImportCertificate", 200, 500),
    ]


def test_fault_for_an_arn_in_the_list(cloud: Cloud) -> None:
    one, two = cloud.load(issue("a.example.com")), cloud.load(issue("b.example.com"))
    listener = cloud.listener(cloud.balancer(), one)
    cloud.local(
        "POST",
        "faults",
        {"service": "elbv2", "match": two, "code": "UnsupportedCertificate", "count": None},
    )
    cloud.add(listener, one)
    for _ in range(2):
        refusal("UnsupportedCertificate", cloud.add, listener, two)
    cloud.local("DELETE", "faults")
    cloud.add(listener, two)


def test_held_call_is_not_performed(cloud: Cloud, bucket: str) -> None:
    cloud.local("POST", "faults", {"operation": "PutObject", "hold": True})
    outcome: list[BaseException] = []

    def put() -> None:
        try:
            cloud.s3.put_object(Bucket=bucket, Key="k", Body=b"")
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=put)
    thread.start()
    [rule] = cloud.local("GET", "faults?fired=1&seconds=5")["faults"]
    assert rule["fired"] == 1 and thread.is_alive()
    cloud.local("DELETE", "faults")
    thread.join(5)
    assert isinstance(outcome[0], ConnectionClosedError)
    refusal("404", cloud.s3.head_object, Bucket=bucket, Key="k")


def test_delay(cloud: Cloud, bucket: str) -> None:
    cloud.local("POST", "faults", {"operation": "HeadBucket", "delaySeconds": 0.2})
    start = time.monotonic()
    cloud.s3.head_bucket(Bucket=bucket)
    assert 0.2 <= time.monotonic() - start < 1


def test_requests_are_recorded(cloud: Cloud, bucket: str) -> None:
    since = cloud.local("GET", "requests")["next"]
    cloud.s3.put_object(Bucket=bucket, Key="state/a b.json", Body=b"{}", IfNoneMatch="*")
    refusal(
        "PreconditionFailed",
        cloud.s3.put_object,
        Bucket=bucket,
        Key="state/a b.json",
        Body=b"{}",
        IfNoneMatch="*",
    )
    cloud.s3.list_objects_v2(Bucket=bucket)
    arn = cloud.load(issue("a.example.com"))
    listener = cloud.listener(cloud.balancer(), arn)
    cloud.held(listener)
    answer = cloud.local("GET", f"requests?since={since}")
    records = answer["requests"]
    assert answer["next"] == records[-1]["number"]
    assert [(r["service"], r["operation"], r["resource"], r["status"]) for r in records[:4]] == [
        ("s3", "PutObject", "bucket/state/a b.json", 200),
        ("s3", "PutObject", "bucket/state/a b.json", 412),
        ("s3", "ListObjectsV2", "bucket", 200),
        ("acm", "ImportCertificate", "", 200),
    ]
    assert records[0]["ifNoneMatch"] == "*" and records[1]["code"] == "PreconditionFailed"
    assert (records[0]["accessKey"], records[0]["region"]) == ("AKIDRENEW", REGION)
    last = records[-1]
    assert (last["operation"], last["resource"]) == ("DescribeListenerCertificates", listener)
    cloud.local("DELETE", "requests")
    assert cloud.local("GET", "requests")["requests"] == []


def test_load_balancer_endpoint(cloud: Cloud) -> None:
    default, sni = issue("default.example.com"), issue("a.example.com", kind="rsa2048")
    default_arn, sni_arn = cloud.load(default), cloud.load(sni)
    balancer = cloud.balancer()
    secure = cloud.listener(balancer, default_arn)
    cloud.add(secure, sni_arn)
    plain = cloud.listener(balancer, None, port=80, DefaultActions=[REDIRECT])
    function = f"arn:aws:lambda:{REGION}:123456789012:function:challenge"
    group = cloud.elb.create_target_group(Name="challenge", TargetType="lambda")["TargetGroups"][0][
        "TargetGroupArn"
    ]
    cloud.elb.register_targets(TargetGroupArn=group, Targets=[{"Id": function}])
    cloud.elb.create_rule(
        ListenerArn=plain,
        Priority=10,
        Conditions=[
            {"Field": "path-pattern", "Values": ["/.well-known/acme-challenge/*"]},
            {"Field": "host-header", "HostHeaderConfig": {"Values": ["*.example.com"]}},
        ],
        Actions=[{"Type": "forward", "TargetGroupArn": group}],
    )
    assert cloud.local("GET", "load-balancers")["loadBalancers"][0]["arn"] == balancer
    seen = cloud.local("GET", f"load-balancer?arn={balancer}")
    assert [(x["arn"], x["port"], x["protocol"]) for x in seen["listeners"]] == [
        (secure, 443, "HTTPS"),
        (plain, 80, "HTTP"),
    ]
    assert seen["listeners"][0]["defaultCertificate"] == default_arn
    assert seen["listeners"][0]["sniCertificates"] == [sni_arn]
    assert seen["certificates"][sni_arn]["certificate"].encode() == pem(sni.leaf)
    assert seen["certificates"][sni_arn]["chain"].encode() == pem(intermediate())
    assert seen["certificates"][sni_arn]["privateKey"].encode() == key_pem(sni.private_key)
    assert seen["certificates"][sni_arn]["keyAlgorithm"] == "RSA_2048"
    rule, last = seen["listeners"][1]["rules"]
    assert rule["priority"] == 10 and last["priority"] == "default"
    assert rule["conditions"] == [
        {"field": "path-pattern", "values": ["/.well-known/acme-challenge/*"]},
        {"field": "host-header", "values": ["*.example.com"]},
    ]
    [target] = rule["actions"][0]["targetGroups"]
    assert (target["arn"], target["functionArn"], target["functionName"]) == (
        group,
        function,
        "challenge",
    )
    assert target["multiValueHeaders"] is False
    assert (
        last["actions"][0]["type"] == "redirect" and last["actions"][0]["statusCode"] == "HTTP_301"
    )


def test_revision_follows_changes_only(cloud: Cloud) -> None:
    def revision() -> int:
        return cloud.local("GET", "revision")["revision"]

    start = revision()
    arn = cloud.load(issue("a.example.com"))
    imported = revision()
    assert imported > start
    cloud.describe(arn)
    refusal("ValidationException", cloud.load, issue("b.example.com"), CertificateArn=arn)
    assert revision() == imported
    cloud.load(issue("a.example.com", number=1), CertificateArn=arn)
    assert revision() > imported


def test_unknown_option_is_refused(cloud: Cloud) -> None:
    with pytest.raises(AssertionError, match="no such option: nonsense"):
        cloud.options(nonsense=1)


def test_reset_forgets_everything(cloud: Cloud) -> None:
    cloud.load(issue("a.example.com", kind="rsa2048"))
    cloud.options(yearlyImports=0)
    cloud.local("POST", "reset")
    assert cloud.acm.list_certificates()["CertificateSummaryList"] == []
    cloud.load(issue("a.example.com"))


def test_regions_are_apart_and_the_account_is_one(cloud: Cloud) -> None:
    cloud.load(issue("a.example.com", kind="rsa2048"))
    assert cloud.client("acm", "us-east-1").list_certificates()["CertificateSummaryList"] == []
    assert cloud.client("sts").get_caller_identity()["Account"] == "123456789012"
