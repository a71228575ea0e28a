"""Each door against its contract, with real files, sockets and databases."""
