"""`python -m braidcast._probe`: looks into a file that is to be published, apart from the program that publishes."""

import signal
import sys

from braidcast import _native

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(_native.probe(sys.argv[1:]))
