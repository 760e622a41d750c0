"""An ordinary Flask application; gunicorn serves it."""

from flask import Flask, request

app = Flask(__name__)


@app.route("/", defaults={"path": ""}, methods=["GET", "POST"])
@app.route("/<path:path>", methods=["GET", "POST"])
def answer(path: str) -> str:
    return f"Flask: {request.method} /{path}?{request.query_string.decode()} {request.get_data(as_text=True)}\n"
