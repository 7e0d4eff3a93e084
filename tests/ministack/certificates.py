"""AWS Certificate Manager: the rules of tests/aws/acm.py, behind ministack's door.

That module judges imports and keeps the certificates. It is written for moto's request objects, of
which it uses little. It asks its neighbour `elbv2` who uses a certificate; here that is
listeners.py.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

from ministack.core.responses import get_account_id, get_region
from ministack.services import acm as theirs

import listeners
import revision

sys.modules["elbv2"] = listeners  # type: ignore[assignment]

import acm  # noqa: E402  (tests/aws/acm.py)
from moto.core.exceptions import AWSError  # noqa: E402

Response = tuple[int, dict[str, str], bytes]


class Store:
    """The certificates of one account and region, in the form that acm.py expects."""

    def __init__(self, account: str, region: str):
        self.account_id, self.region_name = account, region
        self._certificates: dict[str, acm.Bundle] = {}


class Stores(defaultdict[tuple[str, str], Store]):
    def __missing__(self, key: tuple[str, str]) -> Store:
        self[key] = Store(*key)
        return self[key]


stores = Stores()

OPERATIONS = {
    "ImportCertificate": acm.do_import,
    "ListCertificates": acm.do_list,
    "DescribeCertificate": acm.do_describe,
    "GetCertificate": acm.do_get,
    "DeleteCertificate": acm.do_delete,
    "ListTagsForCertificate": acm.do_tags,
    "AddTagsToCertificate": acm.do_add_tags,
    "RemoveTagsFromCertificate": acm.do_remove_tags,
}
CHANGING = ("Import", "Delete")


def exists(arn: str, account: str, region: str) -> bool:
    return lookup(arn) is not None and arn.split(":")[3:5] == [region, account]


def lookup(arn: str) -> acm.Bundle | None:
    if not acm.ARN.fullmatch(arn):
        return None
    _, _, _, region, account, _ = arn.split(":", 5)
    store = stores[account, region]
    return None if arn in acm.dying(store) else store._certificates.get(arn)


def tags() -> list[tuple[str, list[dict[str, str]]]]:
    """Each certificate of the request's account and region with its tags, for `aws:ResourceTag`."""
    return [
        (arn, [{"Key": key, "Value": value or ""} for key, value in bundle.tags.items()])
        for arn, bundle in stores[get_account_id(), get_region()]._certificates.items()
    ]


async def handle(
    method: str, path: str, headers: dict[str, str], body: bytes, query: dict[str, Any]
) -> Response:
    action = headers.get("x-amz-target", "").rpartition(".")[2]
    operation = OPERATIONS.get(action)
    if operation is None:
        return error("UnknownOperationException", f"{action} is not known here")
    account = get_account_id()
    request = SimpleNamespace(
        body=body.decode() or "{}",
        acm_backend=stores[account, get_region()],
        current_account=account,
    )
    try:
        answer = operation(request)
    except AWSError as refusal:
        return error(refusal.TYPE, refusal.message)
    if action.startswith(CHANGING):
        revision.changed()
        for arn in request.acm_backend._certificates:
            # its place in all listings, whichever lists it first
            acm.number(request.acm_backend, arn)
    return 200, {"Content-Type": "application/x-amz-json-1.1"}, answer.encode()


def error(code: str, message: str) -> Response:
    body = json.dumps({"__type": code, "message": message}).encode()
    return 400, {"Content-Type": "application/x-amz-json-1.1", "x-amzn-errortype": code}, body


def install() -> None:
    theirs.handle_request = handle
