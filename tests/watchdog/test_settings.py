"""Settings that cannot work are refused at start, in one sentence."""

from __future__ import annotations

import ast
import os
import secrets
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.checks import run_checks
from django.test import override_settings

from identity.models import CanonicalInstrument

ROOT = Path(__file__).resolve().parent.parent.parent
DEMANDED = ("SECRET_KEY", "ALLOWED_HOSTS", "DATABASE_URL", "CELERY_BROKER_URL")


def in_production(home: Path, *arguments: str, **environment: str) -> Any:
    """A management command in a process of its own, with nothing set but what is given."""
    inherited = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT") if name in os.environ}
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=inherited | {"WATCHDOG_PRODUCTION": "1", "WATCHDOG_HOME": str(home)} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def complete(home: Path) -> dict[str, str]:
    return {
        "SECRET_KEY": secrets.token_urlsafe(64),
        "ALLOWED_HOSTS": "watchdog.example",
        "DATABASE_URL": os.environ.get("DATABASE_URL", f"sqlite:///{home / 'watchdog.sqlite3'}"),
        "CELERY_BROKER_URL": "redis://127.0.0.1:6379/0",
    }


@pytest.mark.usefixtures("db")
def test_the_production_settings_pass_djangos_deployment_checks(tmp_path: Path) -> None:
    done = in_production(
        tmp_path, "check", "--deploy", "--fail-level", "WARNING", **complete(tmp_path)
    )

    assert done.returncode == 0, done.stderr
    assert "no issues (0 silenced)" in done.stdout


@pytest.mark.parametrize("missing", DEMANDED)
def test_production_without_one_of_its_settings_refuses_to_start_in_one_sentence(
    tmp_path: Path, missing: str
) -> None:
    environment = complete(tmp_path)
    del environment[missing]

    done = in_production(tmp_path, "check", **environment)

    assert done.returncode != 0
    (line,) = done.stderr.strip().splitlines()
    assert line.endswith(f"WATCHDOG_PRODUCTION is set, so these must be too: {missing}.")


def test_production_makes_up_no_secret_of_its_own(tmp_path: Path) -> None:
    in_production(tmp_path, "check")

    assert not (tmp_path / "secret_key").exists()


def test_production_refuses_a_broker_that_other_hosts_cannot_reach(tmp_path: Path) -> None:
    environment = complete(tmp_path) | {"CELERY_BROKER_URL": "filesystem://"}

    done = in_production(tmp_path, "check", **environment)

    assert done.returncode == 1
    assert "watchdog.E003" in done.stderr


def test_a_public_status_in_production_is_warned_of(tmp_path: Path) -> None:
    environment = complete(tmp_path) | {"WATCHDOG_PUBLIC_STATUS": "1"}

    done = in_production(tmp_path, "check", "--deploy", **environment)

    assert "watchdog.W001" in done.stderr


def test_what_the_database_url_says_of_the_connection_is_kept(tmp_path: Path) -> None:
    environment = complete(tmp_path) | {
        "DATABASE_URL": "postgres://u:p@127.0.0.1/x?sslmode=require"
    }

    done = in_production(
        tmp_path,
        "shell",
        "--no-imports",
        "-c",
        "from django.conf import settings; print(settings.DATABASES['default']['OPTIONS'])",
        **environment,
    )

    assert "'sslmode': 'require'" in done.stdout, done.stderr
    assert "'pool'" in done.stdout


SHOW = """
from django.conf import settings
print({name: getattr(settings, name, None) for name in (
    "SECURE_PROXY_SSL_HEADER", "SECURE_HSTS_SECONDS", "SECURE_HSTS_PRELOAD", "SECURE_SSL_REDIRECT",
    "SESSION_COOKIE_SECURE", "CSRF_COOKIE_SECURE", "SESSION_COOKIE_HTTPONLY", "DEBUG")})
"""


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"SECURE_PROXY_SSL_HEADER": None, "SECURE_HSTS_SECONDS": 31_536_000}),
        (
            {"WATCHDOG_TRUSTED_PROXIES": "1"},
            {"SECURE_PROXY_SSL_HEADER": ("HTTP_X_FORWARDED_PROTO", "https")},
        ),
        (
            {"SECURE_HSTS_SECONDS": "0"},
            {"SECURE_HSTS_SECONDS": 0, "SECURE_HSTS_PRELOAD": False, "SECURE_SSL_REDIRECT": True},
        ),
    ],
)
def test_production_believes_a_proxy_and_binds_browsers_only_as_it_is_told(
    tmp_path: Path, given: dict[str, str], expected: dict[str, Any]
) -> None:
    environment = complete(tmp_path) | given

    done = in_production(tmp_path, "shell", "--no-imports", "-c", SHOW, **environment)

    told = ast.literal_eval(done.stdout.strip().splitlines()[-1])
    assert told | expected == told
    assert told["SESSION_COOKIE_SECURE"] is told["CSRF_COOKIE_SECURE"] is True
    assert told["SESSION_COOKIE_HTTPONLY"] is True
    assert told["DEBUG"] is False


def ids(**options: Any) -> set[str]:
    return {str(message.id) for message in run_checks(**options)}


def test_the_settings_as_they_are_pass() -> None:
    assert not ids()


@pytest.mark.parametrize("interval", [0, 76, 3600])
def test_a_sweep_that_would_be_overdue_between_two_runs_is_refused(interval: int) -> None:
    schedule = {name: dict(entry) for name, entry in settings.CELERY_BEAT_SCHEDULE.items()}
    schedule["identity sweep"]["schedule"] = timedelta(seconds=interval)
    schedule["identity sweep"]["options"] = {"expires": interval - 1}

    with override_settings(CELERY_BEAT_SCHEDULE=schedule):
        assert ids() == {"watchdog.E004"}


def test_a_schedule_without_the_reaper_is_refused() -> None:
    schedule = dict(settings.CELERY_BEAT_SCHEDULE)
    del schedule["stale-lock reaper"]

    with override_settings(CELERY_BEAT_SCHEDULE=schedule):
        assert ids() == {"watchdog.E004"}


@pytest.mark.parametrize("options", [{}, {"expires": 60}, {"expires": 90}])
def test_runs_that_could_pile_up_are_refused(options: dict[str, int]) -> None:
    schedule = {name: dict(entry) for name, entry in settings.CELERY_BEAT_SCHEDULE.items()}
    schedule["identity sweep"]["options"] = options

    with override_settings(CELERY_BEAT_SCHEDULE=schedule):
        assert ids() == {"watchdog.E005"}


@pytest.mark.parametrize(("passes", "changes"), [(0, 400), (7, 6), (7, 40_000)])
def test_a_retention_that_makes_no_sense_is_refused(passes: int, changes: int) -> None:
    with override_settings(WATCHDOG_KEEP_PASSES_DAYS=passes, WATCHDOG_KEEP_CHANGES_DAYS=changes):
        assert ids() == {"watchdog.E007"}


@pytest.mark.parametrize("word", ["True", "1"])
def test_a_transaction_around_each_request_is_refused(tmp_path: Path, word: str) -> None:
    environment = complete(tmp_path)
    environment["DATABASE_URL"] = f"sqlite:///{tmp_path / 'x.sqlite3'}?ATOMIC_REQUESTS={word}"

    done = in_production(tmp_path, "check", **environment)

    assert done.returncode == 1
    assert "watchdog.E002" in done.stderr


@pytest.mark.django_db
def test_a_market_whose_lease_no_robot_could_keep_is_named(instruments: None) -> None:
    assert not ids(databases=["default"])

    CanonicalInstrument.objects.filter(symbol="ES").update(lease_ttl=3)

    (found,) = run_checks(databases=["default"])
    assert found.id == "watchdog.E006"
    assert "Leases of ES: A TTL is 15 to 300 seconds, not 3." in str(found.msg)
