"""Development on one machine: a private Redis, and all processes until Ctrl-C."""
