"""The wire protocols. One dialect is one file: its schemas, its operations, its error body.

`http` carries bytes and headers, `errors` holds the one table of statuses, `app` puts the dialects side by side.
"""
