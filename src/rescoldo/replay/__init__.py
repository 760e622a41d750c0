"""Plays a trace of calls against a running platform, or against a simulation of the same policies."""
