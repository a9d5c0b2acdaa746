"""Faults at the seams of the real server process, and by signals."""
