"""Your jobs: plain functions, one module per subject."""
