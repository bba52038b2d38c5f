"""The service and other programs: a webhook's receiver, Label Studio, and `ocr-detector export`."""

from __future__ import annotations

import json
from pathlib import Path

import onnxruntime
import pytest

from producer.web.client import ClientError
from tests.pictures import write_images
from tests.processes import WorkerProcess, wait_until
from tests.producer.web.test_webhooks import SECRET, Listener, is_from_us
from tests.web_service import Served, form

# https://labelstud.io/guide/predictions and /guide/ml_create: what Label Studio reads of an answer, nothing missing.
REGION = {
    "type": "object",
    "required": ["id", "type", "from_name", "to_name", "original_width", "original_height", "image_rotation", "value"],
    "properties": {
        "id": {"type": "string"},
        "type": {"const": "polygonlabels"},
        "from_name": {"const": "text"},
        "to_name": {"const": "page"},
        "original_width": {"type": "integer", "minimum": 1},
        "original_height": {"type": "integer", "minimum": 1},
        "image_rotation": {"const": 0},
        "score": {"type": "number", "minimum": 0, "maximum": 1},
        "value": {
            "type": "object",
            "required": ["points", "polygonlabels"],
            "properties": {
                "points": {
                    "type": "array",
                    "minItems": 3,
                    "items": {
                        "type": "array", "minItems": 2, "maxItems": 2,
                        "items": {"type": "number", "minimum": 0, "maximum": 100},
                    },
                },
                "polygonlabels": {"const": ["Line"]},
                "closed": {"const": True},
            },
        },
    },
}  # fmt: skip
PREDICTION = {
    "type": "object",
    "required": ["result", "score", "model_version"],
    "properties": {
        "result": {"type": "array", "items": REGION},
        "score": {"type": "number", "minimum": 0, "maximum": 1},
        "model_version": {"type": "string"},
    },
}
ANSWER = {
    "type": "object",
    "required": ["results"],
    "properties": {"results": {"type": "array", "items": PREDICTION}, "model_version": {"type": "string"}},
}
CONFIG = """<View><Image name="page" value="$scan" zoom="true"/>
<PolygonLabels name="text" toName="page"><Label value="Line" background="red"/></PolygonLabels></View>"""


def test_label_studio_gets_predictions(environment: dict[str, str], client: object, tmp_path: Path) -> None:
    roots = tmp_path / "studio"
    write_images(roots / "media" / "upload" / "1", 1)
    write_images(roots / "media" / "local", 1, width=640, height=200)
    write_images(tmp_path / "secret", 1)
    environment = {**environment, "OCRFLEET_ROOTS": str(roots / "media")}
    token = "a-token-of-enough-characters"
    served = Served(environment, tmp_path / "web", TRANSFER="redis", TOKEN=token)
    worker = WorkerProcess(environment, tmp_path / "worker.log")
    base64_of = "eDphLXRva2VuLW9mLWVub3VnaC1jaGFyYWN0ZXJz"  # x:a-token-of-enough-characters
    headers = {"Content-Type": "application/json", "Authorization": f"Basic {base64_of}"}
    try:
        assert json.loads(served.ask("GET", "/labelstudio/health", None, headers)[2])["status"] == "UP"
        project = json.dumps({"project": "1.2", "schema": CONFIG, "hostname": "http://studio", "access_token": "x"})
        status, _, body = served.ask("POST", "/labelstudio/setup", project.encode(), headers)
        assert status == 200 and json.loads(body) == {"model_version": "dbnet-resnet18"}
        addresses = [
            "/data/upload/1/image-0000.jpg",
            "/data/local-files/?d=local/image-0000.jpg",
            f"/data/local-files/?d={tmp_path}/secret/image-0000.jpg",
            "/data/local-files/?d=../../secret/image-0000.jpg",
            "http://169.254.169.254/latest",
        ]
        tasks = [{"id": number, "data": {"scan": address}} for number, address in enumerate(addresses)]
        asked = json.dumps({"tasks": tasks, "project": "1.2", "label_config": CONFIG, "params": {}}).encode()
        status, _, body = served.ask("POST", "/labelstudio/predict", asked, headers)
        answer = json.loads(body)
        assert status == 200, answer
        from jsonschema import Draft202012Validator  # see tests/web_schema.py

        Draft202012Validator(ANSWER).validate(answer)
        assert [len(result["result"]) > 0 for result in answer["results"]] == [True, True, False, False, False]
        assert {region["original_width"] for region in answer["results"][1]["result"]} == {640}
        assert served.client(token).jobs() == []

        nothing = json.dumps({"tasks": tasks[2:], "label_config": CONFIG}).encode()
        assert served.problem("POST", "/labelstudio/predict", nothing, headers)[0] == 403
        assert served.problem("POST", "/labelstudio/predict", b'{"tasks": 5}', headers)[0] == 400
        other = json.dumps({"schema": "<View><Text name='t'/></View>"}).encode()
        assert "PolygonLabels" in served.problem("POST", "/labelstudio/setup", other, headers)[1]
        assert served.problem("GET", "/labelstudio/health", None, {"Authorization": "Basic eDp5"})[0] == 401
        foreign = {**headers, "Sec-Fetch-Site": "cross-site"}  # a browser adds Basic by itself, for other sites too
        assert served.problem("POST", "/labelstudio/predict", asked, foreign)[0] == 403
    finally:
        worker.stop()
        assert served.stop() == 0


def test_webhooks_outlive_the_service_and_keys_know_their_files(
    environment: dict[str, str], client: object, tmp_path: Path
) -> None:
    """No worker is needed: a cancelled job has ended too."""
    with Listener(500) as listener:
        told = {"OCRFLEET_WEBHOOK_SECRET": SECRET, "OCRFLEET_WEBHOOK_HOSTS": f"127.0.0.1:{listener.server_port}"}
        served = Served({**environment, **told}, tmp_path / "web", TRANSFER="redis")
        try:
            files = [(path.name, path.read_bytes()) for path in write_images(tmp_path / "in", 2)]
            body, headers = form(files)
            for url in ("http://127.0.0.1:1/", "https://evil.example/", "http://169.254.169.254/"):
                status, said = served.problem("POST", f"/api/v1/jobs?webhook={url}", body, headers)
                assert status == 403 and "OCRFLEET_WEBHOOK_HOSTS" in said
            with pytest.raises(ClientError, match="OCRFLEET_WEBHOOK_HOSTS"):
                served.client().submit([tmp_path / "in" / files[0][0]], webhook="https://evil.example/")
            keyed = {**headers, "Idempotency-Key": "monday"}
            place = f"/api/v1/jobs?webhook={listener.url.replace('?', '%3F')}"
            status, _, first = served.ask("POST", place, body, keyed)
            name = json.loads(first)["job"]
            assert status == 202
            status, said_headers, again = served.ask("POST", place, body, keyed)
            assert status == 200 and json.loads(again)["job"] == name
            assert said_headers["location"] == f"/api/v1/jobs/{name}"
            for other in (files[:1], files[::-1], [("b.jpg", files[0][1]), files[1]], [(files[0][0], files[1][1])] * 2):
                status, said = served.problem("POST", place, form(other)[0], keyed)
                assert status == 422 and "Idempotency-Key" in said
            assert served.problem("POST", f"{place}&limit_side=320", body, keyed)[0] == 422
            assert len(served.client().jobs()) == 1
            assert list((served.folder / "incoming").iterdir()) == []

            assert served.ask("POST", f"/api/v1/jobs/{name}/cancel")[0] == 202
            wait_until(lambda: listener.heard, seconds=20, what="the receiver to be told")
            served.kill()  # it answered 500, so this is not done
            served.start()
            wait_until(lambda: len(listener.heard) == 2, seconds=20, what="the receiver to be told again")
            wait_until(lambda: served.client().jobs()[0]["told"] == "sent", seconds=10, what="that to be known")
            (path, sent, data), (_, sent_again, _) = listener.heard
            assert path == "/done?of=us" and sent["webhook-id"] == sent_again["webhook-id"]
            assert is_from_us(sent_again, listener.heard[1][2])
            letter = json.loads(data)
            assert letter["type"] == "job.cancelled" and letter["data"]["job"] == name
        finally:
            assert served.stop() == 0, served.log.read_text()
            listener.shutdown()


@pytest.mark.slow
def test_a_model_is_exported_by_a_process_of_its_own(
    environment: dict[str, str], client: object, tmp_path: Path
) -> None:
    served = Served(environment, tmp_path / "web")
    call = served.client().call
    try:
        assert call("GET", "/models")["can_export"]
        status, said = served.problem("POST", "/api/v1/models/dbnet-mobilenet-v3-small/export?size=330")
        assert status == 400 and "the nearest is 320" in said
        assert served.problem("POST", "/api/v1/models/none/export")[0] == 404
        assert served.problem("GET", "/api/v1/exports/..%2fjobs/onnx")[0] == 404
        begun = call("POST", "/models/dbnet-mobilenet-v3-small/export?size=320")
        assert begun["state"] == "running" and begun["export"] == "dbnet-mobilenet-v3-small-320"
        assert served.problem("POST", "/api/v1/models/dbnet-resnet18/export?size=320")[0] == 429
        assert call("POST", "/models/dbnet-mobilenet-v3-small/export?size=320")["export"] == begun["export"]
        with pytest.raises(ClientError, match="no 'onnx'"):
            call("GET", f"/exports/{begun['export']}/onnx")
        show = f"/exports/{begun['export']}"
        wait_until(lambda: call("GET", show)["state"] != "running", seconds=120, what="the export")
        done = call("GET", show)
        assert done["state"] == "done" and "320x320" in done["said"] and str(tmp_path) not in done["said"], done
        target = tmp_path / "mine.onnx"
        target.write_bytes(b"".join(served.client().stream(f"{show}/onnx")))
        assert onnxruntime.InferenceSession(target).get_inputs()[0].shape == [1, 3, 320, 320]
        assert "binarize" in str(call("GET", f"{show}/json"))
        assert served.stop() == 0
        served.start()
        assert [one["state"] for one in call("GET", "/exports")["exports"]] == ["done"]  # kept
        call("DELETE", show)
        assert call("GET", "/exports")["exports"] == [] and list((served.folder / "models").iterdir()) == []
    finally:
        assert served.stop() == 0
