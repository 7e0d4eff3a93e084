"""A stand-in for AWS on one port of this machine: moto, as strict as AWS's documentation.

python tests/aws/strict_aws.py --port 0 [--account 123456789012] [--watch-stdin]

Prints `listening <port>` when it is ready. README.md lists what is stricter than moto, and the
requests under `/_local/`.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading

DEFAULT_ACCOUNT = "123456789012"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0: any free port")
    parser.add_argument("--account", default=DEFAULT_ACCOUNT)
    parser.add_argument("--watch-stdin", action="store_true", help="exit when stdin closes")
    arguments = parser.parse_args()
    if arguments.account != DEFAULT_ACCOUNT:
        os.environ["MOTO_ACCOUNT_ID"] = arguments.account

    # moto reads its environment when imported
    import acm
    import admin
    import elbv2
    import gateway
    import s3
    from server import Request, Response, Server

    for module in (acm, elbv2, s3):
        module.install()

    def handle(request: Request) -> Response | None:
        if request.target.startswith(admin.PREFIX):
            return local.handle(request)
        return cloud.handle(request)

    server = Server("127.0.0.1", arguments.port, handle)
    cloud = gateway.Gateway(arguments.account, server.port)
    local = admin.Admin(cloud)
    if arguments.watch_stdin:
        threading.Thread(target=exit_with_stdin, daemon=True).start()
    print(f"listening {server.port}", flush=True)
    try:
        server.serve()
    except KeyboardInterrupt:
        sys.exit(130)


def exit_with_stdin() -> None:
    while sys.stdin.buffer.read(4096):
        pass
    os._exit(0)


if __name__ == "__main__":
    main()
