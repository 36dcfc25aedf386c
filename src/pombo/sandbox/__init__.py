"""Meta's Messenger Send API and WhatsApp Cloud API, simulated in one process, in memory.

It imports nothing of Pombo's, so that its ledger can be held against Pombo's own figures. How one send passes through:

    connection ─▶ app (route, token) ─▶ messenger | whatsapp (shape, window)
                                                    │
                                                    ▼
                        submission: faults "before" (an error, a disconnect)
                                                    │ rate limits
                                                    ▼
                                                  ledger ─▶ pump ─▶ signed webhooks
                                                    │
                                                    │ faults "after" (an error, a lost answer)
                                                    ▼
                                    answer (after the channel's latency)

Once a message is in the ledger it *was* accepted, whatever the caller got to see; its webhooks are on their way.
"""
