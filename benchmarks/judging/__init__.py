"""The simulation behind the claims about verdicts: `make verdicts`."""
