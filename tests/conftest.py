"""Settings of every test: property tests draw the same examples on every machine."""

from __future__ import annotations

import signal

import hypothesis

# A shell that starts the suite in the background has Ctrl-C ignored, and Python then does too:
# the tests of Ctrl-C, and the processes they start, need what a terminal gives.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

hypothesis.settings.register_profile(
    "lrsearch", deadline=None, derandomize=True, database=None, print_blob=True
)
hypothesis.settings.load_profile("lrsearch")
