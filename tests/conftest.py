"""Settings of every test: property tests draw the same examples on every machine."""

from __future__ import annotations

import hypothesis

hypothesis.settings.register_profile(
    "lrsearch", deadline=None, derandomize=True, database=None, print_blob=True
)
hypothesis.settings.load_profile("lrsearch")
