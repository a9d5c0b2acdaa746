"""Families of encoders: config.json and weights → the layers of a graph. One file a family, one table in `native`.

BERT's relatives share `bert.py`; `relatives.py` says how they differ. Those with rotary positions share `rotary.py`.
"""
