"""sentence-transformers as the judge of its own files: poolings, modules behind them, prompts, settings."""
