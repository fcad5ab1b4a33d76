"""Composition: the one place that knows both who may execute and who is who."""
