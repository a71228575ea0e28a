"""The measurements; `python -m benchmarks` runs them."""
