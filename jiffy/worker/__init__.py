"""Workers: what runs jobs."""
