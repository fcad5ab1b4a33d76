"""`python -m canonical_guard`."""

import sys

from canonical_guard.cli import main

if __name__ == "__main__":
    sys.exit(main())
