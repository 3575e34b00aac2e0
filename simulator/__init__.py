"""Seven cities' sensor networks, simulated: the load of the demo and of the integration tests.

It keeps its own count of what was published and imports nothing of the pipeline, so that the two can be held together.
"""
