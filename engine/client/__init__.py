"""A client of Kinograph's server, for Python programs elsewhere: typed, and light enough for any of them.

    with Client("http://127.0.0.1:8188") as client:
        result = client.run("snail.json", {"theme": "rain"})
        for file in result.files:
            file.download("snails")

`AsyncClient` has the same methods as coroutines.

    synchronous   Client and what it returns, on an event loop in a thread (`background`)
    asynchronous  AsyncClient
    jobs, files   what it returns
    feed          the WebSocket, shared by all jobs; `watching` collects each job's events
    events        a job's events, rebuilt from JSON
    workflows     a workflow in any form → the JSON that is sent
    connection    requests, and the errors they raise
    answers       the server's answers, checked
"""

from engine.client.answers import Checked, Health, JobStatus, Model, NodeKind, Place, Queue, Socket, WorkerStatus
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
    "Model",
    "NodeKind",
    "NodePreview",
    "NodeSaved",
    "Place",
    "Queue",
    "Result",
    "Socket",
    "WorkerStatus",
]
