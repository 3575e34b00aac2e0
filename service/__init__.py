"""What every process of the pipeline needs and no domain does: logs, HTTP endpoints, sentences on exit.

It knows no sensor, no message and no table; import-linter holds it to that.
"""
