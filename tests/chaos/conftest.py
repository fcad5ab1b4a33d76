from __future__ import annotations

import pytest

from locks.models import KillSwitch


@pytest.fixture
def released_switch(transactional_db: None) -> None:
    # Emptying the tables after a test takes the migration's row along.
    KillSwitch.objects.get_or_create(market="")
