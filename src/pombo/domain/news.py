"""For how long what a contact wrote is news, however late it comes."""

from datetime import timedelta

NEWS_FOR = timedelta(days=7)
"""So long WhatsApp tries to bring a webhook (Messenger a day and a half), and a person may answer on Messenger."""
