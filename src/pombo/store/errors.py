"""What the store raises.

StoreError
├── SchemaError           the database's schema is not the one this Pombo knows
├── DatabaseUnavailable   no connection, or it broke: nothing was decided, try again later
├── NotFound              a row that was named does not exist
└── Duplicate             another row has what must be unique
"""


class StoreError(Exception):
    """Base of all errors of the store."""


class SchemaError(StoreError):
    """The database's schema is not the one this Pombo knows; the message says what to do."""


class DatabaseUnavailable(StoreError):
    """The database cannot be reached, or went away in the middle."""


class NotFound(StoreError):
    """A named row does not exist in this workspace."""


class Duplicate(StoreError):
    """Another row of this workspace has what must be unique."""
