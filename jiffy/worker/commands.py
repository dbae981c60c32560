"""RQ's commands to workers: stop a job, kill what runs it, shut a worker down."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from redis import Redis
from redis.exceptions import RedisError
from rq.command import PUBSUB_CHANNEL_TEMPLATE

from jiffy import keys, log
from jiffy.worker.recovery import Verdict
from jiffy.worker.slot import Slot

# Heard at a time, so that a flood of them keeps a supervisor from nothing else.
MOST_MESSAGES = 100
# Of a long message only a part may be there yet: reading it without patience would lose the others.
PATIENCE_S = 1


class Commands:
    """Hears the commands for all workers of one supervisor, on one connection."""

    def __init__(self, redis: Redis, slots: Sequence[Slot], retire: Callable[[Slot], None]) -> None:
        self._redis, self._retire = redis, retire
        self._slots = {PUBSUB_CHANNEL_TEMPLATE % slot.name: slot for slot in slots}
        self._pubsub = redis.pubsub(ignore_subscribe_messages=True)
        self._is_listening = False

    def hear(self) -> None:
        """Obey the commands that have come since the last time.  Raises redis-py's errors."""
        if not self._is_listening:
            self._pubsub.subscribe(*self._slots)
            self._is_listening = True
        for _ in range(MOST_MESSAGES):
            if not self._has_message():
                break
            message = self._pubsub.get_message(timeout=PATIENCE_S)
            if message is not None:
                self._obey(self._slots[message["channel"].decode()], message["data"])

    def _has_message(self) -> bool:
        """Whether there is one, or a part of one."""
        connection: Any = self._pubsub.connection
        try:
            return bool(connection.can_read(timeout=0))
        except RedisError:
            connection.disconnect()  # the next time it is there again, and subscribed
            raise

    def close(self) -> None:
        """Hear no more."""
        self._pubsub.close()

    def _obey(self, slot: Slot, data: bytes) -> None:
        try:
            payload = json.loads(data)
            command = payload["command"]
        except (ValueError, TypeError, KeyError, RecursionError):
            log.event("command.unreadable", log.WARNING, worker=slot.name, data=data[:200])
            return
        log.event("command.received", worker=slot.name, command=command)
        if command in ("stop-job", "stop-execution"):
            self._stop(slot, payload)
        elif command == "kill-horse" and slot.board.running is not None:
            slot.kill(Verdict.FAIL, "killed by the command kill-horse")
        elif command == "shutdown":
            self._retire(slot)

    def _stop(self, slot: Slot, payload: Mapping[str, Any]) -> None:
        running, job_id = slot.board.running, payload.get("job_id")
        execution = slot.execution_of(running) if running else ""
        is_meant = payload.get("execution_id", execution) == execution and self._redis.hexists(
            keys.held(slot.name), f"{job_id}:{execution}"
        )
        if is_meant:
            reason = "Job stopped by user, work-horse terminated."  # RQ's words
            slot.kill(Verdict.FAIL, reason, was_stopped=True)
        else:
            log.event("command.ignored", worker=slot.name, job=job_id, reason="it is not running")
