from __future__ import annotations

import pytest

from locks.models import KillSwitch


@pytest.fixture
def _released_switch(transactional_db: None) -> None:
    # Emptying the tables after a test takes the migration's row along.
    KillSwitch.objects.get_or_create(market="")


@pytest.fixture(autouse=True)
def _kill_switch_is_there(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("django_db"):
        request.getfixturevalue("_released_switch")
