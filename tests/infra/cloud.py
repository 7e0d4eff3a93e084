"""The surroundings of the deployment under test: a local AWS that deploys and runs, a certificate
authority, Terraform, and a browser."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

import boto3
from botocore.config import Config
from cryptography import x509

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
TOOLS = REPOSITORY / ".tools"
sys.path.insert(0, str(HERE.parent / "aws"))

from pki import issue, key_pem, pem, root  # noqa: E402  (tests/aws/pki.py)

REGION = "us-east-1"
ACCOUNT = "123456789012"
KEY_ID = "kid-1"
MAC_KEY = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
ADMINISTRATOR = ("AKIAADMINISTRATOR000", "administrator")
# It also passes bucket policies: use it to look, never to act.
ROOT = ("test", "test")


def until(what: str, ready: Callable[[], Any], seconds: float = 60) -> Any:
    """Waits until `ready` returns something true, and returns that."""
    end = time.monotonic() + seconds
    while True:
        found = ready()
        if found:
            return found
        assert time.monotonic() < end, f"{what}: not within {seconds} seconds"
        time.sleep(0.2)


class Program:
    """A child process that ends with this one. Its output goes to a file."""

    def __init__(self, name: str, folder: Path, *command: str, **environment: str):
        self.name, self.log = name, folder / f"{name}.log"
        # A shell beside it notices our end by its closed standard input.
        guard = '"$@" </dev/null & child=$!; read -r line; kill -9 $child; wait'
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                ["sh", "-c", guard, "sh", *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
            )

    def answers_on(self, address: str, port: int) -> None:
        def connected() -> bool:
            assert self.process.poll() is None, f"{self.name} ended:\n{self.log.read_text()}"
            with socket.socket() as probe:
                probe.settimeout(1)
                return probe.connect_ex((address, port)) == 0

        until(f"{self.name} on {address}:{port}", connected, 30)

    def end(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait(10)


class Aws:
    """The stand-in: tests/ministack."""

    def __init__(self, folder: Path):
        self.process = subprocess.Popen(
            [
                sys.executable,
                str(HERE.parent / "ministack" / "strict_ministack.py"),
                "--folder",
                str(folder),
                "--watch-stdin",
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        )
        assert self.process.stdout
        first = self.process.stdout.readline()
        assert first.startswith(b"listening "), first
        self.endpoint = f"http://127.0.0.1:{int(first.split()[1])}"
        self.known: dict[Any, Any] = {}

    def client(self, service: str, who: tuple[str, ...] = ADMINISTRATOR) -> Any:
        if (service, who) not in self.known:
            self.known[service, who] = boto3.client(
                service,
                region_name=REGION,
                endpoint_url=self.endpoint,
                aws_access_key_id=who[0],
                aws_secret_access_key=who[1],
                aws_session_token=who[2] if len(who) > 2 else None,
                config=Config(retries={"total_max_attempts": 1}, read_timeout=120),
            )
        return self.known[service, who]

    def local(self, method: str, path: str, body: Any = None) -> Any:
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(f"{self.endpoint}/_local/{path}", method=method, data=data)
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    def end(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait(10)


class Network:
    """A loopback network of our own, with the addresses of everything that is not AWS."""

    def __init__(self) -> None:
        self.prefix = f"127.{random.randint(1, 254)}.{random.randint(0, 255)}"
        self.balancer = f"{self.prefix}.10"
        self.http, self.https = f"{self.balancer}:8080", f"{self.balancer}:8443"
        self.authority = f"{self.prefix}.3"


class Authority:
    """Pebble and its DNS server, in which every name leads to the load balancer."""

    def __init__(self, folder: Path, network: Network):
        host = network.authority
        self.directory, self.management = f"https://{host}:14000/dir", f"https://{host}:15000"
        own = issue("localhost", host)
        (folder / "pebble.pem").write_bytes(pem(own.leaf) + b"".join(map(pem, own.chain)))
        (folder / "pebble.key").write_bytes(key_pem(own.private_key))
        self.own_root = pem(root()).decode()
        config = {
            "listenAddress": f"{host}:14000",
            "managementListenAddress": f"{host}:15000",
            "certificate": str(folder / "pebble.pem"),
            "privateKey": str(folder / "pebble.key"),
            "httpPort": 8080,
            "tlsPort": 8443,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": False,
            "externalAccountMACKeys": {KEY_ID: MAC_KEY},
            "keyAlgorithm": "ecdsa",
            "profiles": {"default": {"description": "90 days", "validityPeriod": 90 * 86400}},
        }
        (folder / "pebble.json").write_text(json.dumps({"pebble": config}))
        installed = TOOLS / "pebble"

        def program(name: str) -> str:
            return str(installed / name) if (installed / name).exists() else name

        self.dns = Program(
            "challtestsrv", folder, program("pebble-challtestsrv"),
            "-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", "",
            "-defaultIPv4", network.balancer, "-defaultIPv6", "",
            "-dnsserver", f"{host}:8053", "-management", f"{host}:8055",
        )  # fmt: skip
        self.pebble = Program(
            "pebble", folder, program("pebble"), "-config", str(folder / "pebble.json"),
            "-dnsserver", f"{host}:8053", PEBBLE_VA_NOSLEEP="1",
        )  # fmt: skip
        self.dns.answers_on(host, 8055)
        self.pebble.answers_on(host, 14000)
        trust = ssl.create_default_context(cadata=self.own_root)
        with urllib.request.urlopen(f"{self.management}/roots/0", context=trust) as answer:
            self.root = answer.read().decode()

    def end(self) -> None:
        self.pebble.end()
        self.dns.end()


@dataclass
class Leaf:
    """A certificate as a browser saw it, and the page."""

    names: list[str]
    serial: int
    body: str


def visit(address: str, name: str, roots: str) -> Leaf:
    """Opens https://<name>/ and trusts only these roots."""
    host, port = address.split(":")
    trust = ssl.create_default_context(cadata=roots)
    with (
        socket.create_connection((host, int(port)), 10) as plain,
        trust.wrap_socket(plain, server_hostname=name) as wire,
    ):
        leaf = x509.load_der_x509_certificate(wire.getpeercert(binary_form=True))
        wire.sendall(f"GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while part := wire.recv(65536):
            answer += part
    alternative = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    names = alternative.get_values_for_type(x509.DNSName)
    return Leaf(names, leaf.serial_number, answer.partition(b"\r\n\r\n")[2].decode())


class Deployment:
    """A copy of infra/. Its infra/deploy deploys examples/complete, as a user would."""

    def __init__(self, folder: Path, aws: Aws, packages: Path, architecture: str):
        self.folder, self.aws = folder, aws
        self.infra = folder / "infra"
        shutil.copytree(
            REPOSITORY / "infra",
            self.infra,
            ignore=shutil.ignore_patterns(".terraform*", "*.tfstate*"),
        )
        self.root = self.infra / "examples" / "complete"
        # The settings that the stand-in needs. Everything else is as users have it, except what the
        # tests look at: a frequent schedule, a function URL, a host that pulls.
        for example in (self.infra / "examples").iterdir():
            (example / "stand_in_override.tf").write_text(
                """
                provider "aws" {
                  skip_credentials_validation = true
                  skip_metadata_api_check     = true
                  s3_use_path_style           = true
                }
                """
            )
        (self.root / "local_override.tf").write_text(
            """
            module "certloop" {
              schedule                = "rate(1 minute)"
              flexible_window_minutes = 0
              function_url            = true
              pull                    = { site = ["arn:aws:iam::123456789012:user/web-host"] }
            }
            """
        )
        # Here load balancers answer to their names, as they would on the Internet.
        (folder / ".curlrc").write_text(
            f'connect-to = "::{aws.endpoint.removeprefix("http://")}"\n'
        )
        (folder / "environments").mkdir()
        self.variables: dict[str, Any] = {"packages": str(packages), "architecture": architecture}
        replaced = ("AWS_", "TF_", "PACKAGES", "ARCH")
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(replaced)},
            "AWS_ENDPOINT_URL": aws.endpoint,
            "AWS_ACCESS_KEY_ID": ADMINISTRATOR[0],
            "AWS_SECRET_ACCESS_KEY": ADMINISTRATOR[1],
            "AWS_REGION": REGION,
            "ENV": "dev",
            "ROOT": str(self.root),
            "ENVIRONMENTS": str(folder / "environments"),
            "PATH": f"{TOOLS / 'venv' / 'bin'}:{os.environ['PATH']}",
            "TF_CLI_CONFIG_FILE": str(TOOLS / "terraform" / "terraformrc"),
            "TF_DATA_DIR": str(self.root / ".terraform" / "dev"),
            "CURL_HOME": str(folder),
        }

    def write_variables(self, **changes: Any) -> None:
        self.variables.update(changes)
        self.write_tfvars("dev", self.variables)

    def write_tfvars(self, environment: str, variables: dict[str, Any]) -> None:
        lines = [f"{name} = {json.dumps(value)}\n" for name, value in variables.items()]
        (self.folder / "environments" / f"{environment}.tfvars").write_text("".join(lines))

    def deploy(
        self, command: str, seconds: float = 600, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Runs `infra/deploy <command>`."""
        return subprocess.run(
            [str(self.infra / "deploy"), command],
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
        )

    def terraform(self, *arguments: str) -> str:
        done = subprocess.run(
            ["terraform", f"-chdir={self.root}", *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, f"terraform {arguments}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def outputs(self) -> dict[str, Any]:
        return {
            name: one["value"]
            for name, one in json.loads(self.terraform("output", "-json")).items()
        }
