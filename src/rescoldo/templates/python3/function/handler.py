def handle(req):
    """Answer one request: `req` is its body as text, the returned text is the body of the response."""
    return f"Hello, {req.strip() or 'world'}!\n"
