"""Every AWS call passes here: it is recorded, throttled, failed on purpose, or given to moto."""

from __future__ import annotations

import io
import itertools
import sys
import threading
import time
import traceback
from typing import Any, Callable
from urllib.parse import unquote

from botocore.exceptions import ClientError
from moto.acm.responses import AWSCertificateManagerResponse
from moto.elb.urls import api_version_elb_backend
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.s3.responses import S3Response
from moto.sts.responses import TokenResponse
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Request as WerkzeugRequest

import calls
import options
import s3
import state
from calls import Call
from faults import Faults, Rates
from losses import Losses
from server import Request, Response

CHANGING_SERVICES = ("acm", "elbv2", "elb")


class Recorder:
    """The requests to the cloud, in order of arrival."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []
        self.numbers = itertools.count(1)
        self.lock = threading.Lock()

    def arrive(self, call: Call, request: Request) -> dict[str, Any]:
        entry: dict[str, Any] = {
            "time": time.time(),
            "service": call.service,
            "operation": call.operation,
            "resource": call.resource,
            "region": call.region,
            "accessKey": call.access_key,
            "requestBytes": len(request.body),
            "status": None,
        }
        for header, name in (("if-match", "ifMatch"), ("if-none-match", "ifNoneMatch")):
            if header in request.headers:
                entry[name] = request.headers[header]
        with self.lock:
            entry["number"] = next(self.numbers)
            self.entries.append(entry)
        return entry

    def leave(self, entry: dict[str, Any], response: Response | None) -> None:
        """Records the answer; a dropped one has the status 0."""
        entry["status"] = response.status if response else 0
        if response:
            entry["responseBytes"] = len(response.body)
            if code := calls.error_code(response):
                entry["code"] = code

    def since(self, number: int) -> list[dict[str, Any]]:
        with self.lock:
            return [dict(entry) for entry in self.entries if entry["number"] > number]

    def clear(self) -> None:
        with self.lock:
            self.entries.clear()


class Gateway:
    def __init__(self, account: str, port: int):
        self.account = account
        self.port = str(port)
        self.recorder = Recorder()
        self.faults = Faults()
        self.losses = Losses()
        self.rates = Rates()
        self.others = DomainDispatcherApplication(create_backend_app)

    def handle(self, request: Request) -> Response | None:
        call = calls.parse(request)
        entry = self.recorder.arrive(call, request)
        fault = self.faults.find(call, request)
        if fault:
            entry["fault"] = fault.id
        if fault and fault.kind == "before":
            self.faults.suffer(fault)
            if fault.answers:
                response = fault.response(call)
                self.recorder.leave(entry, response)
                return response
        response = self.rates.exceeded(call) or self.perform(call, request, entry["number"])
        if fault and fault.kind == "after":
            entry["performed"] = response.status
            self.faults.suffer(fault)
            if fault.answers:
                response = fault.response(call)
        self.recorder.leave(entry, response)
        return response

    def perform(self, call: Call, request: Request, number: int) -> Response:
        with state.lock:
            try:
                if call.service == "s3" and (refusal := s3.refused(call, request, self.account)):
                    return refusal
                now = calls.signed_at(request) or options.now()
                response = self.losses.watch(
                    call, number, now, lambda: self.ask_moto(call, request)
                )
            except Exception:
                traceback.print_exc(file=sys.stderr)
                return calls.error(
                    call, 500, "InternalFailure", "the local cloud failed; see its stderr"
                )
            if call.service in CHANGING_SERVICES and not call.reading and response.status < 400:
                state.changed()
            return response

    def ask_moto(self, call: Call, request: Request) -> Response:
        """Straight to moto's code for the most used services, through its own server otherwise."""
        environ = self.environ(request)
        handler = direct_handler(call, request)
        if handler is None:
            return run_wsgi(self.others, environ)
        asked = WerkzeugRequest(environ)
        asked.max_form_memory_size = None
        try:
            answer = handler(asked, asked.url, dict(asked.headers))
        except HTTPException as error:
            answer = error.code, dict(error.get_headers()), error.get_body()
        except ClientError as error:
            answer = 400, {}, error.response["Error"]["Message"]
        status, headers, body = answer if isinstance(answer, tuple) else (200, {}, answer)
        body = body.encode() if isinstance(body, str) else bytes(body or b"")
        headers = {name: str(value) for name, value in headers.items()}
        if call.style == "json":
            headers["Content-Type"] = "application/x-amz-json-1.1"
        return Response(int(status), headers, body)

    def environ(self, request: Request) -> dict[str, Any]:
        environ = {
            "REQUEST_METHOD": request.method,
            "SCRIPT_NAME": "",
            "PATH_INFO": unquote(request.raw_path, "latin-1"),
            "QUERY_STRING": request.query,
            "RAW_URI": request.target,
            "REQUEST_URI": request.target,
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": self.port,
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "127.0.0.1",
            "CONTENT_LENGTH": str(len(request.body)),
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(request.body),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        for name, value in request.headers.items():
            if name == "content-type":
                environ["CONTENT_TYPE"] = value
            elif name not in ("content-length", "transfer-encoding", "expect"):
                environ["HTTP_" + name.upper().replace("-", "_")] = value
        return environ


def direct_handler(call: Call, request: Request) -> Callable[..., Any] | None:
    if call.service == "s3":
        bucket, _, key = request.path.lstrip("/").partition("/")
        if not bucket:
            return S3Response.bucket_dispatch
        return S3Response.key_dispatch if key else S3Response.ambiguous_dispatch
    return {
        "acm": AWSCertificateManagerResponse.dispatch,
        "elb": api_version_elb_backend,
        "elbv2": api_version_elb_backend,
        "sts": TokenResponse.dispatch,
    }.get(call.service)


def run_wsgi(application: Any, environ: dict[str, Any]) -> Response:
    started: list[Any] = []

    def start_response(status: str, headers: list[tuple[str, str]], _: Any = None) -> None:
        started[:] = [int(status.split()[0]), dict(headers)]

    chunks = application(environ, start_response)
    try:
        body = b"".join(chunks)
    finally:
        if hasattr(chunks, "close"):
            chunks.close()
    return Response(started[0], started[1], body)
