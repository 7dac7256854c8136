"""Where PostgreSQL and redis are, from the environment, and how long to wait for them."""

import os

import asyncpg
import redis
import redis.asyncio
import redis.asyncio.retry
from redis.backoff import NoBackoff
from redis.retry import Retry

CONNECT_SECONDS = 2.0
ANSWER_SECONDS = 3.0
POOL_SIZE = 8

# What a store that is down, restarting or frozen looks like from here.
OUTAGES = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    redis.ConnectionError,
    redis.TimeoutError,
)


def database_arguments() -> dict[str, str | float]:
    """Keyword arguments for asyncpg's connect and create_pool."""
    return {
        "host": os.environ.get("DATABASE_HOST", "db"),
        "database": os.environ.get("DATABASE_NAME", "shop"),
        "user": os.environ.get("DATABASE_USER", "shop"),
        "password": os.environ["DATABASE_PASSWORD"],
        "timeout": CONNECT_SECONDS,
        "command_timeout": ANSWER_SECONDS,
    }


def cache_arguments() -> dict[str, object]:
    """Keyword arguments for both redis clients: one retry, at once, on a new connection."""
    return {
        "host": os.environ.get("CACHE_HOST", "cache"),
        "decode_responses": True,
        "socket_connect_timeout": CONNECT_SECONDS,
        "socket_timeout": ANSWER_SECONDS,
    }


def async_cache() -> redis.asyncio.Redis:
    """The api's client."""
    return redis.asyncio.Redis(**cache_arguments(), retry=redis.asyncio.retry.Retry(NoBackoff(), 1))


def cache() -> redis.Redis:
    """The worker's client."""
    return redis.Redis(**cache_arguments(), retry=Retry(NoBackoff(), 1))
