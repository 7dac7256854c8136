"""The worker: something that must never run twice. It beats four times a second until SIGTERM."""

import logging
import signal
import sys
import threading

import redis

from api.presence import BEAT, KEPT, KEYS
from api.stores import OUTAGES, cache
from common.release import this_release

log = logging.getLogger("worker")

BEAT_SECONDS = 0.25


def main() -> int:
    """Beat until asked to stop; an outage of redis is waited out."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    release = this_release()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    beat = cache().register_script(BEAT)

    def record(event: str) -> bool:
        try:
            others = beat(keys=KEYS, args=[release.instance, release.name, event, KEPT])
        except (*OUTAGES, redis.ResponseError) as error:
            log.warning("no beat: %s", error)
            return False
        if others:
            log.error("%d other worker(s) at the same time", others)
        return True

    log.info("release %s works as %s", release.name, release.instance)
    while not record("start") and not stop.wait(BEAT_SECONDS):
        pass
    while not stop.wait(BEAT_SECONDS):
        record("beat")
    record("stop")
    log.info("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
