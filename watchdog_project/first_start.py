"""What a new installation needs before anybody can use it; made once, left alone afterwards."""

from __future__ import annotations

import itertools
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from django.contrib.auth import get_user_model

from identity.registry import seed_registry
from identity.tailer import follow_folder
from watchdog_project.api_keys import create_api_key, principal_of
from watchdog_project.home import write_private
from watchdog_project.models import ApiKey, Role

OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Prepared:
    """`password` is the first operator's, when this start made it up; else None."""

    operator: str
    password: str | None
    robot_key: Path


def prepare(home: Path, log_folders: Sequence[Path] = ()) -> Prepared:
    """Seed the registry, make the first operator and the first robot key, follow the folders."""
    seed_registry()
    for folder in log_folders:
        follow_folder(str(folder))
    return Prepared(OPERATOR, _first_operator(), _robot_key(home))


def _first_operator() -> str | None:
    users = get_user_model().objects
    if users.exists():
        return None
    given = os.environ.get("WATCHDOG_ADMIN_PASSWORD")
    password = given or secrets.token_urlsafe(12)
    users.create_superuser(OPERATOR, password=password)
    return None if given else password


def _robot_key(home: Path) -> Path:
    """A file with a key that works; a new one where it is gone or the database forgot it."""
    path = home / "robot.key"
    if path.exists() and principal_of(path.read_text("utf-8").strip()) is not None:
        return path
    path.unlink(missing_ok=True)
    taken = set(ApiKey.objects.values_list("name", flat=True))
    names = itertools.chain(["robot"], (f"robot {number}" for number in itertools.count(2)))
    name = next(name for name in names if name not in taken)
    write_private(path, create_api_key(name, Role.ROBOT) + "\n")
    return path
