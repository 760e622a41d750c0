"""An ordinary FastAPI application; uvicorn serves it."""

from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse

app = FastAPI()


@app.api_route("/{path:path}", methods=["GET", "POST"])
async def answer(path: str, request: Request) -> PlainTextResponse:
    body = (await request.body()).decode()
    return PlainTextResponse(f"FastAPI: {request.method} /{path}?{request.url.query} {body}\n")
