from __future__ import annotations

import pytest

from identity.registry import seed_registry


@pytest.fixture
def registry(db: None) -> None:
    seed_registry()
