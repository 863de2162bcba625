"""`python -m fastseg.train METHOD …` is `fastseg train METHOD …`."""

import sys

from ..cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
