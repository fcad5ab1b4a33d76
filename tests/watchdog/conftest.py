"""The cast: who calls the API, and by what means."""

from __future__ import annotations

import pytest

from identity.registry import seed_registry


@pytest.fixture
def instruments(db: None) -> None:
    seed_registry()
