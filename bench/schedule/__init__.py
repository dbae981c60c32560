"""Ticks, counted, while schedulers and Redis are killed, cut off and replaced: ours and others'."""
