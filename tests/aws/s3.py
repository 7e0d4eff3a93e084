"""S3: moto does it well. Added here: a principal without ListBucket, small pages, and no guessing
about `If-None-Match`. The lock around moto makes it atomic (state.py)."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

from moto.core.common_types import TYPE_RESPONSE
from moto.s3.exceptions import S3ClientError
from moto.s3.models import s3_backends
from moto.s3.responses import S3Response

import calls
import options
from calls import Call
from server import Request, Response

LISTINGS = ("ListObjects", "ListObjectsV2", "GetBucketVersions", "HeadBucket")


def refused(call: Call, request: Request, account: str) -> Response | None:
    """The requests that S3 refuses before they reach moto."""
    denied = calls.error(call, 403, "AccessDenied", "Access Denied")
    if call.operation == "PutObject" and request.headers.get("if-none-match", "*") != "*":
        return calls.error(
            call,
            501,
            "NotImplemented",
            "A header you provided implies functionality that is not implemented",
        )
    if call.access_key not in options.get("noListBucket"):
        return None
    if call.operation in LISTINGS:
        return denied
    if call.operation in ("GetObject", "HeadObject") and missing(call, request, account):
        return denied
    return None


def missing(call: Call, request: Request, account: str) -> bool:
    bucket, _, key = call.resource.partition("/")
    try:
        version = dict(parse_qsl(request.query)).get("versionId")
        return s3_backends[account]["aws"].get_object(bucket, key, version_id=version) is None
    except S3ClientError:
        return False  # no such bucket: moto answers that


def capped(listing: Any) -> Any:
    """A listing whose pages are never larger than `listObjectsPage`."""

    def listed(self: S3Response) -> TYPE_RESPONSE:
        asked = int(self.querystring.get("max-keys", ["1000"])[0])
        self.querystring["max-keys"] = [str(min(asked, 1000, options.get("listObjectsPage")))]
        return listing(self)

    return listed


def install() -> None:
    for name in ("list_objects", "list_objects_v2", "list_object_versions"):
        setattr(S3Response, name, capped(getattr(S3Response, name)))
