"""Certificates for the tests of the local cloud: a root, an intermediate and any leaf."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

SERVER_AUTH = ExtendedKeyUsageOID.SERVER_AUTH
CLIENT_AUTH = ExtendedKeyUsageOID.CLIENT_AUTH
DAY = datetime.timedelta(days=1)
USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


def key(kind: str, number: int = 0) -> Any:
    """A key of a kind (`p256`, `p384`, `rsa2048`); the same key for the same number."""
    return _key(kind, number)


@cache
def _key(kind: str, _number: int) -> Any:
    if kind.startswith("rsa"):
        return rsa.generate_private_key(65537, int(kind[3:]))
    return ec.generate_private_key({"p256": ec.SECP256R1(), "p384": ec.SECP384R1()}[kind])


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def key_pem(private_key: Any) -> bytes:
    return private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def name(common_name: str | None, organisation: str | None = None) -> x509.Name:
    attributes = []
    if organisation:
        attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation))
    if common_name:
        attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, common_name))
    return x509.Name(attributes)


def sign(
    subject: x509.Name,
    public_key: Any,
    issuer: x509.Name,
    issuer_key: Any,
    extensions: list[x509.ExtensionType],
    start: datetime.timedelta = -DAY,
    end: datetime.timedelta = 90 * DAY,
    serial: int | None = None,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(now + start)
        .not_valid_after(now + end)
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


CA = x509.BasicConstraints(ca=True, path_length=None)
ROOT_NAME = name("Test Root", "Test Authority")
INTERMEDIATE_NAME = name(None, "Test Authority")  # an issuer without a common name


@cache
def root() -> x509.Certificate:
    private_key = key("p384", 100)
    return sign(ROOT_NAME, private_key.public_key(), ROOT_NAME, private_key, [CA])


@cache
def intermediate() -> x509.Certificate:
    public_key = key("p384", 101).public_key()
    return sign(INTERMEDIATE_NAME, public_key, ROOT_NAME, key("p384", 100), [CA])


@dataclass
class Material:
    leaf: x509.Certificate
    private_key: Any
    chain: list[x509.Certificate]

    def fields(self, **changed: Any) -> dict[str, Any]:
        """The parameters of ImportCertificate; a value of None leaves a parameter out."""
        fields: dict[str, Any] = {
            "Certificate": pem(self.leaf),
            "PrivateKey": key_pem(self.private_key),
            "CertificateChain": b"".join(map(pem, self.chain)) or None,
            **changed,
        }
        return {name: value for name, value in fields.items() if value is not None}


def issue(
    *names: str,
    kind: str = "p256",
    number: int = 0,
    common_name: str | None = None,
    usages: tuple[str, ...] | None = ("digital_signature",),
    extended: tuple[Any, ...] | None = (SERVER_AUTH,),
    self_signed: bool = False,
    **dates: Any,
) -> Material:
    private_key = key(kind, number)
    extensions: list[x509.ExtensionType] = []
    if names:
        extensions.append(x509.SubjectAlternativeName([alternative_name(n) for n in names]))
    if usages is not None:
        extensions.append(x509.KeyUsage(**{usage: usage in usages for usage in USAGES}))
    if extended is not None:
        extensions.append(x509.ExtendedKeyUsage(extended))
    subject = name(common_name)
    if self_signed:
        subject = name(common_name or names[0])
        leaf = sign(subject, private_key.public_key(), subject, private_key, extensions, **dates)
        return Material(leaf, private_key, [])
    leaf = sign(
        subject, private_key.public_key(), INTERMEDIATE_NAME, key("p384", 101), extensions, **dates
    )
    return Material(leaf, private_key, [intermediate()])


def alternative_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)
