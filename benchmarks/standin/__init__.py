"""A stand-in for the service and for those of the peers, in a process of its own: `python -m benchmarks.standin`."""
