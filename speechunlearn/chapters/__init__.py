"""Runs a notebook, plans its jobs, draws its figures and tables."""
