"""The lease and send protocol, small enough that ten thousand histories of it are lived through in minutes.

`database` stands for PostgreSQL: what its statements do, and that they may commit late or lose their answer. `worker`
is a process with its lanes: it can be killed, stopped at any point, cut off, suspended with its machine. `meta` is Meta
and the network in between. `world` holds them together with the clock, what may be assumed, and what must be true.

The rules are the real ones where they are pure: the decision on doubts, token bucket, breaker, back-off, send keys.

What is assumed, each of which a world may break, and then every duplicate must be reported:

* Meta's echo is applied within grace; or all echoes of its kind and channel are late together, which means that none
  comes of a message stored after that one had left.
* A process that is stopped between the check of its deadline and the write keeps its connection to the database, and
  with it its lock; and its clock goes on.
"""
