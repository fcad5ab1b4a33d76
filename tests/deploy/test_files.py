"""What deploy/ starts is what `up` starts, what it names is there, and its own tools accept it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
import urllib.request
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.deploy.cast import (
    DEPLOY,
    ROOT,
    compose,
    dockerfile,
    environment_example,
    image_command,
    unit_command,
)
from tests.server import free_port
from watchdog_project.management.commands.up import programs

# What may differ between one terminal and many hosts.
OF_UP_ALONE = {"--log-level", "warning", "--without-heartbeat"}
BY_PLACE = re.compile(r"^(\d+|%i|127\.0\.0\.1|0\.0\.0\.0|.*/?python3?)$")


def essence(command: list[str]) -> list[str]:
    return [word for word in command if word not in OF_UP_ALONE and not BY_PLACE.match(word)]


@pytest.mark.parametrize("role", ["web", "worker", "beat", "tail"])
def test_every_way_to_run_it_starts_the_same(role: str) -> None:
    (ours,) = [program.command for program in programs("127.0.0.1", 8000) if program.name == role]
    services = compose()["services"]
    found = [unit_command("watchdog-web@.service" if role == "web" else f"watchdog-{role}.service")]
    if role == "web":
        found.append(image_command())
    elif role in services:
        found.append(services[role]["command"])

    for command in found:
        assert essence(command) == essence([str(word) for word in ours])


def test_compose_names_only_what_it_has() -> None:
    told = compose()
    services = told["services"]
    asked: set[str] = set()
    for name, service in services.items():
        assert "image" in service, name
        for other, how in service.get("depends_on", {}).items():
            assert other in services
            if how["condition"] == "service_healthy":
                healthy = services[other].get("healthcheck", {})
                assert healthy.get("test") or services[other]["image"] == "watchdog"
        for mount in service.get("volumes", []):
            source = mount.partition(":")[0]
            if source.startswith("."):
                assert source == "./tls" or (DEPLOY / source).is_file(), source
            else:
                assert source in told["volumes"], source
        asked |= set(re.findall(r"\$\{(\w+)", json.dumps(service)))
    assert asked <= environment_example().keys()
    assert [name for name in services if "beat" in services[name].get("command", [])] == ["beat"]


def test_nothing_that_compose_reaches_from_outside_is_open_but_the_proxy() -> None:
    published = [name for name, service in compose()["services"].items() if "ports" in service]
    assert published == ["proxy"]


@contextmanager
def running(command: list[str], folder: Path, environment: dict[str, str]) -> Iterator[None]:
    log = folder / "web.log"
    with log.open("wb") as out:
        program = subprocess.Popen(command, cwd=folder, env=environment, stdout=out, stderr=out)
    try:
        yield
    finally:
        program.terminate()
        program.wait(30)


def test_the_image_holds_what_its_commands_need(tmp_path: Path) -> None:
    """Without a Docker engine: the same files in an empty folder, and the same commands on them."""
    folder = tmp_path / "image"
    folder.mkdir()
    for name, rest in dockerfile():
        if name == "COPY":
            *sources, target = rest.split()
            for source in sources:
                assert (ROOT / source).exists(), source
                if (ROOT / source).is_dir():
                    shutil.copytree(
                        ROOT / source, folder / target, ignore=shutil.ignore_patterns("__pycache__")
                    )
                else:
                    shutil.copy(ROOT / source, folder / target)
    port = str(free_port())
    environment = {
        "PATH": "/usr/bin:/bin", "WATCHDOG_HOME": str(tmp_path / "home"),
        "PYTHONDONTWRITEBYTECODE": "1", "WATCHDOG_ADMIN_PASSWORD": "a-password-of-the-test",
    }  # fmt: skip

    def here(command: list[str]) -> list[str]:
        words = {"python": sys.executable, "8000": port, "0.0.0.0": "127.0.0.1"}  # noqa: S104
        return [words.get(word, word.replace(":8000/", f":{port}/")) for word in command]

    prepare = compose()["services"]["prepare"]["command"]
    done = subprocess.run(
        here(prepare), cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "The robots' API key is in" in done.stdout
    (health,) = [rest.partition("CMD ")[2] for name, rest in dockerfile() if name == "HEALTHCHECK"]
    with running(here(image_command()), folder, environment):
        deadline = time.monotonic() + 60
        while subprocess.run(
            here(json.loads(health)), env=environment, capture_output=True, check=False
        ).returncode:
            assert time.monotonic() < deadline, (folder / "web.log").read_text()
            time.sleep(0.2)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=10) as answer:
            assert json.load(answer)["ready"] is True
        # The runbook's page reads what the image must have brought along.
        assert (folder / "docs" / "runbook.md").is_file()


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze on this machine")
    units = []
    for unit in sorted((DEPLOY / "systemd").glob("*.service")):
        # It looks whether the programs are there; a port for a template's instance.
        text = unit.read_text()
        text = re.sub(r"/opt/\w+/\.venv/bin/python", sys.executable, text)
        text = text.replace("/opt/watchdog", str(ROOT))
        name = unit.name.replace("robot@", "robot@MES").replace("web@", "web@8000")
        (tmp_path / name).write_text(text)
        units.append(str(tmp_path / name))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *units],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "SYSTEMD_LOG_LEVEL": "warning"},
    )
    complaints = [line for line in done.stderr.splitlines() if str(tmp_path) in line]
    assert complaints == []
    assert done.returncode == 0, done.stderr


def test_a_mistake_in_a_unit_would_be_seen(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze on this machine")
    unit = tmp_path / "wrong.service"
    unit.write_text("[Service]\nExecStart=/bin/true\nTimeoutStopSec=soon\n")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert str(unit) in done.stderr


@pytest.mark.parametrize("name", ["watchdog-up.xml", "robot-guard.xml"])
def test_the_services_for_windows_are_whole(name: str) -> None:
    service = ET.parse(DEPLOY / "windows" / name).getroot()  # noqa: S314 our own file
    for part in ("id", "executable", "arguments", "onfailure", "stoptimeout"):
        assert service.find(part) is not None
    arguments = (service.findtext("arguments") or "").split()
    if name == "watchdog-up.xml":
        assert arguments[:2] == ["manage.py", "up"]
    else:
        assert arguments[:4] == ["-m", "canonical_guard", "run", "MES"]
        assert "--" in arguments
