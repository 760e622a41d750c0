"""What a spare loads and calls before it is needed; see rehearse() in runtime/instance.py."""


def handle(event, context):
    return f"{event.method} {event.path} {context.hostname}"
