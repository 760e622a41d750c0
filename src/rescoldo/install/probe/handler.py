"""The function that tries a new installation."""


def handle(event: object, context: object) -> str:
    return "awake"
