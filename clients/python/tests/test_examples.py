"""The examples of the repository that use this client, on real video."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from conftest import ROOT, free_port
from telling import read, until

from milepost import JobStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Service

EXAMPLES = ROOT / "examples"
pytestmark = pytest.mark.skipif(not EXAMPLES.exists(), reason="not in the repository")


class App:
    """The web backend of examples/fastapi, with two web workers."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "uvicorn", "--app-dir", str(EXAMPLES / "fastapi"), "--port", str(self._port)]
        command += ["--workers", "2", "--log-level", "warning", "app:app"]
        env = {**os.environ, "MILEPOST_URL": self._service.url}
        self.process = subprocess.Popen(command, env=env, start_new_session=True)
        until(self._answers, "the app")

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/openapi.json").status_code == 200
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        """All of it at once, in the middle of whatever it does."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def post(self, path: str, **body: Any) -> Any:
        answer = httpx.post(f"{self.url}{path}", json=body, timeout=30)
        assert answer.is_success, answer.text
        return answer.json()

    def get(self, path: str) -> Any:
        return httpx.get(f"{self.url}{path}", timeout=30).json()


@pytest.fixture
def app(service: Service) -> Iterator[App]:
    app = App(service)
    app.start()
    try:
        yield app
    finally:
        app.kill()


def test_the_backend_keeps_its_jobs(app: App, service: Service) -> None:
    restyled = app.post("/api/restyle", seconds=1)["job_id"]
    short = app.post("/api/shortform", seconds=1)["job_id"]
    # Either web worker knows both.
    told = [until(lambda: done(app, f"/api/restyle/{restyled}")), until(lambda: done(app, f"/api/status/{short}"))]
    assert [answer["status"] for answer in told] == ["completed", "completed"]
    assert told[0]["progress_pct"] == 100
    assert told[0]["logs"][-1].startswith("made ")
    assert told[1]["logs"][-1].startswith("at ")
    for answer in told:
        assert Path(answer["result"]["path"]).stat().st_size > 1000
    assert app.get("/api/restyle/no-such-job") == {"detail": "Job not found"}
    assert app.get("/api/status/no-such-job") == {"detail": "Job not found"}
    long = app.post("/api/restyle", seconds=600)["job_id"]
    until(lambda: app.get(f"/api/restyle/{long}")["progress_pct"] > 0)
    app.post(f"/api/restyle/{long}/cancel")
    until(lambda: app.get(f"/api/restyle/{long}")["status"] == "cancelled")
    app.kill()
    service.restart()
    app.start()
    assert app.get(f"/api/restyle/{restyled}") == told[0]
    assert app.get(f"/api/status/{short}") == told[1]


def done(app: App, path: str) -> Any:
    answer = app.get(path)
    return answer if answer["status"] in ("completed", "failed") else None


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real video with sound."""
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    command = ["ffmpeg", "-loglevel", "error", "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25:duration=3"]
    command += ["-f", "lavfi", "-i", "sine=duration=3", "-shortest", str(path)]
    subprocess.run(command, check=True)
    return path


def example(service: Service, name: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, str(EXAMPLES / name), "--server", service.url, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_clip_is_restyled_while_the_service_is_killed(service: Service, clip: Path, tmp_path: Path) -> None:
    output, copy = tmp_path / "out.mp4", tmp_path / "log"
    worker = example(service, "restyle.py", "--log-file", copy, clip, output)
    assert worker.stdout is not None
    job_id = worker.stdout.readline().strip()
    service.restart()
    _, said = worker.communicate(timeout=60)
    assert worker.returncode == 0, said
    with JobStore(service.url) as store:
        job = read(store, job_id)
        assert (job["status"], job["result"]["path"], job["result"]["audio_codec"]) == ("completed", str(output), "aac")
        assert [line["line"] for line in store.logs(job_id)] == copy.read_text().splitlines()
        stages = [entry["stage"] for entry in httpx.get(f"{service.url}/jobs/{job_id}/timeline").json()["timeline"]]
        assert "Restyling" in stages


def test_a_clip_that_is_none_fails(shared: Service, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    worker = example(shared, "restyle.py", broken, tmp_path / "out.mp4")
    told, said = worker.communicate(timeout=60)
    assert worker.returncode == 1, said
    with JobStore(shared.url) as store:
        job = read(store, told.strip())
        assert (job["status"], job["error"]["reason"]) == ("failed", "unreadable")
        assert job["logs"][-1].startswith("❌ ffprobe cannot read broken.mp4")


def test_clips_are_cut_by_a_worker_that_claims(shared: Service, clip: Path, tmp_path: Path) -> None:
    worker = example(shared, "shortform.py", "--claim", "--worker", "w-1")
    with JobStore(shared.url) as store:
        made = store.create("shortform", input={"input": str(clip), "output_dir": str(tmp_path)})["id"]
        bad = store.create("shortform", input=["nothing"])["id"]
        job = store.wait(made)
        assert (job["status"], job["worker"]) == ("completed", "w-1")
        assert job["result"]["clips"]
        for cut in job["result"]["clips"]:
            assert (cut["width"], cut["height"]) == (540, 960)
            assert Path(cut["path"]).exists()
        store.wait(bad)
        assert read(store, bad)["error"]["reason"] == "bad_input"
    worker.terminate()
    worker.communicate(timeout=30)
    assert worker.returncode == 0
