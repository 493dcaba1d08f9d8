"""The live page of a run: what it shows, and the server in a thread of its own that serves it.

starlette, uvicorn and prometheus-client (the extra `view`) are imported by `app`, `connection`, `metrics` and `server` alone,
which nothing imports before a page is asked for.
"""
