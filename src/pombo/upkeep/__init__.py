"""What keeps the tables in order while the system runs: one duty a file, each a `run_once`, all on one schedule."""
