"""The scheduler: jobs that repeat, declared in one list, enqueued at the right time, once each."""
