"""The ports of a load balancer: rules, functions, and TLS with the listener's certificates.

ministack serves port 80 of a load balancer under its own port, by Host header. Here a test can also
give a load balancer its own address (`POST /_local/ports`). There any Host is served, as on the
Internet, and port 443 has TLS.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import ssl
import tempfile
from typing import Any
from urllib.parse import parse_qs

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypercorn.asyncio import serve
from hypercorn.config import Config
from ministack.core.concurrency import run_reentrant
from ministack.core.responses import request_scope
from ministack.services import alb, lambda_svc

import certificates
import functions
import listeners

logger = logging.getLogger("local")

LIMIT = 1024 * 1024
PAGES = {
    404: "404 Not Found",
    413: "413 Request Entity Too Large",
    502: "502 Bad Gateway",
    503: "503 Service Temporarily Unavailable",
}
open_ports: dict[str, asyncio.Event] = {}


def find(arn: str) -> tuple[str, str, dict[str, Any]]:
    for account, region, record in listeners.balancers():
        if record["LoadBalancerArn"] == arn:
            return account, region, record
    raise LookupError(f"no load balancer {arn}")


def page(status: int) -> tuple[int, dict[str, Any], bytes]:
    title = PAGES[status]
    body = (
        f"<html>\r\n<head><title>{title}</title></head>\r\n"
        f"<body>\r\n<center><h1>{title}</h1></center>\r\n</body>\r\n</html>\r\n"
    )
    return status, {"Content-Type": "text/html"}, body.encode()


# The function behind a target group


async def invoke(
    function: str,
    group: str,
    method: str,
    path: str,
    headers: Any,
    body: bytes,
    query: Any,
    raw_query: str | None = None,
) -> tuple[int, dict[str, Any], bytes]:
    base, config, _ = lambda_svc._get_func_record_for_ref(function)
    allowed = functions.service_may_invoke(function, "elasticloadbalancing.amazonaws.com", group)
    if not base or not config or not allowed:
        logger.warning("the load balancer may not invoke %s", function)
        return page(502)
    if len(body or b"") > LIMIT:
        return page(413)
    multiple = any(
        one["Key"] == "lambda.multi_value_headers.enabled" and one["Value"] == "true"
        for one in alb._tg_attrs.get(group, [])
    )
    pairs = [tuple(part.partition("=")[::2]) for part in (raw_query or "").split("&") if part]
    event: dict[str, Any] = {
        "requestContext": {"elb": {"targetGroupArn": group}},
        "httpMethod": method.upper(),
        "path": path,
    }
    if multiple:
        event["multiValueQueryStringParameters"] = {
            name: [v for n, v in pairs if n == name] for name, _ in pairs
        }
        event["multiValueHeaders"] = {name: [value] for name, value in headers.items()}
    else:
        event["queryStringParameters"] = dict(pairs)
        event["headers"] = dict(headers)
    try:
        event["body"], event["isBase64Encoded"] = (body or b"").decode(), False
    except UnicodeDecodeError:
        event["body"], event["isBase64Encoded"] = base64.b64encode(body).decode(), True
    record = lambda_svc._execution_record_for_config(base, {**config, "FunctionArn": function})
    result = await run_reentrant(lambda_svc._execute_function_with_config_scope, record, event)
    answer = result.get("body")
    if (
        result.get("error")
        or result.get("throttle")
        or not isinstance(answer, dict)
        or "statusCode" not in answer
    ):
        logger.warning("%s failed behind the load balancer: %s", function, answer)
        return page(502)
    given: Any = answer.get("multiValueHeaders" if multiple else "headers") or {}
    content = answer.get("body") or ""
    if answer.get("isBase64Encoded"):
        content = base64.b64decode(content)
    else:
        content = content.encode()
    return int(answer["statusCode"]), dict(given), content


# A load balancer's own address


async def opened(arn: str, address: str, port: int, tls: bool) -> None:
    """Serves a listener's port at an address until the load balancer's ports are closed."""
    find(arn)
    if address in open_ports:
        raise ValueError(f"{address} is open already")
    config = Configuration(arn, port) if tls else Config()
    config.bind = [address]
    config.graceful_timeout = 0
    config.errorlog = None
    end = asyncio.Event()
    open_ports[address] = end
    serving = serve(
        Front(arn, port, tls),  # type: ignore[arg-type]
        config,
        shutdown_trigger=end.wait,  # type: ignore[arg-type]
    )
    task = asyncio.create_task(serving)
    for _ in range(200):
        if task.done():
            del open_ports[address]
            raise ValueError(f"{address} cannot be opened: {task.exception()}")
        host, _, number = address.rpartition(":")
        try:
            _, writer = await asyncio.open_connection(host, int(number))
        except OSError:
            await asyncio.sleep(0.01)
            continue
        writer.close()
        return


def close(addresses: list[str]) -> None:
    for address in addresses or list(open_ports):
        open_ports.pop(address, asyncio.Event()).set()


class Front:
    """An ASGI application: one port of one load balancer."""

    def __init__(self, arn: str, port: int, tls: bool):
        self.arn, self.port, self.tls = arn, port, tls

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while True:
                kind = (await receive())["type"]
                await send({"type": f"{kind}.complete"})
                if kind == "lifespan.shutdown":
                    return
        if scope["type"] != "http":
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        try:
            status, headers, content = await self.answer(scope, body)
        except LookupError:
            status, headers, content = page(503)
        lines = [
            (name.lower().encode("latin-1"), str(value).encode("latin-1"))
            for name, values in headers.items()
            for value in (values if isinstance(values, list) else [values])
            if name.lower() not in ("content-length", "connection", "transfer-encoding")
        ]
        lines.append((b"content-length", str(len(content)).encode()))
        await send({"type": "http.response.start", "status": status, "headers": lines})
        await send(
            {"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else content}
        )

    async def answer(self, scope: Any, body: bytes) -> tuple[int, dict[str, Any], bytes]:
        account, region, record = find(self.arn)
        headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            key, text = name.decode("latin-1").lower(), value.decode("latin-1")
            headers[key] = f"{headers[key]}, {text}" if key in headers else text
        query = scope.get("query_string", b"").decode("latin-1")
        with request_scope(account, region):
            if not any(one["Port"] == self.port for one in listeners.listeners_of(self.arn)):
                raise LookupError(self.port)
            return await alb.dispatch_request(
                record,
                scope["method"],
                scope["raw_path"].decode("latin-1").partition("?")[0],
                headers,
                body,
                parse_qs(query, keep_blank_values=True),
                self.port,
                client_ip=scope["client"][0],
                raw_query_string=query,
            )


class Configuration(Config):
    """TLS with the certificates that a listener holds at the moment of the handshake."""

    def __init__(self, arn: str, port: int):
        super().__init__()
        self.certfile = self.keyfile = os.devnull
        self.arn, self.listener_port = arn, port

    def create_ssl_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.sni_callback = self.choose  # type: ignore[assignment]
        return context

    def choose(self, connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> int | None:
        found = next(
            (one for one in listeners.listeners_of(self.arn) if one["Port"] == self.listener_port),
            None,
        )
        arns = listeners.held(found) if found else []
        chosen = best([bundle for arn in arns if (bundle := certificates.lookup(arn))], name)
        if not chosen:
            return ssl.ALERT_DESCRIPTION_HANDSHAKE_FAILURE
        connection.context = server_context(chosen)
        return None


def best(held: list[Any], name: str | None) -> list[Any]:
    """The best certificate of each key algorithm that covers a name, or the default. The client's
    signature algorithms choose between RSA and ECDSA. OpenSSL uses the client's order where ALB
    prefers ECDSA."""
    matching = [
        bundle for bundle in held if name and any(covers(own, name.lower()) for own in bundle.names)
    ]
    by_kind: dict[bool, Any] = {}
    for bundle in sorted(matching, key=lambda one: one.not_after):
        by_kind[isinstance(bundle._key, ec.EllipticCurvePrivateKey)] = bundle
    return list(by_kind.values()) or held[:1]


def covers(own: str, name: str) -> bool:
    own = own.lower()
    if own.startswith("*."):
        label, _, parent = name.partition(".")
        return bool(label) and parent == own[2:]
    return own == name


def server_context(chosen: list[Any]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["http/1.1"])
    for bundle in chosen:
        key = bundle._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        with tempfile.NamedTemporaryFile(prefix="handshake-") as file:  # ssl reads files only
            file.write(key + bundle.cert.rstrip() + b"\n" + bundle.chain)
            file.flush()
            context.load_cert_chain(file.name)
    return context


def install() -> None:
    alb._invoke_lambda_target = invoke
