"""A thread that Python does not know of, and that ends before the process forks, as numpy's do."""

import _thread
import os

lock = _thread.allocate_lock()
lock.acquire()
_thread.start_new_thread(lock.acquire, ())
os.register_at_fork(before=lambda: lock.locked() and lock.release())
