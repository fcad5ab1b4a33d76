"""What every test may lean on."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.server import Server, Template

MEASURED = "measured"
# A loaded machine is slow, not wrong.
settings.register_profile("loaded", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("loaded")
DATABASE_FIXTURES = {"db", "transactional_db", "live_server", "server", "server_template"}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On PostgreSQL only what meets the database runs again; what takes minutes, when asked for."""
    kept, left_out = [], []
    for item in items:
        (kept if _is_wanted(item, config) else left_out).append(item)
    items[:] = kept
    config.hook.pytest_deselected(items=left_out)


def _is_wanted(item: pytest.Item, config: pytest.Config) -> bool:
    if item.get_closest_marker("long") and not config.getoption("--chaos-minutes"):
        return False
    if config.getoption("--database") == "sqlite":
        return not item.get_closest_marker("postgres_only")
    if item.get_closest_marker("sqlite_only"):
        return False
    fixtures = set(getattr(item, "fixturenames", ()))
    return bool(item.get_closest_marker("django_db") or DATABASE_FIXTURES & fixtures)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, Any, Any]:
    """Where everything is installed, a skip for want of a program is a failure."""
    report = yield
    if report.skipped and os.environ.get("WATCHDOG_REQUIRE_ALL") == "1":
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if "real data" not in reason and not hasattr(report, "wasxfail"):
            report.outcome = "failed"
            report.longrepr = f"skipped where nothing may be: {reason}"
    return report


@pytest.fixture(autouse=True)
def _the_authority_is_known(request: pytest.FixtureRequest) -> None:
    # Emptying the tables after a transactional test takes the migration's row along, and a
    # database that granted leases before it was known holds the next ones back.
    if request.node.get_closest_marker("django_db"):
        request.getfixturevalue("db")
        from locks.execution import begin_epoch

        begin_epoch()


@pytest.fixture(autouse=True)
def _nobody_has_asked_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Budgets are kept by the process, which all tests share."""
    if (throttles := sys.modules.get("watchdog_project.throttles")) is not None:
        monkeypatch.setattr(throttles, "BUDGETS", throttles.Budgets())


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Say what was measured: it is shown at the end, whichever worker it was measured by."""
    return lambda text: record_property(MEASURED, text)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for report in [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]:
        if report.when == "call":
            for name, text in report.user_properties:
                if name == MEASURED:
                    terminalreporter.write_line(f"\n{text}")


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None) -> Iterator[None]:
    yield
    from locks.connections import close_lease_connections

    # PostgreSQL drops no database that somebody is connected to.
    close_lease_connections()


@pytest.fixture(scope="session")
def server_template(tmp_path_factory: pytest.TempPathFactory) -> Template:
    return Template(tmp_path_factory.mktemp("template"))


@pytest.fixture
def server(server_template: Template, tmp_path: Path) -> Iterator[Server]:
    """A web process of this test's own."""
    running = Server(server_template, tmp_path / "home")
    running.start()
    yield running
    running.stop()
