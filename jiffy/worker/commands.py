"""RQ's commands to workers: stop a job, kill what runs it, shut a worker down."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from redis import Redis
from rq.callbacks import execute_stopped_callback
from rq.command import PUBSUB_CHANNEL_TEMPLATE
from rq.exceptions import NoSuchJobError
from rq.worker import BaseWorker

from jiffy import keys, log
from jiffy.errors import JiffyError
from jiffy.worker import process
from jiffy.worker.rescue import Verdict
from jiffy.worker.slot import Slot


class Commands:
    """Hears the commands for all workers of one supervisor, on one connection."""

    def __init__(self, redis: Redis, slots: Sequence[Slot], retire: Callable[[Slot], None]) -> None:
        self._redis, self._retire = redis, retire
        self._slots = {PUBSUB_CHANNEL_TEMPLATE % slot.name: slot for slot in slots}
        self._pubsub = redis.pubsub(ignore_subscribe_messages=True)
        self._is_listening = False
        self._helpers: list[int] = []

    def hear(self) -> None:
        """Obey the commands that have come since the last time.  Raises redis-py's errors."""
        self._helpers = [pid for pid in self._helpers if process.ended(pid) is None]
        if not self._is_listening:
            self._pubsub.subscribe(*self._slots)
            self._is_listening = True
        while (message := self._pubsub.get_message(timeout=0)) is not None:
            self._obey(self._slots[message["channel"].decode()], message["data"])

    def close(self) -> None:
        """Hear no more."""
        self._pubsub.close()

    def _obey(self, slot: Slot, data: bytes) -> None:
        try:
            payload = json.loads(data)
            command = payload["command"]
        except (ValueError, TypeError, KeyError):
            log.event("command.unreadable", log.WARNING, worker=slot.name, data=data[:200])
            return
        log.event("command.heard", worker=slot.name, command=command)
        if command in ("stop-job", "stop-execution"):
            self._stop(slot, payload)
        elif command == "kill-horse" and slot.board.running is not None:
            slot.kill(Verdict.FAIL, "killed by the command kill-horse")
        elif command == "shutdown":
            self._retire(slot)

    def _stop(self, slot: Slot, payload: Mapping[str, Any]) -> None:
        running, job_id = slot.board.running, str(payload.get("job_id", ""))
        raw: Any = self._redis.get(keys.held(slot.name)) or b"[]"
        held: list[Any] = json.loads(raw.decode("utf-8", "surrogateescape"))
        tail = f"{running.batch:08x}{running.position:08x}" if running else None
        is_meant = any(
            entry[1] == job_id
            and entry[2][16:] == tail
            and payload.get("execution_id", entry[2]) == entry[2]
            for entry in held
        )
        if not is_meant:
            log.event("command.ignored", worker=slot.name, job=job_id, reason="it is not running")
            return
        reason = "Job stopped by user, work-horse terminated."  # RQ's words
        slot.kill(Verdict.FAIL, reason, was_stopped=True)

        def call() -> int:
            return call_stopped_callback(slot.face, self._redis, job_id)

        self._helpers.append(slot.launch(call, "stopped", job_id))


def call_stopped_callback(face: BaseWorker, redis: Redis, job_id: str) -> int:
    """The user's code, in a process of its own: the supervisor runs none."""
    try:
        job = face.job_class.fetch(job_id, redis, face.serializer)
        execute_stopped_callback(job, face.death_penalty_class)
    except NoSuchJobError:
        pass
    except JiffyError as refusal:
        log.event("callback.refused", log.WARNING, job=job_id, reason=refusal)
    return 0
