"""Embedserve's server: runs compiled bundles behind OpenAI's and Vertex's wire protocols."""

__version__ = "0.1.0"
