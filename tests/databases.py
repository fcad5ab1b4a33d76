"""pytest plugin: which database the tests run on, and a state folder of their own.

`--database sqlite` (default) or `--database postgres`: a real server, started for this run.
"""

from __future__ import annotations

import os
import shutil
import tempfile

import pytest

from tests.postgres import PostgresServer

_ours: list[PostgresServer] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--database", choices=["sqlite", "postgres"], default="sqlite")
    parser.addoption(
        "--chaos-minutes", type=float, default=0.0, help="let the storm of tests/chaos last longer"
    )
    parser.addoption(
        "--alert-histories", type=int, default=0, help="how many random histories of alerts to make"
    )
    parser.addoption("--chaos-seed", type=int, default=0, help="repeat a storm's choice of faults")


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser, args: list[str]
) -> None:
    # Workers of pytest-xdist inherit both from the process that started them.
    if os.environ.get("WATCHDOG_TEST_HOME"):
        return
    home = tempfile.mkdtemp(prefix="watchdog-tests-")
    os.environ["WATCHDOG_TEST_HOME"] = home
    os.environ["WATCHDOG_HOME"] = home
    early_config.add_cleanup(lambda: shutil.rmtree(home, ignore_errors=True))
    # Tests look at what they did a moment ago.
    os.environ["WATCHDOG_STATUS_SECONDS"] = "0"
    os.environ.pop("DATABASE_URL", None)
    if parser.parse_known_args(args).database == "postgres":
        server = PostgresServer()
        early_config.add_cleanup(server.remove)
        server.start("fsync=off")
        os.environ["DATABASE_URL"] = server.url
        # A thread that a test left behind keeps its connection; the next test gets another.
        os.environ["WATCHDOG_DATABASE_CONNECTIONS"] = "64"
