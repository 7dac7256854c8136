"""The api service: items and orders in PostgreSQL, a cache and the worker's record in redis."""

import json
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import redis.asyncio
from aiohttp import web

from api.presence import report
from api.stores import ANSWER_SECONDS, CONNECT_SECONDS, OUTAGES, POOL_SIZE, async_cache, database_arguments
from common.release import Variant
from common.serving import LIFE, Handler, answer, new_app, run, signed

PORT = 9000
ITEMS_CACHE_SECONDS = 2
MAX_TEXT = 200

DATABASE = web.AppKey("database", asyncpg.Pool)
CACHE = web.AppKey("cache", redis.asyncio.Redis)


@web.middleware
async def unavailable(request: web.Request, handler: Handler) -> web.StreamResponse:
    """503 while PostgreSQL or redis cannot be had; the next request tries them again."""
    try:
        return await handler(request)
    except OUTAGES as error:
        response = signed(request, {"error": f"a store is unavailable: {type(error).__name__}: {error}"}, status=503)
        response.headers["Retry-After"] = "1"
        return response


async def healthz(request: web.Request) -> web.Response:
    """200 if the database answers."""
    if request.app[LIFE].release.variant is Variant.UNHEALTHY:
        return signed(request, {"status": "unhealthy", "error": "this release is unhealthy on purpose"}, status=503)
    async with request.app[DATABASE].acquire(timeout=CONNECT_SECONDS) as database:
        await database.fetchval("SELECT 1", timeout=1)
    return signed(request, {"status": "ok"})


async def items(request: web.Request) -> web.Response:
    """All items; from redis while they are fresh, else from PostgreSQL."""
    cache = request.app[CACHE]
    text = await cache.get("items")
    if text is None:
        async with request.app[DATABASE].acquire(timeout=ANSWER_SECONDS) as database:
            rows = await database.fetch("SELECT id, name, price_cents FROM items ORDER BY id")
        text = json.dumps([dict(row) for row in rows])
        await cache.set("items", text, ex=ITEMS_CACHE_SECONDS)
    return signed(request, {"items": json.loads(text)})


async def order(request: web.Request) -> web.Response:
    """Store an order: {"request_id": text, "item_id": number, "quantity": number}.

    The client chooses request_id. Sent twice, it is stored once, and `received` counts it.
    """
    try:
        body = json.loads(await request.read())
        request_id, item_id, quantity = body["request_id"], body.get("item_id", 1), body.get("quantity", 1)
    except (ValueError, KeyError, AttributeError, TypeError):
        return signed(request, {"error": "expected a JSON object with request_id, item_id, quantity"}, status=400)
    numbers = all(type(value) is int and 0 < value < 2**31 for value in (item_id, quantity))
    if not (isinstance(request_id, str) and 0 < len(request_id) <= MAX_TEXT and numbers):
        return signed(request, {"error": "request_id: a text; item_id, quantity: positive whole numbers"}, status=400)
    async with request.app[DATABASE].acquire(timeout=ANSWER_SECONDS) as database:
        try:
            row = await database.fetchrow(
                """INSERT INTO orders (request_id, item_id, quantity, release) VALUES ($1, $2, $3, $4)
                   ON CONFLICT (request_id) DO UPDATE SET received = orders.received + 1
                   RETURNING id, received""",
                request_id,
                item_id,
                quantity,
                request.app[LIFE].release.name,
            )
        except asyncpg.ForeignKeyViolationError:
            return signed(request, {"error": f"there is no item {item_id}"}, status=400)
    return signed(request, {"id": row["id"], "received": row["received"]}, status=201 if row["received"] == 1 else 200)


async def orders_count(request: web.Request) -> web.Response:
    """Orders whose request_id begins with ?prefix=, how many came twice, and who stored them."""
    async with request.app[DATABASE].acquire(timeout=ANSWER_SECONDS) as database:
        rows = await database.fetch(
            """SELECT release, count(*) AS orders, sum(received)::bigint AS received FROM orders
               WHERE starts_with(request_id, $1) GROUP BY release ORDER BY release""",
            request.query.get("prefix", ""),
        )
    orders = sum(row["orders"] for row in rows)
    received = sum(row["received"] for row in rows)
    by_release = {row["release"]: row["orders"] for row in rows}
    counts = {"orders": orders, "received": received, "duplicates": received - orders, "by_release": by_release}
    return signed(request, counts)


async def migrations(request: web.Request) -> web.Response:
    """The schema's version and every run of the migration job."""
    async with request.app[DATABASE].acquire(timeout=ANSWER_SECONDS) as database:
        version = await database.fetchval("SELECT max(version) FROM schema_migrations")
        rows = await database.fetch("SELECT release, applied, ran_at FROM migration_runs ORDER BY id")
    runs = [{"release": row["release"], "applied": row["applied"], "at": row["ran_at"].isoformat()} for row in rows]
    return signed(request, {"version": version, "runs": runs})


async def worker(request: web.Request) -> web.Response:
    """Who works, who has worked, and whether two ever worked at the same time."""
    return answer({**request.app[LIFE].release.as_json(), **await report(request.app[CACHE])})


async def stores(app: web.Application) -> AsyncIterator[None]:
    """Connections to both stores, opened when first needed and again after an outage."""
    arguments: dict[str, Any] = database_arguments()
    pool = await asyncpg.create_pool(**arguments, min_size=0, max_size=POOL_SIZE)
    app[DATABASE], app[CACHE] = pool, async_cache()
    yield
    await app[CACHE].aclose()
    await pool.close()


def main() -> None:
    """Serve until SIGTERM."""
    app = new_app()
    app.middlewares.append(unavailable)
    app.cleanup_ctx.append(stores)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/items", items)
    app.router.add_post("/orders", order)
    app.router.add_get("/orders/count", orders_count)
    app.router.add_get("/migrations", migrations)
    app.router.add_get("/worker", worker)
    run(app, PORT)


if __name__ == "__main__":
    main()
