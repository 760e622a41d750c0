"""The handler that a spare loads and calls in its rehearsal; see rehearse() in runtime/instance.py."""


def handle(event, context):
    return f"{event.method} {event.path} {context.hostname}"
