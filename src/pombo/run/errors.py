"""What a command ends with when it cannot do what it was asked."""


class CommandFailed(Exception):
    """Nothing was done; the message says why and what to do."""
