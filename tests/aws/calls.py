"""The content of an HTTP request to AWS: service, operation, resource, and its form of errors."""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from server import Request, Response

CREDENTIAL = re.compile(r"Credential=([^/,]+)/\d+/([^/,]+)/([^/,]+)/aws4_request")
ELBV2_VERSION = "2015-12-01"
SERVICE_NAMES = {"elasticloadbalancing": "elb"}  # elbv2 when the version says so
RESOURCE_PARAMETERS = (
    "CertificateArn",
    "ListenerArn",
    "RuleArn",
    "LoadBalancerArn",
    "TargetGroupArn",
    "ListenerArns.member.1",
    "RuleArns.member.1",
    "LoadBalancerArns.member.1",
    "TargetGroupArns.member.1",
    "ResourceArns.member.1",
    "LoadBalancerName",
    "LoadBalancerNames.member.1",
    "Names.member.1",
    "QueueUrl",
    "TopicArn",
    "KeyId",
    "SecretId",
    "FunctionName",
    "Name",
)
S3_BUCKET = {
    "GET": "ListObjects",
    "PUT": "CreateBucket",
    "HEAD": "HeadBucket",
    "DELETE": "DeleteBucket",
    "POST": "PostObject",
}
S3_OBJECT = {
    "GET": "GetObject",
    "PUT": "PutObject",
    "HEAD": "HeadObject",
    "DELETE": "DeleteObject",
    "POST": "PostObject",
}


@dataclass
class Call:
    service: str  # acm, elbv2, elb, s3, sts, ... ("" when the request is not signed)
    operation: str
    resource: str  # bucket/key or ARN
    detail: str  # the text that a fault's `match` is searched in
    access_key: str
    region: str
    style: str  # json, query or rest: the form of its errors

    @property
    def reading(self) -> bool:
        return self.operation.startswith(("Describe", "List", "Get", "Head"))


def parse(request: Request) -> Call:
    scope = CREDENTIAL.search(request.headers.get("authorization", ""))
    if scope is None:
        scope = CREDENTIAL.search(
            "Credential=" + dict(parse_qsl(request.query)).get("X-Amz-Credential", "")
        )
    access_key, region, service = scope.groups() if scope else ("", "us-east-1", "")
    if target := request.headers.get("x-amz-target"):
        given = parse_json(request.body)
        resource = first(given)
        operation = target.rpartition(".")[2]
        detail = " ".join(
            [resource, *(v for v in given.values() if isinstance(v, str) and len(v) < 2048)]
        )
        return Call(service, operation, resource, detail, access_key, region, "json")
    if request.target.startswith("/moto-api"):
        return Call("moto", request.method, request.path, request.path, access_key, region, "json")
    if service in ("s3", ""):
        return parse_s3(request, service or "s3", access_key, region)
    form = dict(parse_qsl(request.body.decode("utf-8", "replace"))) or dict(
        parse_qsl(request.query)
    )
    if "Action" in form:
        if form.get("Version") == ELBV2_VERSION:
            service = "elbv2"
        service = SERVICE_NAMES.get(service, service)
        detail = " ".join(form.values())
        return Call(service, form["Action"], first(form), detail, access_key, region, "query")
    path = request.path
    return Call(service, f"{request.method} {path}", path, path, access_key, region, "json")


def signed_at(request: Request) -> float | None:
    """The caller's own time, from its signature (X-Amz-Date); None where there is none."""
    try:
        signed = datetime.strptime(request.headers["x-amz-date"], "%Y%m%dT%H%M%SZ")
    except (KeyError, ValueError):
        return None
    return signed.replace(tzinfo=timezone.utc).timestamp()


def parse_s3(request: Request, service: str, access_key: str, region: str) -> Call:
    bucket, _, key = request.path.lstrip("/").partition("/")
    query = dict(parse_qsl(request.query, keep_blank_values=True))
    if not bucket:
        operation = "ListBuckets"
    elif key:
        operation = S3_OBJECT.get(request.method, request.method)
        if request.method == "PUT" and "x-amz-copy-source" in request.headers:
            operation = "CopyObject"
        elif "uploads" in query:
            operation = "CreateMultipartUpload"
        elif "uploadId" in query:
            operation = {"PUT": "UploadPart", "POST": "CompleteMultipartUpload"}.get(
                request.method, "AbortMultipartUpload"
            )
        elif "tagging" in query:
            operation = operation.replace("Object", "ObjectTagging")
    elif request.method == "GET" and "list-type" in query:
        operation = "ListObjectsV2"
    elif request.method == "POST" and "delete" in query:
        operation = "DeleteObjects"
    else:
        operation = S3_BUCKET.get(request.method, request.method)
        marks = [m for m in query if not query[m] and m[0].isalpha()]
        if marks:  # ?versioning, ?encryption, ?lifecycle, ...
            verb = {"GET": "Get", "PUT": "Put", "DELETE": "Delete"}.get(request.method, "")
            operation = f"{verb}Bucket{marks[0][0].upper()}{marks[0][1:]}"
    resource = f"{bucket}/{key}" if key else bucket
    detail = f"{resource} {query['prefix']}" if "prefix" in query else resource
    return Call(service, operation, resource, detail, access_key, region, "rest")


def parse_json(body: bytes) -> dict[str, Any]:
    try:
        given = json.loads(body)
    except ValueError:
        return {}
    return given if isinstance(given, dict) else {}


def first(given: dict[str, Any]) -> str:
    for name in RESOURCE_PARAMETERS:
        if isinstance(value := given.get(name), str):
            return value
    return ""


def error(call: Call, status: int, code: str, message: str) -> Response:
    """An error in the form of the call's protocol."""
    request_id = str(uuid.uuid4())
    headers = {"x-amzn-RequestId": request_id, "x-amz-request-id": request_id}
    if call.style == "json":
        headers |= {"Content-Type": "application/x-amz-json-1.1", "x-amzn-ErrorType": code}
        body = json.dumps({"__type": code, "message": message})
        return Response(status, headers, body.encode())
    headers["Content-Type"] = "application/xml" if call.style == "rest" else "text/xml"
    fault = f"<Code>{escape(code)}</Code><Message>{escape(message)}</Message>"
    if call.style == "rest":
        body = f"<Error>{fault}<RequestId>{request_id}</RequestId></Error>"
    else:
        kind = "Sender" if status < 500 else "Receiver"
        body = (
            '<ErrorResponse xmlns="http://elasticloadbalancing.amazonaws.com/doc/'
            f'{ELBV2_VERSION}/">'
            f"<Error><Type>{kind}</Type>{fault}</Error>"
            f"<RequestId>{request_id}</RequestId></ErrorResponse>"
        )
    return Response(status, headers, f'<?xml version="1.0" encoding="UTF-8"?>\n{body}'.encode())


CODE = re.compile(rb'"__type": ?"(?:[^"#]*#)?([^"]+)"|<Code>([^<]+)</Code>')


def error_code(response: Response) -> str | None:
    """The error code of an error response, if it has a body for one."""
    if response.status < 400 or not (found := CODE.search(response.body[:4096])):
        return None
    return (found.group(1) or found.group(2)).decode("utf-8", "replace")
