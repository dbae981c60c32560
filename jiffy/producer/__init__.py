"""The producer's side: a function and its arguments become a job on a queue, and its result."""
