"""The state of each account in Redis: the only room that reads and writes it."""
