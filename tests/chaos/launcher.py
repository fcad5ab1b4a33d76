"""`canonical_guard` with its durations scaled, and its keeper's with them.

Arguments: the TTL, the name of a keeper's mutant or "-", then those of `canonical_guard`.
"""

from __future__ import annotations

import sys

from canonical_guard import keeper_link
from tests.chaos.scale import scale_guard

# What a keeper is started with, isolated from environment and site-packages as the product's is.
BOOT = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from tests.chaos.scale import scale_guard; scale_guard({ttl}); "
    "from tests.chaos import keeper_mutants; keeper_mutants.apply({mutant!r}); "
    "from canonical_guard.keeper import main; sys.exit(main(int(sys.argv[2]), int(sys.argv[3])))"
)


def scale_this_process(ttl: float, mutant: str = "-") -> None:
    scale_guard(ttl)
    keeper_link._BOOT = BOOT.format(ttl=ttl, mutant=mutant)


if __name__ == "__main__":
    from canonical_guard.cli import main

    scale_this_process(float(sys.argv[1]), sys.argv[2])
    sys.exit(main(sys.argv[3:]))
