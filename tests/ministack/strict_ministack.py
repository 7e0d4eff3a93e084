"""A stand-in for AWS that deploys and runs: ministack, as strict as AWS's documentation.

python tests/ministack/strict_ministack.py --folder <folder> [--port 0] [--account 123456789012]
[--watch-stdin]

Prints `listening <port>` when it is ready. README.md lists what is stricter than ministack, and the
requests under `/_local/`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ADMINISTRATOR = ("administrator", "AKIAADMINISTRATOR000", "administrator")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--folder", type=Path, required=True, help="folder for everything temporary"
    )
    parser.add_argument("--port", type=int, default=0, help="0: any free port")
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--account", default="123456789012")
    parser.add_argument("--no-permissions", action="store_true", help="everybody may do everything")
    parser.add_argument("--watch-stdin", action="store_true", help="exit when stdin closes")
    arguments = parser.parse_args()

    end_with_me()
    listening = socket.create_server((arguments.address, arguments.port))
    port = listening.getsockname()[1]
    surroundings(arguments, port)
    sys.path[:0] = [str(HERE), str(HERE.parent / "aws")]

    # ministack reads its environment when imported
    from ministack import app as gateway

    import alarms
    import balancer
    import certificates
    import functions
    import listeners
    import local
    import permissions

    for module in (alarms, listeners, certificates, permissions, functions, balancer):
        module.install()
    permissions.add_user(*ADMINISTRATOR)

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"].startswith(local.PREFIX):
            await local.handle(scope, receive, send)
        else:
            await gateway.app(scope, receive, send)

    async def serve() -> None:
        from hypercorn.asyncio import serve as hypercorn
        from hypercorn.config import Config

        config = Config()
        config.bind = [f"fd://{listening.fileno()}"]
        config.keep_alive_timeout = 75
        config.loglevel = "WARNING"
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        for one in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(one, ended.set)
        if arguments.watch_stdin:
            threading.Thread(target=when_stdin_closes, args=(loop, ended), daemon=True).start()
        serving = hypercorn(
            application,  # type: ignore[arg-type]
            config,
            shutdown_trigger=ended.wait,  # type: ignore[arg-type]
        )
        server = asyncio.create_task(serving)
        await ready(server, arguments.address, port)
        print(f"listening {port}", flush=True)
        await ended.wait()

    try:
        asyncio.get_event_loop_policy().new_event_loop().run_until_complete(serve())
    finally:
        functions.end_all()
        sys.stdout.flush()
        os._exit(0)


def surroundings(arguments: argparse.Namespace, port: int) -> None:
    """ministack reads its configuration from the environment. The caller's variables about AWS are
    neither for it nor for its functions."""
    for name in [
        name for name in os.environ if name.startswith(("AWS_", "MINISTACK_", "LOCALSTACK_"))
    ]:
        del os.environ[name]
    folder = arguments.folder.resolve()
    for name in ("tmp", "state", "s3"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    os.environ.update(
        AUTH="false" if arguments.no_permissions else "true",
        AWS_ENDPOINT_URL=f"http://{arguments.address}:{port}",
        BIND_HOST=arguments.address,
        GATEWAY_PORT=str(port),
        IOT_MTLS_ENABLED="0",
        LAMBDA_EXECUTOR="local",
        LOG_LEVEL=os.environ.get("LOG_LEVEL", "WARNING"),
        MINISTACK_ACCOUNT_ID=arguments.account,
        PERSIST_STATE="0",
        S3_DATA_DIR=str(folder / "s3"),
        SFTP_ENABLED="0",
        STATE_DIR=str(folder / "state"),
        TMPDIR=str(folder / "tmp"),
    )


async def ready(server: asyncio.Task[None], address: str, port: int) -> None:
    while not server.done():
        try:
            reader, writer = await asyncio.open_connection(address, port)
            writer.write(b"GET /_local/revision HTTP/1.0\r\n\r\n")
            if (await reader.read(12)).startswith(b"HTTP/1"):
                return
        except OSError:
            pass
        await asyncio.sleep(0.02)
    await server


def when_stdin_closes(loop: asyncio.AbstractEventLoop, ended: asyncio.Event) -> None:
    while sys.stdin.buffer.read(4096):
        pass
    loop.call_soon_threadsafe(ended.set)


def end_with_me() -> None:
    """Puts the functions' processes into our own group. A shell kills the group when this process
    has ended, for any reason."""
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)
    reading, writing = os.pipe()
    os.set_inheritable(reading, True)
    script = f"read -r _ <&{reading}; kill -9 -{os.getpid()}"
    subprocess.Popen(
        ["sh", "-c", script],
        pass_fds=[reading],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(reading)
    globals()["_held"] = writing  # closed by the kernel with this process


if __name__ == "__main__":
    main()
