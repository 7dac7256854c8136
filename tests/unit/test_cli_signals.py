"""Ctrl-C during a deploy asks for an orderly end; at a question it ends the program."""

from __future__ import annotations

import asyncio
import signal

import pytest

from nself_deploy.cli.telling import default_signals


async def test_a_question_can_be_left_and_the_deploys_own_handling_is_back_after_it() -> None:
    loop, asked = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGINT, asked.set)
    try:
        with pytest.raises(KeyboardInterrupt), default_signals():
            signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(0)

        assert not asked.is_set()

        signal.raise_signal(signal.SIGINT)
        await asyncio.wait_for(asked.wait(), 10)
    finally:
        loop.remove_signal_handler(signal.SIGINT)
