"""How many jobs to take at once: as many as are done in a blink, learnt from how long they took."""

# What a worker may hold: little enough that no job waits noticeably for one that it was taken with.
BUDGET_S = 0.03
# Enough that the round trip is a small part of it; more would only make the answers longer.
LARGEST = 128
# The share of the newest duration in the average; a jump is seen at once, in `learn`.
_NEWEST = 0.3


class Pace:
    """What one worker has learnt of the functions that it ran."""

    def __init__(self, largest: int = LARGEST) -> None:
        self._largest = largest
        self._took_s: dict[str, float] = {}
        self._want = 1

    @property
    def want(self) -> int:
        """How many jobs to take next."""
        return self._want

    def learn(self, func_name: str, took_s: float) -> None:
        """A job of this function took so long."""
        known = self._took_s.get(func_name, took_s)
        # Slowness is believed at once, speed only with time.
        average = max(took_s, known) if took_s > BUDGET_S else known + _NEWEST * (took_s - known)
        self._took_s[func_name] = average
        self._want = max(1, min(self._largest, self._want * 4, int(BUDGET_S / (average + 1e-6))))

    def is_quick(self, func_name: str) -> bool:
        """Whether a job of this function is known to be over in a small part of the budget."""
        return self._took_s.get(func_name, BUDGET_S) <= BUDGET_S / 3
