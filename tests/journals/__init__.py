"""Journals of interrupted runs as each released version left them; see the README beside this."""
