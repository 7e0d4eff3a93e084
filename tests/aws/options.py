"""What a test may change about the running cloud: `POST /_local/options`.

README.md explains every option. The values here are the documented ones of AWS, with everything
slow or surprising switched off.
"""

from __future__ import annotations

import time
from typing import Any

DEFAULTS: dict[str, Any] = {
    # ACM
    "clockOffsetSeconds": 0,
    "deleteLagSeconds": 0,
    "importedCertificates": 2500,
    "inUseLagSeconds": 0,
    "listCertificatesPage": 1000,
    "reimportsCount": False,
    "yearlyImports": 5000,
    # Elastic Load Balancing
    "describePage": 400,
    "listenerCertificates": 25,
    "listenerCertificatesLagSeconds": 0,
    "removingUnlisted": None,
    "unknownCertificate": None,
    # visitors
    "revoked": [],
    # S3
    "listObjectsPage": 1000,
    "noListBucket": [],
    # all services
    "rates": None,
}

DOCUMENTED_RATES = {
    "ImportCertificate": 1,
    "ListCertificates": 1,
    "AddTagsToCertificate": 5,
    "DescribeCertificate": 10,
    "GetCertificate": 10,
    "DeleteCertificate": 10,
    "ListTagsForCertificate": 10,
}

_values = dict(DEFAULTS)


def get(name: str) -> Any:
    return _values[name]


def change(changes: dict[str, Any]) -> dict[str, Any]:
    """Sets the given options and returns all of them. An unknown name is an error."""
    if unknown := sorted(set(changes) - set(DEFAULTS)):
        raise ValueError(f"no such option: {', '.join(unknown)}; there are {', '.join(DEFAULTS)}")
    _values.update(changes)
    return dict(_values)


def reset() -> None:
    _values.clear()
    _values.update(DEFAULTS)


def now() -> float:
    """The time by which ACM judges validity, in seconds since the epoch."""
    return time.time() + get("clockOffsetSeconds")


def rates() -> dict[str, float]:
    """Calls per second by operation (or by service); empty when nothing is limited."""
    chosen = get("rates")
    if not chosen:
        return {}
    return DOCUMENTED_RATES if chosen is True else chosen
