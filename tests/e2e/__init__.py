"""A real server process, driven over real sockets."""
