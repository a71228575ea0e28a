"""The movement, in virtual time, over real sockets, real SQLite and real files, against the simulator."""
