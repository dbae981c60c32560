"""An event loop that is made, and runs something, as its module is imported."""

import asyncio
import os

loop = asyncio.new_event_loop()
maker = os.getpid()


async def answer(number):
    return f"answer to {number}" if os.getpid() == maker else "the loop of another process"


def ask(number):
    return loop.run_until_complete(answer(number))


ask("hello")
