"""The pages, one module each: a few lines that read and render."""
