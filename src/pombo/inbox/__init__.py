"""What agents do with conversations.

Each use case is one transaction, which its caller opens: the change and the events that tell every open browser of it
are committed together or not at all.
"""
