"""The contenders: one small program each, run by an interpreter of its own. They share `frame` and nothing else."""
