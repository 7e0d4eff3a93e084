"""The scripts that run the tests: they report what is missing, skipped or flaky, and with CI=true
they skip nothing."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
REQUIREMENTS = [
    ROOT / name
    for name in (
        "tests/requirements.txt",
        "tests/acme2certifier/requirements.txt",
        "tests/aws/requirements.txt",
        "tests/infra/requirements.txt",
        "tests/ministack/requirements.txt",
        "infra/requirements-package.txt",
    )
]

# The format of cargo-nextest 0.9.143.
RESULTS = """<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="nextest-run" tests="3" skipped="0" failures="1" errors="0">
    <testsuite name="tests::e2e" tests="2" skipped="0" errors="0" failures="1">
        <testcase name="renewals::a_steady_one" classname="tests::e2e" time="0.005"/>
        <testcase name="renewals::a_flaky_one" classname="tests::e2e" time="0.008">
            <flakyFailure time="0.129" message="thread &apos;a&apos; panicked at renewals.rs:8:9" type="test failure">first
                <system-err>first try</system-err>
            </flakyFailure>
        </testcase>
        <testcase name="renewals::a_failing_one" classname="tests::e2e" time="0.008">
            <failure message="no" type="test failure"><system-err>failed</system-err></failure>
        </testcase>
    </testsuite>
</testsuites>
"""


@pytest.fixture
def project(tmp_path):
    """A copy of the scripts, which can fail, install and write freely."""
    for name in (".ci/run", "Makefile", "tests/setup", "tests/summary", "tests/infra/run"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, tmp_path / name)
    for name in ("tests/e2e", "infra/tests"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for path in (ROOT / "tests" / "infra").glob("test_*.py"):
        shutil.copy2(path, tmp_path / "tests" / "infra")
    (tmp_path / "infra" / "examples").mkdir()
    return tmp_path


@pytest.fixture
def programs(tmp_path_factory):
    """A PATH without some programs of this machine, and with replacements for others."""

    def made(*hidden, **replaced):
        folder = tmp_path_factory.mktemp("path")
        for directory in reversed(os.environ["PATH"].split(os.pathsep)):
            for program in Path(directory).glob("*") if Path(directory).is_dir() else []:
                (folder / program.name).unlink(missing_ok=True)
                (folder / program.name).symlink_to(program)
        for name in hidden:
            (folder / name).unlink(missing_ok=True)
        for name, script in replaced.items():
            name = name.replace("_", "-")
            (folder / name).unlink(missing_ok=True)
            (folder / name).write_text(f"#!/bin/bash\n{script}\n")
            (folder / name).chmod(0o755)
        return str(folder)

    return made


def run(project, *command, path=None, ci=True, **environment):
    kept = {
        k: v
        for k, v in os.environ.items()
        if k not in ("CI", "REQUIRE_DENY", "CARGO_TARGET_DIR", "MAKEFLAGS")
    }
    if path:
        kept["PATH"] = path
    if ci:
        kept["CI"] = "true"
    both = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
    ran = subprocess.run(command, cwd=project, env={**kept, **environment}, **both)
    return ran.returncode, ran.stdout


def results(project, text=RESULTS):
    path = project / "target" / "nextest" / "default" / "junit.xml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


# What is missing


@pytest.mark.parametrize(
    ("hidden", "remedy"),
    [
        ("cargo-nextest", "cargo install --locked cargo-nextest@"),
        ("terraform", "developer.hashicorp.com/terraform/install"),
    ],
)
def test_a_missing_tool_fails_a_build_machine_at_once(project, programs, hidden, remedy):
    others = {
        name: "exit 0"
        for name in ("cargo_nextest", "terraform")
        if name.replace("_", "-") != hidden
    }
    path = programs(hidden, **others)
    status, said = run(project, "tests/setup", "tools", path=path)
    assert (status, remedy in said) == (1, True), said
    assert run(project, "tests/setup", "tools", path=path, ci=False) == (0, "")


def test_a_build_machine_with_every_tool_goes_on(project, programs):
    path = programs(cargo_nextest="exit 0", terraform="exit 0")
    assert run(project, "tests/setup", "tools", path=path) == (0, "")


def test_the_deployment_is_left_out_without_terraform_but_not_by_a_build_machine(project, programs):
    path = programs("terraform")
    status, said = run(project, "tests/infra/run", path=path)
    assert status == 1 and "terraform is not installed" in said and "terraform/install" in said, (
        said
    )

    status, said = run(project, "tests/infra/run", path=path, ci=False)
    assert status == 0 and re.search(r"SKIPPED: all [1-9]\d+ tests of the deployment", said), said
    _, said = run(project, "tests/summary", path=path, ci=False)
    assert re.search(
        r"^SKIPPED: all [1-9]\d+ tests of the deployment .*: terraform is not installed$",
        said,
        re.M,
    ), said


def test_the_deployment_is_left_out_without_the_provider_but_not_by_a_build_machine(
    project, programs
):
    (project / "tests" / "setup").write_text("#!/bin/sh\n")
    path = programs(terraform="echo 'could not query provider registry'; exit 1")
    status, said = run(project, "tests/infra/run", path=path)
    assert status == 1 and "no AWS provider" in said and "could not query" in said, said
    status, said = run(project, "tests/infra/run", path=path, ci=False)
    assert status == 0 and "SKIPPED: all " in said, said


@pytest.mark.parametrize(
    ("program", "tests"),
    [
        ("nginx", "tests behind or with nginx"),
        ("chromium", "tests of the page"),
        ("acme2certifier", "tests with a second server"),
    ],
)
def test_a_server_or_browser_is_left_out_with_a_count_but_not_by_a_build_machine(
    project, programs, program, tests
):
    """Everything else exists already, and no package can be installed."""
    tools = project / ".tools"
    for name in {"nginx", "chromium"} - {program}:
        (tools / name).mkdir(parents=True)
        (tools / name / name).write_text("#!/bin/sh\n")
        (tools / name / name).chmod(0o755)
    (tools / "faketime").mkdir()
    (tools / "faketime" / "libfaketime.so.1").touch()
    (tools / "pebble").mkdir()
    for name in ("pebble", "pebble-challtestsrv"):
        (tools / "pebble" / name).write_text("dns-persist-01")
        (tools / "pebble" / name).chmod(0o755)
    for name in ("aws", "acme2certifier"):
        (project / "tests" / name).mkdir()
        (project / "tests" / name / "requirements.txt").touch()
    stamp = subprocess.run(
        ["cksum"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True
    ).stdout.strip()
    python = "#!/bin/sh\n" + ("exit 1\n" if program == "acme2certifier" else "")
    for name in ("venv", "acme2certifier"):
        (tools / name / "bin").mkdir(parents=True)
        (tools / name / "bin" / "python").write_text(python)
        (tools / name / "bin" / "python").chmod(0o755)
        (tools / name / "requirements").write_text(stamp)
    browsers = ("chromium", "chromium-headless-shell", "chromium-browser", "google-chrome")
    setup = (
        (project / "tests" / "setup")
        .read_text()
        .replace("$PATH:/usr/sbin:/usr/local/sbin", "$PATH")
    )
    (project / "tests" / "setup").write_text(setup)
    path = programs("nginx", "apt-get", *browsers)

    status, said = run(project, "tests/setup", path=path)
    assert (
        status == 1
        and f"{tests} (tests/e2e" in said
        and "With CI=true nothing may be left out" in said
    ), said
    status, said = run(project, "tests/setup", path=path, ci=False)
    assert status == 0 and re.search(rf"SKIPPED: [1-9]\d* {tests}", said), said


# What is flaky


def test_the_summary_names_flaky_tests(project):
    results(project)
    status, said = run(project, "tests/summary")
    assert status == 0
    assert said == (
        "flaky tests: 1\n  FLAKY: tests::e2e renewals::a_flaky_one, at try 2: "
        "thread 'a' panicked at renewals.rs:8:9\n"
    )


def test_the_summary_says_that_nothing_was_flaky(project):
    results(
        project,
        '<testsuites><testsuite name="tests::e2e"><testcase name="a"/></testsuite></testsuites>',
    )
    assert run(project, "tests/summary") == (0, "flaky tests: none\n")


def test_the_summary_does_not_guess(project, programs):
    """Results of an earlier run do not count, and nextest must have written some."""
    results(project)
    assert run(project, "tests/summary", "begin") == (0, "")
    status, said = run(project, "tests/summary", path=programs(cargo_nextest="exit 0"))
    assert status == 1 and "unknown" in said, said
    status, said = run(project, "tests/summary", path=programs("cargo-nextest"))
    assert (status, said) == (0, "flaky tests: none, since cargo test tries nothing twice\n")


# What a build machine runs


def ci(project, programs, cargo="exit 0", **environment):
    """Runs .ci/run where the set-up and each step succeed without doing anything."""
    (project / "tests" / "setup").write_text("#!/bin/sh\n")
    wrote = (
        "mkdir -p target/nextest/default && "
        f"cat >target/nextest/default/junit.xml <<'END'\n{RESULTS}\nEND\n"
    )
    make = f'if [ "$*" = test ]; then {wrote} fi'
    return run(
        project,
        ".ci/run",
        path=programs(cargo=cargo, make=make, cargo_nextest="exit 0"),
        **environment,
    )


def test_a_build_ends_with_its_flaky_tests(project, programs):
    status, said = ci(project, programs)
    assert status == 0
    assert said.splitlines()[-3:] == [
        "flaky tests: 1",
        "  FLAKY: tests::e2e renewals::a_flaky_one, at try 2: "
        "thread 'a' panicked at renewals.rs:8:9",
        "all good",
    ], said


def test_a_build_that_does_not_know_its_flaky_tests_fails(project, programs):
    (project / ".ci" / "run").write_text(
        (project / ".ci" / "run").read_text().replace("make test", "true")
    )
    status, said = ci(project, programs)
    assert status == 1 and said.endswith("\nfailed\n"), said


def test_a_build_that_fails_says_so_and_names_its_flaky_tests(project, programs):
    status, said = ci(project, programs, cargo='if [ "$1" = clippy ]; then exit 3; fi')
    assert (
        status == 3
        and "FLAKY: tests::e2e renewals::a_flaky_one" in said
        and said.endswith("\nfailed\n")
    ), said


def test_cargo_deny_may_be_missing_only_where_nobody_requires_it(project, programs):
    cargo = 'if [ "$1" = deny ]; then exit 101; fi'
    status, said = ci(project, programs, cargo=cargo)
    assert (
        status == 0 and "not run  licences, advisories, bans: cargo-deny is not installed" in said
    ), said
    status, said = ci(project, programs, cargo=cargo, REQUIRE_DENY="true")
    assert status == 1 and "cargo install --locked cargo-deny@" in said and "== " not in said, said


# Whence things come


@pytest.mark.parametrize("path", REQUIREMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_python_packages_are_pinned_to_the_hash(path):
    text = re.sub(r"^#.*\n", "", path.read_text(), flags=re.M)
    assert "://" not in text
    packages = [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    assert packages
    for package in packages:
        assert re.fullmatch(
            r"[a-z0-9][a-z0-9._\[\]-]*==\S+( ; [^\\]*?)?( +--hash=sha256:[0-9a-f]{64})+ *", package
        ), package
    wanted = [
        line.split("#")[0].strip() for line in path.with_suffix(".in").read_text().splitlines()
    ]
    for line in filter(None, wanted):
        name, _, version = line.partition("==")
        name = re.escape(name.partition("[")[0])
        assert any(
            re.match(rf"{name}(\[[a-z0-9,-]+\])?=={re.escape(version)} ", package)
            for package in packages
        ), line


def test_no_requirements_escape():
    found = {
        *ROOT.glob("infra/requirements*.txt"),
        *ROOT.glob("tests/requirements*.txt"),
        *ROOT.glob("tests/*/requirements*.txt"),
    }
    assert found == set(REQUIREMENTS)
    for script in ("tests/setup", "infra/package"):
        for line in re.findall(r"pip\" install(?:[^\n]*\\\n)*[^\n]*", (ROOT / script).read_text()):
            assert "--require-hashes" in line and "--only-binary :all:" in line, line


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_use_what_is_pinned(path):
    text = path.read_text()
    used = re.findall(r"\buses: (.*)", text)
    assert used
    for action in used:
        assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v[\d.]+", action), action
    for image in re.findall(r"\bcontainer: (.*)", text):
        assert re.fullmatch(r"[\w.:-]+@sha256:[0-9a-f]{64}", image), image
    nextest = re.search(
        r"^cargo_nextest_wanted=(.*)", (ROOT / "tests" / "setup").read_text(), re.M
    )[1]
    deny = re.search(r"cargo-deny@([\d.]+)", (ROOT / ".ci" / "run").read_text())[1]
    for tools in re.findall(r"\btool: (.*)", text):
        assert tools == f"cargo-nextest@{nextest},cargo-deny@{deny}"
    if ".ci/run" in text:
        assert 'REQUIRE_DENY: "true"' in text
