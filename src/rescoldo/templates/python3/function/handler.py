def handle(req):
    """Answer one request: `req` is its body as text, the result is the response's."""
    return f"Hello, {req.strip() or 'world'}!\n"
