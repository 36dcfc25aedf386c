"""Sends what is due: one lane per channel, owned by one worker at a time.

    read ahead ──▶ lane (pacer, breaker) ──▶ intent ──▶ armed ──▶ socket ──▶ answer ──▶ outcome writer
    (store.outbox)                         (stored)                                     (store.settlement)

A message is *held* by its lane from reading ahead until its outcome is saved. In between:

* collected: the lane's pacer and breaker let it go, and a socket is or will soon be free for it;
* intent stored: from this moment a crash leaves it in doubt, never silently lost or sent again;
* armed: rendered, waiting for a socket. A few wait, so that a socket that becomes free is used at once and the time of
  storing intents is hidden behind the answers of others;
* in flight: its first byte may have left;
* judged: accepted, retry, failed or uncertain, and waiting for the next write of outcomes.

What happens at a failure:

* the database goes away: no intent can be stored, so nothing leaves; outcomes wait in memory and are written when it is
  back (writing one twice changes nothing); messages whose intent may or may not have been stored are put back as never
  written, and once more a little later, should the statement have committed late;
* the worker is taken for dead (its heartbeat failed for longer than the lease): others own its channels, its intents
  are refused, what it had in flight becomes doubtful. Its answers still count: they are evidence. It goes on under
  a new identity;
* Meta goes away: connections fail before the first byte, which is a plain retry; the breaker opens;
* SIGTERM: no more intents; armed and in-flight messages end, their outcomes are written, the channels handed over.
"""
