"""A thread that a C library starts as the module is imported."""

import ctypes

libc = ctypes.CDLL(None)
libc.pthread_create(ctypes.byref(ctypes.c_ulong()), None, libc.pause, None)
