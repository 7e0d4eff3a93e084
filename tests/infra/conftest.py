"""One deployment of examples/complete for all the tests here. It takes a minute or two."""

from __future__ import annotations

import os
import platform
import threading
import time
from pathlib import Path
from typing import Any, Iterator

import pytest

from cloud import KEY_ID, MAC_KEY, REPOSITORY, Authority, Aws, Deployment, Network

ARCHITECTURE = {"aarch64": "arm64"}.get(platform.machine(), platform.machine())
DOMAINS = ["shop.example.com", "www.shop.example.com"]


class World:
    """Everything under test, and the output and duration of its deployment."""

    aws: Aws
    network: Network
    authority: Authority
    deployment: Deployment
    output: str
    seconds: float

    def __getattr__(self, name: str) -> Any:  # outputs of the root module
        if name.startswith("_"):
            raise AttributeError(name)
        self.__dict__.update(self.deployment.outputs())
        return self.__dict__[name]


def packages() -> Path:
    folder = Path(os.environ.get("PACKAGES", REPOSITORY / "target" / "package"))
    for function in ("renew", "challenge"):
        package = folder / f"{function}-{ARCHITECTURE}.zip"
        assert package.exists(), f"{package} is not there: make package ARCH={ARCHITECTURE}"
    return folder


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("infra")
    world = World()
    world.network = Network()
    (folder / "aws").mkdir()
    world.aws = Aws(folder / "aws")
    world.authority = Authority(folder, world.network)
    world.deployment = Deployment(folder, world.aws, packages(), ARCHITECTURE)
    roots = world.authority.own_root + world.authority.root
    secret = world.aws.client("secretsmanager").create_secret(
        Name="external-account", SecretString=MAC_KEY
    )["ARN"]
    world.deployment.write_variables(
        environment="dev",
        domains=DOMAINS,
        email="ops@example.com",
        production=False,
        directory=world.authority.directory,
        settings={
            "authorities": {
                "letsencrypt": {"rootCertificate": roots},
                # The same authority, with an external account binding.
                "bound": {
                    "directory": world.authority.directory,
                    "termsOfServiceAgreed": True,
                    "rootCertificate": roots,
                    "externalAccount": {"keyId": KEY_ID, "secretArn": secret},
                },
            },
            "defaults": {"profile": "default"},
            "selfCheck": {"mode": "require", "connectTo": world.network.http},
            "proof": {"mode": "require", "connectTo": world.network.https, "seconds": 20},
            "limits": {"overlapSeconds": 0},
        },
    )
    over = threading.Event()
    doorman = threading.Thread(target=open_ports, args=(world, over), daemon=True)
    doorman.start()
    begun = time.monotonic()
    done = world.deployment.deploy("apply", AUTO_APPROVE="1")
    world.output, world.seconds = done.stdout, time.monotonic() - begun
    over.set()
    doorman.join()
    assert done.returncode == 0, done.stdout
    print(f"\napplied in {world.seconds:.0f} s")
    yield world
    world.authority.end()
    world.aws.end()


def open_ports(world: World, over: threading.Event) -> None:
    """Opens the ports of the load balancer as soon as it exists: the first pass may run before
    Terraform is done."""
    while not over.is_set():
        found = world.aws.local("GET", "load-balancers")["loadBalancers"]
        if found:
            for port, address in ((80, world.network.http), (443, world.network.https)):
                world.aws.local(
                    "POST",
                    "ports",
                    {"loadBalancer": found[0]["arn"], "address": address, "port": port},
                )
            return
        over.wait(0.2)
