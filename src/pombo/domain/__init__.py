"""Values, states and rules. Pure: no I/O, no clock, no randomness; what time it is comes in as an argument."""
