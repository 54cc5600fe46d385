"""The page and the HTTP API of Vireo, with extra `[web]`.

`create_app` makes the application for any ASGI server; `vireo web` runs it with uvicorn.
"""
