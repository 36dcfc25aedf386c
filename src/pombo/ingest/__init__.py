"""Applies queued webhooks: what Meta says became of the messages that were sent, and what people say.

    webhook_queue ─take─▶ parse ─▶ gather ─▶ (1) settle evidence, move receipts, keep the rest ─▶ commit
                                             (2) look again at what was kept                    ─▶ commit
                                             (3) people: contacts, threads, signals (conversing) ─▶ commit
                                             (4) campaigns that they answer (answering)         ─▶ commit
                                             (5) receipts of what other programs sent           ─▶ commit
                                             (6) what Meta tells of channels (notices)          ─▶ commit
                  ◀──────────────────────────────────────────────────────── finish ─▶ commit

One transaction holds the queue's rows locked from `take` to `finish`, while others apply them; most batches need only
the first. Any number of workers may run this; each takes what the others do not hold.

Invariants
- Everything applied is a maximum of states or a minimum of times, counted by the rows that moved, so applying a
  webhook twice, late, or in another order changes nothing. What follows from a commit is found from what the
  webhooks say and from rows, never from what that commit found new (but for a second look, `settling`).
  That makes several commits as good as one.
- An error of a status that concerns more than its message (`status_errors`) is heeded in the commit that moves the
  message, hence once. A status without our key that overtakes our own outcome is moved by others, and not heeded.
- A body signed with an app's secret reaches only that app's channels in that app's workspace.
- A receipt that matches no message is kept (`pending_receipts`, `watermarks`), committed, and only then looked for
  again. `pombo.store.early_receipts` explains the race this ends.

What happens when
- the worker dies: its locks go with it, and another takes the same rows at once.
- the database is away: nothing is finished; all of it is taken again later.
- two workers deadlock: the transaction that was ended is tried again, by itself.
- a body is not readable: out of the queue, into `webhook_errors`; its bytes stay in the log.
- applying fails unexpectedly: the batch is applied one webhook at a time, so that only the bad one stays. It is tried
  again after 2, 4, 8 and 16 s, then given up like an unreadable one.
- ids, channels or recipients are nobody's here: the receipts wait in `pending_receipts` until upkeep sweeps them.
"""
