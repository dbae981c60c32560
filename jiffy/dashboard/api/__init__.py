"""The JSON API: enqueue jobs, ask what became of them, cancel, retry and stop them; the schedule.

`routes.py` and `schedule.py` have the addresses; `calls.py`, `orders.py` and `kinds.py` say what
may be asked for, `told.py` and `schemas.py` what is answered, `wrong.py` what is wrong;
`document.py` tells all of it to programs.
"""

from jiffy.dashboard.api import schedule as schedule
from jiffy.dashboard.api.calls import OPTIONS as OPTIONS
from jiffy.dashboard.api.routes import blueprint as blueprint
