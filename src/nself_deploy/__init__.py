"""Zero-downtime deploys for Docker Compose stacks behind nginx."""

__version__ = "0.1.0"
