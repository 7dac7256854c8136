"""Settings of all tests."""

from __future__ import annotations

import os
import sys

from hypothesis import HealthCheck, settings

# What tests start runs compiled, as installed programs do: compiling anew at each start takes four times as long.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


# A busy machine may take its time: no test fails on how long an example needs.
settings.register_profile("nself", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("nself")
