"""rescoldo: serverless functions that sleep at zero and wake in milliseconds."""

__version__ = "0.1.0"
