"""SIGKILL at every boundary of every kind of run, under load: `make crash`; see `tests/crash/__main__.py`."""
