"""Clients at work on several members while one after the other is killed, paused or cut off; and a judge of it.

`clients.py` calls and writes down every request with its answer, `scenario.py` is the world and what is done to it,
`history.py` says what of it must not have happened.
"""
