"""What only a GPU shows: kernels, their numbers, memory, and the ways out (`make gpu-test`)."""
