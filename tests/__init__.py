"""The test suite is a package, so that its parts can share `tests.e2e.process`."""
