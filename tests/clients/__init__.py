"""The clients that people use, unmodified."""
