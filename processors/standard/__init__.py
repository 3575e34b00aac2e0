"""The shared standard, Hanse Observation Profile 1: vocabulary, units, quality, time. Pure."""
