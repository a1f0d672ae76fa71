"""Renderers: one module for each style of picture."""
