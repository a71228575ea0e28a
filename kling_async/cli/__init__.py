"""The command line: one module per command, loaded on use. It reaches doors through `kling_async.assembly` alone."""
