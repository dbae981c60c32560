"""The JSON API: enqueue jobs, ask what became of them, cancel, retry and stop them.

`routes.py` has the addresses, `calls.py` and `kinds.py` say what may be asked for, `told.py` and
`schemas.py` what is answered, and `document.py` tells all of it to programs.
"""

from jiffy.dashboard.api.calls import OPTIONS as OPTIONS
from jiffy.dashboard.api.routes import ENQUEUE as ENQUEUE
from jiffy.dashboard.api.routes import blueprint as blueprint
