"""Sparse models and models of vectors of tokens, judged by sentence-transformers' SparseEncoder and MultiVectorEncoder.

`make_models.py` makes tiny checkpoints and what they should give, in an environment with torch; `test_outputs.py`
compiles, serves and compares.
"""
