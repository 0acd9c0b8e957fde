"""`python -m tests.crash`: see runner.py."""

import sys

from tests.crash.runner import main

if __name__ == "__main__":
    sys.exit(main())
