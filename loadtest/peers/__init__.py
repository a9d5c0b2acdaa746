"""Other servers of the same model on the same machine, each in an environment of its own."""
