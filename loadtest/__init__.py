"""Load: the benchmark (`make bench`), its load generator, and a locust user mix."""
