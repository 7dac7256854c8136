"""The worker's record in redis, kept so that two workers at once cannot go unseen.

Every beat is one atomic script on redis' own clock. A beat finds an overlap when another
worker has beaten since this one's previous beat; a worker that was killed beats no more,
so its successor is never mistaken for a second one.
"""

import json
from typing import Any

import redis.asyncio

BEATS = "worker:beats"  # hash: instance -> redis time of its last beat, seconds
RELEASES = "worker:releases"  # hash: instance -> release
TICKS = "worker:ticks"  # number of beats of all workers
RUNS = "worker:runs"  # list of JSON, newest first: a worker started or stopped
OVERLAPS = "worker:overlaps"  # list of JSON, newest first: a beat that saw another worker
OVERLAP_COUNT = "worker:overlap_count"
KEPT = 500

KEYS = [BEATS, RELEASES, TICKS, RUNS, OVERLAPS, OVERLAP_COUNT]

# ARGV: instance, release, event ("start", "beat" or "stop"), how many list entries to keep.
BEAT = """
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1000000
local stamp = string.format('%.6f', now)
local me, release, event, kept = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local previous = now
if event ~= 'start' then
  previous = tonumber(redis.call('HGET', KEYS[1], me) or stamp)
end
local seen = 0
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  if all[i] ~= me and tonumber(all[i + 1]) > previous then
    seen = seen + 1
    redis.call('INCR', KEYS[6])
    redis.call('LPUSH', KEYS[5], cjson.encode({at = now, instance = me, release = release, other = all[i],
      other_release = redis.call('HGET', KEYS[2], all[i])}))
  end
end
redis.call('INCR', KEYS[3])
if event ~= 'beat' then
  redis.call('LPUSH', KEYS[4], cjson.encode({at = now, instance = me, release = release, event = event}))
end
if event == 'stop' then
  redis.call('HDEL', KEYS[1], me)
  redis.call('HDEL', KEYS[2], me)
else
  redis.call('HSET', KEYS[1], me, stamp)
  redis.call('HSET', KEYS[2], me, release)
end
redis.call('LTRIM', KEYS[4], 0, kept - 1)
redis.call('LTRIM', KEYS[5], 0, kept - 1)
return seen
"""

HOLDER_FRESH_SECONDS = 2.0


async def report(cache: redis.asyncio.Redis) -> dict[str, Any]:
    """Ticks, workers whose beat is fresh, runs (newest first) and overlaps (newest first)."""
    async with cache.pipeline(transaction=True) as pipeline:
        pipeline.time().hgetall(BEATS).hgetall(RELEASES).get(TICKS)
        pipeline.lrange(RUNS, 0, -1).lrange(OVERLAPS, 0, -1).get(OVERLAP_COUNT)
        clock, beats, releases, ticks, runs, overlaps, overlap_count = await pipeline.execute()
    now = clock[0] + clock[1] / 1_000_000
    running = [
        {"instance": instance, "release": releases.get(instance), "beat_age_seconds": round(now - float(beat), 3)}
        for instance, beat in beats.items()
        if now - float(beat) < HOLDER_FRESH_SECONDS
    ]
    return {
        "ticks": int(ticks or 0),
        "holder": min(running, key=lambda entry: entry["beat_age_seconds"], default=None),
        "running": running,
        "runs": [json.loads(text) for text in runs],
        "overlap_count": int(overlap_count or 0),
        "overlaps": [json.loads(text) for text in overlaps],
    }
