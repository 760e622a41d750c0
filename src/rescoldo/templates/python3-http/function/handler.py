def handle(event, context):
    """Answer one request: `event` is the request, the returned value is the response."""
    name = event.body.decode("utf-8", "replace").strip() or "world"
    return {"statusCode": 200, "body": f"Hello, {name}!\n"}
