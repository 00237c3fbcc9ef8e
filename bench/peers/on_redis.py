"""FastAPI and redis-py: a hash for each job and a list for its log, changed in a transaction (MULTI).

    on_redis.py REDIS_PORT WORKERS
"""

from __future__ import annotations

import sys
from typing import Any

import redis.asyncio as redis
from fastapi import Body, FastAPI, HTTPException
from serving import serve
from work import LINES, LINES_MAX, first_job, first_lines, job_id


def app() -> FastAPI:
    """The routes."""
    client = redis.Redis(port=int(sys.argv[1]), decode_responses=True, max_connections=256)
    api = FastAPI()

    @api.get("/readyz")
    async def ready() -> dict[str, str]:
        return {"status": "ready"}

    @api.patch("/jobs/{known}")
    async def patch(known: str, change: dict[str, Any] = Body(...)) -> dict[str, Any]:
        async with client.pipeline(transaction=True) as step:
            step.hset(f"job:{known}", mapping=change)
            step.hincrby(f"job:{known}", "version", 1)
            step.hgetall(f"job:{known}")
            job: dict[str, Any] = (await step.execute())[2]
        return job

    @api.post("/jobs/{known}/logs")
    async def log(known: str, line: dict[str, Any] = Body(...)) -> dict[str, Any]:
        async with client.pipeline(transaction=True) as step:
            step.rpush(f"log:{known}", line["line"])
            step.ltrim(f"log:{known}", -LINES_MAX, -1)
            step.hincrby(f"job:{known}", "version", 1)
            version = (await step.execute())[2]
        return {"version": version}

    @api.get("/jobs/{known}")
    async def read(known: str) -> dict[str, Any]:
        async with client.pipeline(transaction=True) as step:
            step.hgetall(f"job:{known}")
            step.lrange(f"log:{known}", -LINES, -1)
            job, lines = await step.execute()
        if not job:
            raise HTTPException(404)
        return {**job, "logs": lines}

    return api


def fill(port: int, count: int) -> None:
    """Puts the jobs there."""
    import redis as blocking

    client = blocking.Redis(port=port)
    with client.pipeline(transaction=False) as step:
        for number in range(count):
            job = {name: "" if value is None else value for name, value in first_job(number).items()}
            step.hset(f"job:{job_id(number)}", mapping=job)
            step.rpush(f"log:{job_id(number)}", *first_lines(number))
            if number % 500 == 499:
                step.execute()
        step.execute()


if __name__ == "__main__":
    if sys.argv[1] == "fill":
        fill(int(sys.argv[2]), int(sys.argv[3]))
    else:
        serve(app, int(sys.argv[2]))
