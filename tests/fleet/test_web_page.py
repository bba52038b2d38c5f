"""The page in a real browser, as a person uses it: the service, a worker, and the system's Chromium.

With OCRFLEET_PICTURES=docs it also takes the pictures of docs/web.md.
"""

from __future__ import annotations

import base64
import json
import os
import re
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright
from pycocotools.coco import COCO

from tests.pictures import write_images
from tests.producer.records import failed, ok, write_results
from tests.tools import tool
from tests.web_service import Served

EXAMPLES = Path(__file__).parents[2] / "examples" / "images"
CHOSEN = ("letter.jpg", "programme.pdf", "receipt.jpg")
OWN_COLOURS = bytes.fromhex("0b63ce 1a7f37 c0262d ff2d55 596673 d5dbe1 f4f6f8 17202a ffffff 8bb4e6 8cbf9b ff96aa")
TOKEN = "a-token-of-enough-characters"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=tool("chromium", "apt-get install chromium"),
            args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
        )
        yield started
        started.close()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One for all tests here: with its own server and worker it takes five seconds to start."""
    folder = tmp_path_factory.mktemp("page")
    own = {"OCRFLEET_PROFILE": "low", "OCRFLEET_NICE": "0", "OCRFLEET_SPOOL_DIR": str(folder / "spool")}
    started = Served({**os.environ, **own, "XDG_STATE_HOME": str(folder)}, folder / "web", "--local", TOKEN=TOKEN)
    yield started
    assert started.stop() == 0


@pytest.fixture
def served(service: Served) -> Iterator[Served]:
    """Without the jobs of other tests."""
    yield service
    for job in service.client(TOKEN).jobs():
        service.client(TOKEN).call("DELETE", f"/jobs/{job['job']}")


@pytest.fixture
def page(browser: Browser, served: Served) -> Iterator[Page]:
    opened = browser.new_page(viewport={"width": 1280, "height": 800}, locale="en-US")
    said: list[str] = []
    opened.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: said.append(str(error)))
    yield opened
    opened.close()
    assert said == []  # no script failed, nothing was refused by the content security policy


def log_in(page: Page, served: Served) -> None:
    page.goto(served.url)
    expect(page).to_have_url(f"{served.url}/login")
    page.get_by_label("Token").fill("not the token at all")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_have_text("That is not the token.")
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button", name="Log in").click()
    expect(page.locator("#limits")).to_contain_text("10 files")  # its scripts are there


DROP = """files => {
  const given = new DataTransfer();
  for (const [name, data] of files) {
    given.items.add(new File([Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0))], name));
  }
  const happens = (what) => new DragEvent(what, { bubbles: true, cancelable: true, dataTransfer: given });
  const area = document.getElementById("drop");
  area.dispatchEvent(happens("dragover"));
  const was = area.classList.contains("over");
  area.dispatchEvent(happens("drop"));
  return was;
}"""


def drop(page: Page, paths: Sequence[Path]) -> None:
    """As if they had been dragged from a folder onto the page: the page's own handlers get the events."""
    files = [(path.name, base64.b64encode(path.read_bytes()).decode()) for path in paths]
    assert page.evaluate(DROP, files), "the area says that files may be dropped"


def take_picture(page: Page, name: str, tmp_path: Path) -> None:
    """At both widths; a picture in the documentation must stay small."""
    to = Path(os.environ.get("OCRFLEET_PICTURES", tmp_path))
    for width, height in ((1280, 800), (390, 844)):
        page.set_viewport_size({"width": width, "height": height})
        assert page.evaluate("document.documentElement.scrollWidth") <= width  # nothing sticks out to the right
        target = to / f"{name}-{width}.png"
        page.screenshot(path=target)
        with Image.open(target) as picture, Image.new("P", (1, 1)) as palette:
            # The page's own colours, which cover little of it, and forty of the photograph.
            flat = picture.convert("RGB")
            palette.putpalette([*OWN_COLOURS, *flat.quantize(40, dither=Image.Dither.NONE).getpalette()[:120]])
            flat.quantize(palette=palette, dither=Image.Dither.NONE).save(target, optimize=True)
        assert 10_000 < target.stat().st_size < 200_000
    page.set_viewport_size({"width": 1280, "height": 800})


def test_a_person_finds_text(page: Page, served: Served, tmp_path: Path) -> None:
    torn = tmp_path / "torn.jpg"
    torn.write_bytes(b"\xff\xd8\xff\xe0 torn")
    log_in(page, served)
    drop(page, [*(EXAMPLES / name for name in CHOSEN), torn])
    rows = page.locator("#rows tr")
    expect(page.locator("#job-state")).to_have_text("done", timeout=90_000)
    expect(rows).to_have_count(6)  # the PDF has three pages
    expect(rows.first).to_contain_text("torn.jpg")  # failures first, with their reason
    expect(rows.first).to_contain_text("header is damaged")
    assert "/jobs/" not in rows.first.inner_text()

    page.get_by_role("button", name="letter.jpg").click()
    boxes = page.locator("#stage polygon")
    count = boxes.count()
    assert count >= 15
    width = page.locator("#stage img").evaluate("image => image.decode().then(() => image.naturalWidth)")
    assert width == int(page.locator("#stage svg").get_attribute("viewBox").split()[2])  # boxes lie on their picture
    boxes.first.hover()
    expect(page.locator("#box-text")).to_contain_text("score 0.")
    take_picture(page, "web", tmp_path)

    scores = sorted(float(score) for score in boxes.evaluate_all("all => all.map(one => one.dataset.score)"))
    least = scores[len(scores) // 2]
    page.locator("#score").fill(f"{least:.2f}")
    left = sum(score >= float(f"{least:.2f}") for score in scores)
    assert 0 < left < count
    expect(page.locator("#stage polygon:not(.low)")).to_have_count(left)
    expect(page.locator("#box-text")).to_have_text(f"{left} of {count} boxes")
    page.locator("#score").fill("0")

    page.get_by_role("button", name="+", exact=True).click()
    assert page.locator("#stage .sheet").evaluate("sheet => sheet.style.width") == "125%"

    page.get_by_text("Download", exact=True).click()
    with page.expect_download() as waiting:
        page.get_by_role("link", name="coco").click()
    coco = COCO(waiting.value.path())  # as who trains on it opens it
    (letter,) = (image for image in coco.loadImgs(coco.getImgIds()) if image["file_name"] == "letter.jpg")
    found = coco.loadAnns(coco.getAnnIds(imgIds=[letter["id"]]))
    assert len(coco.getImgIds()) == 5 and len(found) == count
    mask = coco.annToMask(found[0])
    assert mask.shape == (letter["height"], letter["width"]) and abs(mask.sum() - found[0]["area"]) < 0.1 * mask.sum()

    (job,) = served.client(TOKEN).jobs()
    (served.folder / "jobs" / job["job"] / "upload" / "torn.jpg").write_bytes((EXAMPLES / "receipt.jpg").read_bytes())
    rows.first.get_by_role("button", name="Retry").click()
    expect(page.locator("#rows td.ok")).to_have_count(6, timeout=60_000)

    page.locator("#side").select_option("320")
    page.locator("#box_threshold").fill("0.75")
    page.get_by_role("button", name="Run again").click()
    expect(page.locator("#rows .reason")).to_have_count(1, timeout=60_000)  # the browser sends its own torn file
    newest = served.client(TOKEN).jobs()[0]
    assert newest["job"] != job["job"] and newest["limit_side"] == 320
    again = (served.folder / "jobs" / newest["job"] / "results.jsonl").read_text().splitlines()
    assert all(box["score"] >= 0.75 for line in again for box in json.loads(line)["boxes"])


WATCH = """() => {
  window.told = [];
  new MutationObserver(() => window.told.push(document.getElementById("job-numbers").textContent))
    .observe(document.getElementById("job-numbers"), { childList: true });
}"""


def test_a_job_of_200_pages_is_seen_live(page: Page, served: Served, tmp_path: Path) -> None:
    (small,) = write_images(tmp_path / "in", 1, width=160, height=96)
    with zipfile.ZipFile(tmp_path / "pages.zip", "w") as bundle:
        for number in range(200):
            bundle.write(small, f"{number:03}.jpg")
    log_in(page, served)
    page.evaluate(WATCH)
    page.set_input_files("#files", tmp_path / "pages.zip")
    expect(page.locator("#job-state")).to_have_text("running", timeout=60_000)
    expect(page.locator("#cancel")).to_be_visible()
    expect(page.locator("#rows td.ok").first).to_be_visible(timeout=60_000)
    expect(page.locator("#job-state")).to_have_text("done", timeout=90_000)
    expect(page.locator("#rows td.ok")).to_have_count(200)
    told = page.evaluate("window.told")
    counts = [int(line.split(" / ")[0]) for line in told if line.split(" · ")[0].endswith("/ 200")]
    assert counts == sorted(counts) and counts[-1] == 200
    assert len({count for count in counts if 0 < count < 200}) >= 3, counts  # not only its beginning and its end
    assert any(re.search(r"[0-9.]+ pages/s .* 1 workers", line) for line in told), told
    assert page.locator("#job-progress").evaluate("bar => bar.value") == 1


def test_boxes_lie_on_their_own_picture(page: Page, served: Served, tmp_path: Path) -> None:
    """Before: those of `scan`, which is kept as scan.png, on `scan.png`; and nothing was shown of results whose text is
    too long for a browser, which gives an empty one then. What was passed over was not told.
    """
    page.add_init_script("Response.prototype.text = async () => ''")
    log_in(page, served)
    paths = []
    for name, size in (("scan", (300, 60)), ("scan.png", (100, 200)), ("~$scan.png", (90, 90))):
        Image.new("RGB", size, "white").save(tmp_path / name, "PNG")
        paths.append(tmp_path / name)
    with zipfile.ZipFile(tmp_path / "notes.zip", "w") as bundle:
        bundle.writestr("notes.txt", "no picture")
    drop(page, [*paths, tmp_path / "notes.zip"])
    expect(page.locator("#job-state")).to_have_text("done", timeout=60_000)
    expect(page.locator("#more")).to_contain_text("passed over: 1 .txt")
    for name, width in (("scan.png", 300), ("scan-2.png", 100), ("_~$scan.png", 90)):
        page.get_by_role("button", name=name, exact=True).click()
        shown = page.locator("#stage img").evaluate("image => image.decode().then(() => image.naturalWidth)")
        assert shown == width == int(page.locator("#stage svg").get_attribute("viewBox").split()[2])


def test_of_very_many_pages_the_first_are_shown(page: Page, served: Served, tmp_path: Path) -> None:
    job = served.client(TOKEN).submit(write_images(tmp_path / "in", 1))
    job.wait(60)
    count = 5000
    records = [(failed if index % 50 == 49 else ok)(index, f"{index}.png") for index in reversed(range(count))]
    write_results(served.folder / "jobs" / job.name, records)
    log_in(page, served)
    page.goto(f"{served.url}/#detect/{job.name}")
    page.reload()
    rows = page.locator("#rows tr")
    expect(rows).to_have_count(500)
    expect(page.locator("#rows td.failed")).to_have_count(count // 50)
    expect(rows.first).to_have_text(re.compile("^49.png"))
    expect(rows.nth(count // 50)).to_have_text(re.compile("^0.png"))


@pytest.mark.slow
def test_where_nobody_else_may_watch_it_asks_now_and_then(browser: Browser, served: Served) -> None:
    """Before: the page showed a job as it was when 429 ended its stream of events for good."""
    page = browser.new_page(locale="en-US")
    page.route("**/events", lambda route: route.fulfill(status=429, body="{}"))
    log_in(page, served)
    drop(page, [EXAMPLES / CHOSEN[0]])
    expect(page.locator("#job-state")).to_have_text("done", timeout=60_000)
    expect(page.locator("#rows tr")).to_contain_text("letter.jpg")
    page.close()


def test_jobs_models_and_chinese(page: Page, served: Served, tmp_path: Path) -> None:
    log_in(page, served)
    job = served.client(TOKEN).submit(write_images(tmp_path / "in", 3))
    job.wait(90)
    page.get_by_role("link", name="Jobs").click()
    row = page.locator("#all-jobs tr")
    expect(row).to_contain_text("3 / 3")
    expect(page.locator("#all-workers")).to_contain_text("MB")
    row.get_by_role("button", name="Open").click()
    expect(page.locator("#rows tr")).to_have_count(3)
    expect(page.locator("#viewer-note")).to_contain_text("uploaded from another page")  # never a pixel from the server
    assert page.locator("#stage polygon").count() > 0

    page.get_by_role("link", name="Models").click()
    expect(page.locator("#all-models")).to_contain_text("✓ dbnet-resnet18")
    size = page.locator("#export-size")
    size.fill("330")
    assert not size.evaluate("field => field.checkValidity()")  # not a multiple of 32
    size.fill("320")
    page.locator("#export-model").select_option("dbnet-mobilenet-v3-small")
    page.get_by_role("button", name="Export", exact=True).click()
    exports = page.locator("#all-exports tr")
    expect(exports).to_contain_text("320 × 320")
    take_picture(page, "web-models", tmp_path)
    exports.get_by_role("button", name="Delete").click()  # to its end: test_web_others.py
    expect(exports).to_have_count(0)
    page.get_by_role("button", name="中文").click()
    expect(page.get_by_role("heading", name="模型")).to_be_visible()
    assert page.evaluate("document.documentElement.lang") == "zh-Hans"
    page.get_by_role("button", name="English").click()

    page.get_by_role("link", name="Jobs").click()
    page.on("dialog", lambda dialog: dialog.accept())
    row.get_by_role("button", name="Delete").click()
    expect(row).to_have_text("No jobs yet.")
    page.goto(f"{served.url}/api/v1/docs")
    expect(page.get_by_role("heading", name="POST /api/v1/detect")).to_be_visible()
