"""The parity matrix: every family of encoders, compiled, served and compared with sentence-transformers over HTTP.

`rows.py` lists what is tried, `make_checkpoints.py` makes the checkpoints and the vectors they should give (in an
environment with torch and sentence-transformers), `matrix.py` compiles, serves and compares, `table.py` is the table in
docs/MODELS.md. `python -m tests.parity.families` (or `make matrix`) writes that table anew; `test_matrix.py` checks it.
"""
