"""Looks into a file that is to be published, apart from the program that publishes.

Python runs this as a file and not as a module of the package: the package loads asyncio and more, which takes longer
than looking into a small film.
"""

import importlib
import signal
import sys

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(importlib.import_module("_native").probe(sys.argv[1:]))
