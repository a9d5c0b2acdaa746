"""Scores of cross-encoders and classifiers beside those of sentence-transformers' CrossEncoder."""
