"""The entry as the users of each library write it: so many of them, each due so often.

These modules are imported where the library is installed and nothing of ours need be.
"""

import os

REDIS_URL = os.environ["REDIS_URL"]
# "1 second", "10000 minute", "1 day": all entries of a unit are due at the same moment.
_NUMBER, UNIT = os.environ["BENCH_SCHEDULE"].split()
NUMBERS = range(int(_NUMBER))
PERIOD_S = {"second": 1, "minute": 60, "day": 86400}[UNIT]
