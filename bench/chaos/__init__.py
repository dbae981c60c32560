"""What becomes of jobs when all around them is killed, cut, frozen or full: `make chaos`."""
