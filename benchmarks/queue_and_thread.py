"""The way to stream an upload to S3 that forums teach, to compare with.

`scripts/dev python -m benchmarks.queue_and_thread --port N --endpoint URL --bucket NAME` serves it.

The request's chunks go into a queue without a bound; a thread hands boto3 an object whose `read`
takes from it. No account, no database, no picture and no hash is around it, which is in its favour.
"""

import argparse
import asyncio
import uuid
from queue import Queue
from typing import IO, Literal, cast, get_args

import boto3
import uvicorn
from botocore.config import Config
from fastapi import FastAPI, Request
from starlette.concurrency import run_in_threadpool

Checksums = Literal["when_supported", "when_required"]


class QueueReader:
    """The file that boto3 reads: it waits for the next chunk where the queue is empty."""

    def __init__(self, chunks: "Queue[bytes | None]") -> None:
        self._chunks = chunks
        self._held = bytearray()
        self._is_over = False

    def read(self, size: int = -1) -> bytes:
        while not self._is_over and (size < 0 or len(self._held) < size):
            chunk = self._chunks.get()
            if chunk is None:
                self._is_over = True
            else:
                self._held += chunk
        wanted = len(self._held) if size < 0 else size
        found = bytes(self._held[:wanted])
        del self._held[:wanted]
        return found


def make_application(endpoint: str, bucket: str, checksums: Checksums) -> FastAPI:
    """Make the service, which puts what is sent into the bucket."""
    app = FastAPI()
    client = boto3.session.Session().client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(
            request_checksum_calculation=checksums,
            response_checksum_validation=checksums,
            s3={"addressing_style": "path"},
        ),
    )

    @app.get("/health/live")
    @app.get("/health/ready")
    async def read_health() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/photos", status_code=201)
    async def add_photo(request: Request) -> dict[str, str]:
        chunks: Queue[bytes | None] = Queue()
        key = f"originals/{uuid.uuid4().hex}.jpg"
        upload = asyncio.create_task(
            run_in_threadpool(
                client.upload_fileobj, cast(IO[bytes], QueueReader(chunks)), bucket, key
            )
        )
        async for chunk in request.stream():
            chunks.put(chunk)
        chunks.put(None)
        await upload
        return {"key": key}

    return app


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--bucket", required=True)
    parser.add_argument("--checksums", choices=get_args(Checksums), required=True)
    options = parser.parse_args()
    app = make_application(options.endpoint, options.bucket, options.checksums)
    uvicorn.run(app, port=options.port, log_level="warning")


if __name__ == "__main__":
    main()
