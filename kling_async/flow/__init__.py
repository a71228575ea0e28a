"""The movement: asks the rules what follows, and the doors to do it."""
