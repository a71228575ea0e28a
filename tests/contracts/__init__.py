"""One suite for each door, run against each of its implementations."""
