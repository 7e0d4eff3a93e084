"""AWS Certificate Manager as documented, in place of moto's version.

moto only parses an import. Here an import is judged as ACM judges it: the key belongs to the
certificate, the chain certifies it, and a re-import keeps what must not change. `InUseBy` is not
stored but read from the listeners.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import json
import re
import time
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID
from moto.acm.exceptions import AWSValidationException
from moto.acm.models import (
    AWSCertificateManagerBackend,
    CertBundle,
    TagHolder,
    acm_backends,
)
from moto.acm.responses import AWSCertificateManagerResponse
from moto.acm.utils import make_arn_for_certificate
from moto.core.exceptions import AWSError

import elbv2
import options

CERTIFICATE_BYTES = 32_768
PRIVATE_KEY_BYTES = 5_120
CHAIN_BYTES = 2_097_152
SUMMARY_NAMES = 100
OCSP_URL_CHARACTERS = 1_000

ARN = re.compile(r"arn:[\w+=/,.@-]+:acm:[\w+=/,.@-]*:[0-9]+:[\w+=,.@-]+(/[\w+=,.@-]+)*")
PEM = re.compile(
    rb"-----BEGIN ([A-Z0-9 ]+)-----\r?\n(?:[A-Za-z0-9+/=]+\r?\n)+-----END \1-----(?:\r?\n|\Z)"
)

CURVES = {"secp256r1": "EC_prime256v1", "secp384r1": "EC_secp384r1", "secp521r1": "EC_secp521r1"}
KEY_ALGORITHMS = {*CURVES.values(), "RSA_1024", "RSA_2048", "RSA_3072", "RSA_4096"}
LISTED_BY_DEFAULT = {"RSA_1024", "RSA_2048"}

KEY_USAGES = {
    "digital_signature": "DIGITAL_SIGNATURE",
    "content_commitment": "NON_REPUDIATION",
    "key_encipherment": "KEY_ENCIPHERMENT",
    "data_encipherment": "DATA_ENCIPHERMENT",
    "key_agreement": "KEY_AGREEMENT",
    "key_cert_sign": "CERTIFICATE_SIGNING",
    "crl_sign": "CRL_SIGNING",
}
EXTENDED_KEY_USAGES = {
    ExtendedKeyUsageOID.SERVER_AUTH.dotted_string: "TLS_WEB_SERVER_AUTHENTICATION",
    ExtendedKeyUsageOID.CLIENT_AUTH.dotted_string: "TLS_WEB_CLIENT_AUTHENTICATION",
    ExtendedKeyUsageOID.CODE_SIGNING.dotted_string: "CODE_SIGNING",
    ExtendedKeyUsageOID.EMAIL_PROTECTION.dotted_string: "EMAIL_PROTECTION",
    ExtendedKeyUsageOID.TIME_STAMPING.dotted_string: "TIME_STAMPING",
    ExtendedKeyUsageOID.OCSP_SIGNING.dotted_string: "OCSP_SIGNING",
    ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE.dotted_string: "ANY",
}
CLIENT_AUTH = ExtendedKeyUsageOID.CLIENT_AUTH.dotted_string


class InvalidArn(AWSError):
    TYPE = "InvalidArnException"


class ResourceInUse(AWSError):
    TYPE = "ResourceInUseException"


class LimitExceeded(AWSError):
    TYPE = "LimitExceededException"


class NotFound(AWSError):
    TYPE = "ResourceNotFoundException"


# What is in a certificate


def key_algorithm(key: Any) -> str:
    if isinstance(key, (ec.EllipticCurvePublicKey, ec.EllipticCurvePrivateKey)):
        return CURVES.get(key.curve.name, f"EC_{key.curve.name}")
    if isinstance(key, (rsa.RSAPublicKey, rsa.RSAPrivateKey)):
        return f"RSA_{key.key_size}"
    return type(key).__name__


def extension(certificate: x509.Certificate, kind: type) -> Any:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def attribute(name: x509.Name, oid: x509.ObjectIdentifier) -> str | None:
    found = name.get_attributes_for_oid(oid)
    return str(found[0].value) if found else None


def alternative_names(certificate: x509.Certificate) -> list[str]:
    names = extension(certificate, x509.SubjectAlternativeName) or []
    return [str(n.value) for n in names if isinstance(n, (x509.DNSName, x509.IPAddress))]


def all_names(certificate: x509.Certificate) -> list[str]:
    """The common name, if there is one, and the alternative names, without repetition."""
    common_name = attribute(certificate.subject, NameOID.COMMON_NAME)
    return list(
        dict.fromkeys(([common_name] if common_name else []) + alternative_names(certificate))
    )


def key_usages(certificate: x509.Certificate) -> list[str] | None:
    """ACM's names of the key usages, or None when the extension is absent."""
    usage = extension(certificate, x509.KeyUsage)
    if usage is None:
        return None
    names = [name for field, name in KEY_USAGES.items() if getattr(usage, field)]
    if usage.key_agreement:
        names += ["ENCIPHER_ONLY"] * usage.encipher_only + ["DECIPHER_ONLY"] * usage.decipher_only
    return names


def extended_key_usages(certificate: x509.Certificate) -> list[str] | None:
    """The object identifiers of the extended key usages, or None when the extension is absent."""
    usage = extension(certificate, x509.ExtendedKeyUsage)
    return None if usage is None else [oid.dotted_string for oid in usage]


def serial(certificate: x509.Certificate) -> str:
    digits = f"{certificate.serial_number:x}"
    digits = digits.zfill(len(digits) + len(digits) % 2)
    return ":".join(digits[i : i + 2] for i in range(0, len(digits), 2))


# What may be imported


def pem_blocks(blob: bytes, what: str) -> list[bytes]:
    """The PEM blocks of a field that holds nothing else."""
    blocks = [match.group(0) for match in PEM.finditer(blob)]
    if not blocks or PEM.sub(b"", blob).strip(b"\r\n"):
        raise AWSValidationException(f"The {what} is not PEM-encoded or is not valid.")
    return blocks


def parse_certificates(blob: bytes, what: str) -> list[x509.Certificate]:
    certificates = []
    for block in pem_blocks(blob, what):
        try:
            certificates.append(x509.load_pem_x509_certificate(block))
        except ValueError:
            raise AWSValidationException(f"The {what} is not PEM-encoded or is not valid.")
    return certificates


def parse_key(blob: bytes) -> Any:
    invalid = AWSValidationException("The private key is not PEM-encoded or is not valid.")
    blocks = [b for b in pem_blocks(blob, "private key") if b"EC PARAMETERS" not in b]
    if len(blocks) != 1:
        raise invalid
    try:
        return serialization.load_pem_private_key(blocks[0], password=None)
    except TypeError:
        raise AWSValidationException("The private key is encrypted. Provide an unencrypted key.")
    except Exception:
        raise invalid


def parse_leaf(blob: bytes) -> x509.Certificate:
    certificates = parse_certificates(blob, "certificate")
    if len(certificates) > 1:
        raise AWSValidationException(
            "The certificate field contains more than one certificate. "
            "You can specify only one certificate in this field."
        )
    leaf = certificates[0]
    if leaf.version != x509.Version.v3:
        raise AWSValidationException("The certificate is not an X.509 version 3 certificate.")
    if not list(leaf.issuer):
        raise AWSValidationException("The certificate has no issuer.")
    if not all_names(leaf):
        raise AWSValidationException("The certificate has no domain name and no IP address.")
    access = extension(leaf, x509.AuthorityInformationAccess) or []
    for description in access:
        if (
            description.access_method == AuthorityInformationAccessOID.OCSP
            and len(str(description.access_location.value)) > OCSP_URL_CHARACTERS
        ):
            raise AWSValidationException("The OCSP URL of the certificate is too long.")
    return leaf


def check_validity(certificate: x509.Certificate, what: str) -> None:
    now = options.now()
    if certificate.not_valid_after_utc.timestamp() < now:
        raise AWSValidationException(f"The {what} has expired, is not valid.")
    if certificate.not_valid_before_utc.timestamp() > now:
        raise AWSValidationException(f"The {what} is not in effect yet, is not valid.")


def certifies(issuer: x509.Certificate, subject: x509.Certificate) -> bool:
    try:
        subject.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def check_chain(leaf: x509.Certificate, chain: list[x509.Certificate]) -> None:
    if not chain:
        if not certifies(leaf, leaf):
            raise AWSValidationException(
                "Provided certificate is not a valid self signed. Please provide either a valid "
                "self-signed certificate or certificate chain."
            )
        return
    if leaf in chain:
        raise AWSValidationException(
            "The certificate chain must not contain the certificate itself."
        )
    for subject, issuer in zip([leaf, *chain], chain):
        basic = extension(issuer, x509.BasicConstraints)
        if not certifies(issuer, subject) or basic is None or not basic.ca:
            raise AWSValidationException(
                "Could not validate the certificate with the certificate chain."
            )
        check_validity(issuer, "certificate chain")


def check_reimport(old: x509.Certificate, new: x509.Certificate) -> None:
    """What a re-import must keep (user guide, "Reimport a certificate")."""
    algorithm = key_algorithm(new.public_key())
    if key_algorithm(old.public_key()) != algorithm:
        raise AWSValidationException(
            "New certificate has a different key type or size "
            "than the currently imported certificate"
        )
    if not {n.lower() for n in all_names(old)} & {n.lower() for n in all_names(new)}:
        raise AWSValidationException(
            "New certificate has no domain name in common with the currently imported certificate"
        )
    kept = {"KEY_ENCIPHERMENT"} if algorithm.startswith("EC_") else set()
    check_usages("Key Usages", key_usages(old), key_usages(new), kept)
    check_usages(
        "Extended Key Usages", extended_key_usages(old), extended_key_usages(new), {CLIENT_AUTH}
    )


def check_usages(what: str, old: list[str] | None, new: list[str] | None, may_go: set[str]) -> None:
    if old is None and new is not None:
        raise AWSValidationException(
            f"New certificate has {what} that the currently imported certificate does not have"
        )
    if set(old or []) - set(new or []) - may_go:
        raise AWSValidationException(
            f"New certificate is missing one or more {what} "
            "supported by the currently imported certificate"
        )


# What is kept


class Bundle:
    """An imported certificate. A re-import replaces its content and keeps the rest."""

    def __init__(self, arn: str, certificate: bytes, private_key: bytes, chain: bytes | None):
        self.arn = arn
        self.type = "IMPORTED"
        self.tags = TagHolder()
        self.in_use_by: list[str] = []  # moto appends to it; nobody reads it
        self.cert_authority_arn = None
        self.cert_options = {
            "CertificateTransparencyLoggingPreference": "DISABLED",
            "Export": "DISABLED",
        }
        self.created_at = utcnow()
        self.created = time.monotonic()
        self.asked_for = 0  # by load balancers, since it was created
        self.replace(certificate, private_key, chain)

    def replace(self, certificate: bytes, private_key: bytes, chain: bytes | None) -> None:
        check_length("certificate", certificate, CERTIFICATE_BYTES)
        check_length("privateKey", private_key, PRIVATE_KEY_BYTES)
        check_length("certificateChain", chain or b"", CHAIN_BYTES)
        leaf = parse_leaf(certificate)
        key = parse_key(private_key)
        issuers = parse_certificates(chain, "certificate chain") if chain else []
        if key_algorithm(leaf.public_key()) not in KEY_ALGORITHMS:
            raise AWSValidationException("The key algorithm of the certificate is not supported.")
        if key.public_key() != leaf.public_key():
            raise AWSValidationException("The certificate and the private key do not match.")
        check_validity(leaf, "certificate")
        check_chain(leaf, issuers)
        if hasattr(self, "_cert"):
            check_reimport(self._cert, leaf)
        self.cert, self.key, self.chain = certificate, private_key, chain or b""
        self._cert, self._key = leaf, key
        self.imported_at = utcnow()
        self.not_after = leaf.not_valid_after_utc.timestamp()
        self.names = all_names(leaf)
        self.common_name = self.names[0]
        self.key_algorithm = key_algorithm(leaf.public_key())
        self.key_usages = key_usages(leaf) or []
        self.extended_key_usages = extended_key_usages(leaf) or []

    @property
    def status(self) -> str:
        return "EXPIRED" if self.not_after < options.now() else "ISSUED"

    def check(self) -> None:
        """The field by which moto detects expiry."""

    def common(self) -> dict[str, Any]:
        """The common fields of a description and a summary."""
        return {
            "CertificateArn": self.arn,
            "DomainName": self.common_name,
            "Status": self.status,
            "Type": self.type,
            "KeyAlgorithm": self.key_algorithm,
            "NotBefore": self._cert.not_valid_before_utc.timestamp(),
            "NotAfter": self.not_after,
            "CreatedAt": self.created_at.timestamp(),
            "ImportedAt": self.imported_at.timestamp(),
            "RenewalEligibility": "INELIGIBLE",
        }

    def describe(self) -> dict[str, Any]:
        certificate = self._cert
        issuer = certificate.issuer
        return {
            "Certificate": {
                **self.common(),
                "SubjectAlternativeNames": self.names[:SUMMARY_NAMES],
                "Serial": serial(certificate),
                "Subject": certificate.subject.rfc4514_string(),
                "Issuer": attribute(issuer, NameOID.ORGANIZATION_NAME)
                or attribute(issuer, NameOID.COMMON_NAME)
                or issuer.rfc4514_string(),
                "SignatureAlgorithm": signature_algorithm(certificate),
                "InUseBy": elbv2.in_use_by(self.arn),
                "KeyUsages": [{"Name": name} for name in self.key_usages],
                "ExtendedKeyUsages": [
                    {"Name": EXTENDED_KEY_USAGES.get(oid, "CUSTOM"), "OID": oid}
                    for oid in self.extended_key_usages
                ],
                "Options": self.cert_options,
            }
        }

    def summary(self) -> dict[str, Any]:
        return {
            **self.common(),
            "SubjectAlternativeNameSummaries": self.names[:SUMMARY_NAMES],
            "HasAdditionalSubjectAlternativeNames": len(self.names) > SUMMARY_NAMES,
            "KeyUsages": self.key_usages,
            "ExtendedKeyUsages": [
                EXTENDED_KEY_USAGES.get(oid, "CUSTOM") for oid in self.extended_key_usages
            ],
            "InUse": bool(elbv2.in_use_by(self.arn)),
            "Exported": False,
        }


def utcnow() -> datetime.datetime:
    return datetime.datetime.fromtimestamp(options.now(), datetime.timezone.utc)


def signature_algorithm(certificate: x509.Certificate) -> str:
    hash_name = (
        certificate.signature_hash_algorithm.name if certificate.signature_hash_algorithm else ""
    )
    family = "ECDSA" if "ecdsa" in certificate.signature_algorithm_oid._name.lower() else "RSA"
    return f"{hash_name.upper()}WITH{family}"


def check_length(field: str, blob: bytes, limit: int) -> None:
    if len(blob) > limit:
        raise AWSValidationException(
            f"1 validation error detected: Value at '{field}' failed to satisfy constraint: "
            f"Member must have length less than or equal to {limit}"
        )


# The backend and the operations


def import_certificate(
    backend: AWSCertificateManagerBackend,
    certificate: bytes,
    private_key: bytes,
    chain: bytes | None,
    arn: str | None,
    tags: list[dict[str, str]] | None,
) -> str:
    if arn is not None:
        if tags:
            raise AWSValidationException("Tagging is not permitted on re-import.")
        bundle = find(backend, arn)
        if not isinstance(bundle, Bundle):
            raise AWSValidationException(f"The certificate {arn} is not an imported certificate.")
        counts = options.get("reimportsCount")
        if counts:
            check_yearly_quota(backend)
        bundle.replace(certificate, private_key, chain)
        backend.__dict__["imports"] = imports(backend) + bool(counts)
        return arn
    check_quota(backend)
    check_yearly_quota(backend)
    new_arn = make_arn_for_certificate(backend.account_id, backend.region_name)
    bundle = Bundle(new_arn, certificate, private_key, chain)
    bundle.tags.add(tags or [])
    backend.__dict__["imports"] = imports(backend) + 1
    backend._certificates[new_arn] = bundle
    return new_arn


def check_quota(backend: AWSCertificateManagerBackend) -> None:
    there = sum(bundle.type == "IMPORTED" for bundle in backend._certificates.values())
    if there >= options.get("importedCertificates"):
        raise LimitExceeded(f"Error: you have reached your limit of {there} certificates.")


def check_yearly_quota(backend: AWSCertificateManagerBackend) -> None:
    """A deletion does not reduce the count of the year; no year passes here."""
    if imports(backend) >= options.get("yearlyImports"):
        raise LimitExceeded(
            f"Error: you have reached your limit of {imports(backend)} "
            "certificates in the last year."
        )


def imports(backend: AWSCertificateManagerBackend) -> int:
    """How many imports have counted for the yearly quota."""
    return backend.__dict__.get("imports", 0)


def find(backend: AWSCertificateManagerBackend, arn: Any) -> Any:
    if not isinstance(arn, str) or not ARN.fullmatch(arn):
        raise InvalidArn(f"{arn} is not a valid ARN")
    forget_deleted(backend)
    if arn not in backend._certificates:
        raise NotFound(f"Could not find certificate {arn} in account {backend.account_id}.")
    return backend._certificates[arn]


def forget_deleted(backend: AWSCertificateManagerBackend) -> None:
    """Deletion is eventually consistent: a deleted certificate may be readable for a while."""
    now = time.monotonic()
    for arn, gone_at in list(dying(backend).items()):
        if gone_at <= now:
            del dying(backend)[arn]
            backend._certificates.pop(arn, None)


def dying(backend: AWSCertificateManagerBackend) -> dict[str, float]:
    """When the deleted certificates that are still readable will be gone."""
    return backend.__dict__.setdefault("dying", {})


def parameters(response: AWSCertificateManagerResponse) -> dict[str, Any]:
    return json.loads(response.body or "{}")


def blob(given: dict[str, Any], name: str, what: str) -> bytes | None:
    if name not in given:
        return None
    try:
        return base64.b64decode(given[name], validate=True)
    except (binascii.Error, TypeError):
        raise AWSValidationException(f"The {what} is not PEM-encoded or is not valid.")


def do_import(self: AWSCertificateManagerResponse) -> str:
    given = parameters(self)
    certificate = blob(given, "Certificate", "certificate")
    private_key = blob(given, "PrivateKey", "private key")
    if not certificate or not private_key:
        raise AWSValidationException(
            "1 validation error detected: Certificate and PrivateKey must not be empty"
        )
    arn = import_certificate(
        self.acm_backend,
        certificate,
        private_key,
        blob(given, "CertificateChain", "certificate chain"),
        given.get("CertificateArn"),
        given.get("Tags"),
    )
    return json.dumps({"CertificateArn": arn})


def do_list(self: AWSCertificateManagerResponse) -> str:
    given = parameters(self)
    asked = given.get("MaxItems", 1000)
    if not 1 <= asked <= 1000:
        raise AWSValidationException("MaxItems must be between 1 and 1000")
    size = min(asked, options.get("listCertificatesPage"))
    statuses = given.get("CertificateStatuses")
    filters = given.get("Includes") or {}
    forget_deleted(self.acm_backend)
    # Every certificate has a fixed place, in all listings: otherwise the pages of different
    # listings would disagree.
    places = {arn: number(self.acm_backend, arn) for arn in self.acm_backend._certificates}
    matching = [
        (places[arn], summary)
        for arn, bundle in self.acm_backend._certificates.items()
        if (not statuses or bundle.status in statuses)
        and wanted(summary := summarise(bundle), filters)
    ]
    if token := given.get("NextToken"):
        after = from_token(token)
        matching = [(n, summary) for n, summary in matching if n > after]
    result: dict[str, Any] = {"CertificateSummaryList": [summary for _, summary in matching[:size]]}
    if len(matching) > size:
        result["NextToken"] = to_token(matching[size - 1][0])
    return json.dumps(result)


def number(backend: AWSCertificateManagerBackend, arn: str) -> int:
    """A place in the list that stays when others are deleted."""
    numbers = backend.__dict__.setdefault("numbers", {})
    return numbers.setdefault(arn, len(numbers) + 1)


def to_token(number: int) -> str:
    return base64.b64encode(f"after {number}".encode()).decode()


def from_token(token: str) -> int:
    try:
        return int(base64.b64decode(token, validate=True).decode().removeprefix("after "))
    except ValueError:
        raise AWSValidationException("The NextToken is not valid.")


def summarise(bundle: CertBundle | Bundle) -> dict[str, Any]:
    if isinstance(bundle, Bundle):
        return bundle.summary()
    summary = bundle.describe()["Certificate"]
    summary["InUse"] = bool(elbv2.in_use_by(bundle.arn))
    return summary


def wanted(summary: dict[str, Any], filters: dict[str, Any]) -> bool:
    if summary["KeyAlgorithm"] not in (filters.get("keyTypes") or LISTED_BY_DEFAULT):
        return False
    for field, name in (("keyUsage", "KeyUsages"), ("extendedKeyUsage", "ExtendedKeyUsages")):
        asked = filters.get(field)
        if asked and "ANY" not in asked and not set(asked) & set(summary.get(name) or []):
            return False
    return filters.get("exportOption", "DISABLED") == "DISABLED"


def do_describe(self: AWSCertificateManagerResponse) -> str:
    bundle = find(self.acm_backend, parameters(self).get("CertificateArn"))
    described = bundle.describe()
    described["Certificate"]["InUseBy"] = elbv2.in_use_by(bundle.arn)
    return json.dumps(described)


def do_get(self: AWSCertificateManagerResponse) -> str:
    bundle = find(self.acm_backend, parameters(self).get("CertificateArn"))
    result = {"Certificate": bundle.cert.decode()}
    if bundle.chain:
        result["CertificateChain"] = bundle.chain.decode()
    return json.dumps(result)


def do_delete(self: AWSCertificateManagerResponse) -> str:
    arn = parameters(self).get("CertificateArn")
    bundle = find(self.acm_backend, arn)
    if users := elbv2.in_use_by(bundle.arn, before_delete=True):
        raise ResourceInUse(
            f"Certificate {arn} in account {self.current_account} is in use by {', '.join(users)}."
        )
    dying(self.acm_backend)[bundle.arn] = time.monotonic() + options.get("deleteLagSeconds")
    forget_deleted(self.acm_backend)
    return ""


def do_tags(self: AWSCertificateManagerResponse) -> str:
    bundle = find(self.acm_backend, parameters(self).get("CertificateArn"))
    tags = [
        {"Key": key} if value is None else {"Key": key, "Value": value}
        for key, value in bundle.tags.items()
    ]
    return json.dumps({"Tags": tags})


def do_add_tags(self: AWSCertificateManagerResponse) -> str:
    given = parameters(self)
    find(self.acm_backend, given.get("CertificateArn")).tags.add(given.get("Tags") or [])
    return ""


def do_remove_tags(self: AWSCertificateManagerResponse) -> str:
    given = parameters(self)
    find(self.acm_backend, given.get("CertificateArn")).tags.remove(given.get("Tags") or [])
    return ""


def install() -> None:
    operations = {
        "import_certificate": do_import,
        "list_certificates": do_list,
        "describe_certificate": do_describe,
        "get_certificate": do_get,
        "delete_certificate": do_delete,
        "list_tags_for_certificate": do_tags,
        "add_tags_to_certificate": do_add_tags,
        "remove_tags_from_certificate": do_remove_tags,
    }
    for name, operation in operations.items():
        setattr(AWSCertificateManagerResponse, name, operation)


def lookup(arn: str) -> "CertBundle | Bundle | None":
    """The certificate with this ARN, in the account and region of the ARN, if it exists."""
    if not ARN.fullmatch(arn):
        return None
    _, _, _, region, account, _ = arn.split(":", 5)
    backend = acm_backends[account][region]
    return None if arn in dying(backend) else backend._certificates.get(arn)
