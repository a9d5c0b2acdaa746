"""Load and quality: the benchmark (`make bench`), what long requests do to short ones, a locust user mix; and the
evaluation of long documents (`make evaluate`)."""
