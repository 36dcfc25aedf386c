"""Real time: every change in every open browser that should see it, with no gap and no duplicate.

    change ─▶ event row, same transaction (store.events) ─▶ commit ─▶ bell
                                                               │
    tailer (one API process at a time is quick, all are slow) ─┴▶ gives positions ─▶ commit ─▶ bell
                                                                                              │
    reader (each API process) ─▶ hub (by workspace, by topic) ─▶ what waits for a socket ─▶ WebSocket ◀┘

What holds:

- **Positions become visible in their order.** Whoever numbers holds the lock of one row until its commit. An event
  whose transaction commits late gets its position late: a cursor never passes an event that is not there yet.
- **The lease is for speed, not for truth.** Any process may number at any time. The holder of an advisory lock does it
  upon every bell; the others once a second, so that a holder that is stopped or cut off delays, and no more.
- **A socket hears its topics in order of position.** The reader moves this process's `position`; a subscription begins
  at it. To continue from an older cursor, events up to it are read from the database, what comes meanwhile is held
  back until they are out. To continue from a newer one (of a process that is ahead by milliseconds), it is waited for.
- **A cursor that cannot be continued from is said to be so** (`snapshot_required`): events after it are deleted, or too
  many, or it is of another life of the database.
- **Nobody waits for a slow browser.** What waits for a socket is bounded; beyond, it is closed and continues from its
  last event when it comes back.

Who is there, what they look at and where they type is no event: it lives in the processes' memories, which tell each
other by NOTIFY, and fades when it is not told again (`presence`). What happens when

| | |
|---|---|
| the tailer's process dies | its lock is free with its session: the next bell or poll finds another |
| a NOTIFY is lost | a second later by polling |
| the database is away | nothing moves; sockets stay, and go on when it is back |
| the database is set back | positions step back: all sockets are closed, and told to fetch anew when they return |
| a process is stopped and goes on | its sockets get late what others got in time, in order |
| … for so long that events were deleted | their workspaces' sockets are closed, and told to fetch anew |
"""
