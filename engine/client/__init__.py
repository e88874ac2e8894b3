"""A client of Kinograph's server, for Python programs elsewhere: typed, and light enough for any of them.

    with Client("http://127.0.0.1:8188") as client:
        result = client.run("snail.json", {"theme": "rain"})
        for file in result.files:
            file.download("snails")

`AsyncClient` has the same methods as coroutines.

    synchronous   Client, and what it gives, on an event loop in a thread (`background`)
    asynchronous  AsyncClient
    jobs, files   what it gives
    feed          the WebSocket, shared by all jobs; `watching` gathers what it tells of each
    events        what is told, rebuilt from JSON
    workflows     what people give as a workflow → what is sent
    connection    requests, and what goes wrong with them
    answers       what the server answers, checked
"""

from engine.client.answers import Checked, Health, JobStatus, Kind, Model, Place, Queue, Socket, Worker
from engine.client.asynchronous import AsyncClient
from engine.client.events import JobEnded, NodePreview, NodeSaved
from engine.client.files import AsyncFile
from engine.client.jobs import AsyncEvent, AsyncJob, AsyncResult
from engine.client.synchronous import Client, Event, File, Job, Result

__all__ = [
    "AsyncClient",
    "AsyncEvent",
    "AsyncFile",
    "AsyncJob",
    "AsyncResult",
    "Checked",
    "Client",
    "Event",
    "File",
    "Health",
    "Job",
    "JobEnded",
    "JobStatus",
    "Kind",
    "Model",
    "NodePreview",
    "NodeSaved",
    "Place",
    "Queue",
    "Result",
    "Socket",
    "Worker",
]
