"""What follows: pure functions and small state machines; no loop, clock, dice, file or socket."""
