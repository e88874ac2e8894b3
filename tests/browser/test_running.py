"""Running: a picture and a video made from an empty page, and what the editor shows meanwhile."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from engine.document.shipped import shipped
from tests.browser.editor import Editor
from tests.server.live import Live
from tests.text.conftest import babbler


def painting(editor: Editor, rows: int = 4) -> None:
    """Build a picture that is painted and saved."""
    editor.add("paint", 250, 150)
    editor.add("save image", 700, 150)
    editor.link(editor.output("Paint"), editor.input("Save image", "images"))
    editor.fill("Paint", "rows", rows)


def test_a_picture_is_made_from_an_empty_page(editor: Editor) -> None:
    editor.add("image model", 120, 150)
    editor.fill("Image model load", "source", "sprite/sdxl")
    editor.add("keyframe", 480, 120)
    editor.add("save image", 850, 150)
    editor.link(editor.output("Image model load"), editor.input("Keyframe sampler", "model"))
    editor.link(editor.output("Keyframe sampler"), editor.input("Save image", "images"))
    editor.fill("Keyframe sampler", "prompt", "a red fish on the beach in crayon style")
    editor.fill("Keyframe sampler", "steps", 3)
    expect(editor.page.get_by_text("Ready to run")).to_be_visible()
    editor.run()
    editor.ended()
    picture = editor.card("Save image").get_by_role("img", name=re.compile(r"\.png$"))
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0


def test_a_video_is_made_from_an_empty_page_and_plays_in_its_node(server: Live, browser: Browser) -> None:
    with Editor.opened(browser, server, reduced_motion="no-preference") as editor:
        editor.new()
        for _ in range(3):
            editor.press("-")
        editor.add("text", 120, 140)
        editor.add("image model", 120, 420)
        editor.add("keyframe", 330, 140)
        editor.add("video model", 330, 560)
        editor.add("SVD", 560, 140)
        editor.add("save video", 800, 140)
        editor.link(editor.output("Text"), editor.input("Keyframe sampler", "prompt"))
        editor.link(editor.output("Image model load"), editor.input("Keyframe sampler", "model"))
        editor.link(editor.output("Keyframe sampler"), editor.input("SVD sampler", "image"))
        editor.link(editor.output("Video model load"), editor.input("SVD sampler", "model"))
        editor.link(editor.output("SVD sampler"), editor.input("Save video", "video"))
        editor.fill("Text", "text", "a red fish on the beach in crayon style")
        editor.fill("Image model load", "source", "sprite/sdxl")
        editor.fill("Video model load", "source", "sprite/svd")
        editor.fill("Keyframe sampler", "steps", 3)
        editor.fill("SVD sampler", "steps", 2)
        editor.fill("SVD sampler", "frames", 6)
        expect(editor.page.get_by_text("Ready to run")).to_be_visible()
        editor.run()
        editor.ended()
        video = editor.card("Save video").locator("video")
        expect(video).to_be_visible()
        video.evaluate(PLAYS)
        assert editor.complaints == []


@pytest.mark.full
def test_the_main_workflow_is_built_by_hand_and_its_video_plays(server: Live, browser: Browser) -> None:
    graph = json.loads(shipped()["prompt_to_video"].read_text())
    kinds = server.get("/api/kinograph/nodes")
    size = {"width": 1440, "height": 1300}
    with Editor.opened(browser, server, reduced_motion="no-preference", viewport=size) as editor:
        editor.new()
        for _ in range(3):
            editor.press("-")
        build(editor, graph, kinds)
        assert normalised(editor.document(), kinds) == normalised(graph, kinds)
        babbler(server.folder / "models/babbler")  # a model that needs no download, but can't keep to a vocabulary
        editor.fill("Language model", "source", "babbler")
        editor.input("Write the prompt", "vocabulary").click(button="right")
        editor.choose("Unlink")
        for title, label, value in SMALL:
            editor.fill(title, label, value)
        expect(editor.page.get_by_text("Ready to run")).to_be_visible()
        editor.run()
        editor.ended()
        editor.card("Save the video").locator("video").evaluate(PLAYS)
        assert editor.complaints == []


SMALL = (
    ("Write the prompt", "max new tokens", 8),
    ("Zip the LoRAs", "steps", 1),
    ("Zip the LoRAs", "pictures", 1),
    ("Zip the LoRAs", "sampling steps", 1),
    ("Key frames", "steps", 2),
    ("Set in motion", "steps", 1),
    ("Set in motion", "frames", 4),
)


def build(editor: Editor, document: dict[str, Any], kinds: dict[str, Any]) -> None:
    """Add, name, link and fill in each node at its position in the document, zoomed out by two."""
    titles = {node: entry["_meta"]["title"] for node, entry in document["graph"].items()}
    for node, entry in document["graph"].items():
        place, title = document["layout"]["nodes"][node], titles[node]
        editor.add(entry["class_type"], 90 + 0.55 * place["x"], 70 + 0.55 * place["y"])
        editor.rename(editor.cards.last.get_attribute("aria-label") or "", title)
        for name, value in entry["inputs"].items():
            if isinstance(value, list):
                output = slot(document, value, kinds)
                editor.link(editor.output(titles[value[0]], output), editor.input(title, name))
            else:
                editor.fill(title, name.replace("_", " "), value)


def slot(document: dict[str, Any], link: list[Any], kinds: dict[str, Any]) -> str:
    """The name of the output that a link comes from."""
    node, output = link
    outputs = kinds[document["graph"][node]["class_type"]]["outputs"]
    return output if isinstance(output, str) else str(outputs[output]["name"])


def normalised(document: dict[str, Any], kinds: dict[str, Any]) -> dict[str, Any]:
    """A graph in a form that ignores ids, and inputs that have their default."""
    graph = document["graph"]

    def title(entry: dict[str, Any]) -> str:
        in_words = re.sub("(?<=[a-z])(?=[A-Z])", " ", entry["class_type"]).capitalize()
        return str(entry.get("_meta", {}).get("title", in_words))

    def value(given: Any) -> Any:
        is_link = isinstance(given, list)
        return (title(graph[given[0]]), slot(document, given, kinds)) if is_link else given

    def inputs(entry: dict[str, Any]) -> dict[str, Any]:
        known = {each["name"]: each.get("default") for each in kinds[entry["class_type"]]["inputs"]}
        return known | {name: value(given) for name, given in entry["inputs"].items()}

    return {title(entry): (entry["class_type"], inputs(entry)) for entry in graph.values()}


PLAYS = """video => new Promise((resolve) => {
  const look = () => {
    const isPlaying = video.readyState >= 2 && video.currentTime > 0 && !video.paused;
    isPlaying ? resolve() : setTimeout(look, 20);
  };
  look();
})"""


def test_a_node_shows_its_progress(editor: Editor) -> None:
    painting(editor, rows=60)
    editor.run()
    bar = editor.page.get_by_role("progressbar", name="Progress of Paint")
    expect(bar).to_have_attribute("aria-valuenow", re.compile(r"[1-9]\d*"))
    expect(bar).to_have_attribute("aria-valuetext", re.compile("/ 60 row"))
    expect(editor.card("Paint").get_by_role("img", name="Preview of Paint")).to_be_visible()
    editor.ended()
    expect(editor.state("Paint", r"done [\d.]+ s")).to_be_visible()


def test_cached_results_are_marked(editor: Editor) -> None:
    painting(editor, rows=5)
    editor.run()
    editor.ended()
    expect(editor.state("Paint", "done")).to_be_visible()
    editor.run()
    expect(editor.state("Paint", "from the cache")).to_be_visible()
    expect(editor.page.locator(".statusbar")).to_contain_text("1 from the cache")


def test_a_failure_is_shown_at_its_node_and_input(editor: Editor) -> None:
    editor.add("refuse", 150, 150)
    editor.add("digits", 520, 150)
    editor.add("save text", 880, 150)
    editor.link(editor.output("Refuse"), editor.input("Digits", "seed"))
    editor.link(editor.output("Digits"), editor.input("Save text", "text"))
    editor.run()
    editor.ended("Failed")
    expect(editor.state("Refuse", "failed")).to_be_visible()
    expect(editor.card("Refuse").get_by_role("alert")).to_contain_text("is too large")
    expect(editor.card("Refuse").get_by_role("alert")).to_contain_text("choose one up to 3")
    expect(editor.field("Refuse", "number")).to_have_attribute("aria-invalid", "true")
    expect(editor.card("Save text")).to_contain_text("Skipped because Refuse failed")
    editor.fill("Refuse", "number", 2)
    editor.run()
    editor.ended()
    expect(editor.card("Refuse").get_by_role("alert")).to_have_count(0)


def test_an_invalid_value_is_shown_at_its_input_before_the_run(editor: Editor) -> None:
    editor.add("paint", 250, 150)
    editor.fill("Paint", "rows", 9999)
    expect(editor.field("Paint", "rows")).to_have_attribute("aria-invalid", "true")
    expect(editor.card("Paint").get_by_role("alert")).to_contain_text("200")
    editor.button(re.compile("problems?$")).click()
    editor.choose("Paint, rows:")
    expect(editor.page.locator(":focus")).to_have_attribute("aria-label", "Paint")


def test_a_problem_leads_from_the_form_to_its_node(editor: Editor) -> None:
    editor.add("paint", 250, 150)
    editor.fill("Paint", "rows", 9999)
    editor.button("Form").click()
    editor.button("2 problems").click()  # the menu lists those that are known when it opens
    editor.choose("Paint, rows:")
    expect(editor.page.locator(":focus")).to_have_attribute("aria-label", "Paint")


def test_a_text_is_shown_while_it_is_written(editor: Editor) -> None:
    editor.add("recite", 250, 150)
    editor.add("save text", 700, 150)
    editor.link(editor.output("Recite"), editor.input("Save text", "text"))
    words = " ".join(f"word{number}" for number in range(60))
    editor.fill("Recite", "text", words)
    editor.run()
    written = editor.card("Recite").locator(".results")
    expect(written).to_contain_text("word5")
    assert "word59" not in written.inner_text()
    expect(written).to_contain_text("word59")
    expect(editor.card("Save text").locator(".results")).to_contain_text(words)


def test_what_a_node_reports_is_shown_at_it_until_it_is_cached(editor: Editor) -> None:
    editor.add("digits", 150, 150)
    editor.add("save text", 600, 150)
    editor.link(editor.output("Digits"), editor.input("Save text", "text"))
    editor.fill("Digits", "seed", 12300)
    editor.run()
    editor.ended()
    report = editor.card("Digits").get_by_role("region", name="Report of Digits")
    expect(report.locator(".line")).to_have_text("seed12,300digits5zeros40 %first1")
    expect(report.get_by_text("last")).to_be_hidden()
    report.get_by_text("1 more").click()
    expect(report.get_by_text("last")).to_be_visible()
    editor.run()
    expect(editor.state("Digits", "from the cache")).to_be_visible()
    expect(report).to_have_count(0)


def test_a_table_is_shown_with_the_distribution_of_its_numbers(editor: Editor, clip: bytes) -> None:
    editor.add("load video", 150, 150)
    editor.add("frame filter", 480, 120)
    editor.add("preview table", 850, 150)
    with editor.page.expect_file_chooser() as chooser:
        editor.card("Load video").locator("label.upload").click()
    chooser.value.set_files([{"name": "clip.mp4", "mimeType": "video/mp4", "buffer": clip}])
    expect(editor.field("Load video", "file")).to_have_value(re.compile("clip.*mp4"))
    editor.fill("Video frame filter", "rules", "worst 25% motion")
    editor.link(editor.output("Load video"), editor.input("Video frame filter", "source"))
    editor.link(editor.output("Video frame filter", "table"), editor.input("Preview table", "table"))
    editor.run()
    editor.ended()
    results = editor.card("Preview table").locator(".results")
    expect(results.get_by_role("row")).to_have_count(13)
    expect(results.get_by_role("img", name=re.compile("^Distribution of"))).not_to_have_count(0)


def test_a_single_node_is_run(editor: Editor) -> None:
    painting(editor)
    editor.add("recite", 250, 600)
    editor.fill("Recite", "text", "hello")
    editor.add("preview text", 700, 600)
    editor.link(editor.output("Recite"), editor.input("Preview text", "text"))
    editor.menu_of("Preview text")
    editor.choose("Run only this node")
    editor.ended()
    expect(editor.card("Preview text")).to_contain_text("hello")
    expect(editor.card("Save image").locator(".state")).to_have_count(0)


def test_a_run_is_cancelled(editor: Editor) -> None:
    editor.add("wait", 250, 150)
    editor.add("save text", 700, 150)
    editor.link(editor.output("Wait"), editor.input("Save text", "text"))
    editor.fill("Wait", "text", "never said")
    editor.fill("Wait", "steps", 3000)
    editor.run()
    expect(editor.state("Wait", "running")).to_be_visible()
    editor.page.get_by_role("banner").get_by_role("button", name="Cancel").click()
    editor.ended("Cancelled")
    expect(editor.state("Wait", "cancelled")).to_be_visible()


def test_values_are_compared_in_a_grid(editor: Editor) -> None:
    painting(editor)
    panel = editor.panel("Sweep")
    panel.get_by_label("Input of axis X").select_option("Paint · hue")
    panel.get_by_label("Values of axis X").fill("red, green")
    panel.get_by_label("Input of axis Y").select_option("Paint · rows")
    panel.get_by_label("Values of axis Y").fill("2, 3")
    panel.get_by_role("button", name="Run 4 combinations").click()
    editor.ended()
    grid = panel.get_by_role("region", name="Grid")
    expect(grid.get_by_role("img", name=re.compile("png$"))).to_be_visible()
    expect(grid.get_by_role("row")).to_have_count(5)
    expect(editor.card("Save image").get_by_role("img", name=re.compile("png$"))).to_have_count(4)


def test_a_run_is_shown_again_after_reloading(editor: Editor) -> None:
    painting(editor)
    editor.run()
    editor.ended()
    editor.page.reload()
    expect(editor.card("Save image").get_by_role("img", name=re.compile("png$"))).to_be_visible()
    expect(editor.state("Paint", "done")).to_be_visible()
    editor.ended()


def test_a_run_in_progress_is_followed_after_reloading(editor: Editor) -> None:
    painting(editor, rows=100)
    editor.run()
    expect(editor.state("Paint", "running")).to_be_visible()
    editor.page.reload()
    expect(editor.state("Paint", "running")).to_be_visible()
    editor.ended()
    expect(editor.card("Save image").get_by_role("img", name=re.compile("png$"))).to_be_visible()


def test_the_largest_seed_keeps_all_of_its_digits(editor: Editor) -> None:
    editor.add("digits", 250, 150)
    editor.add("preview text", 700, 150)
    editor.link(editor.output("Digits"), editor.input("Preview text", "text"))
    editor.fill("Digits", "seed", 2**64 - 1)
    editor.run()
    editor.ended()
    expect(editor.card("Preview text").locator(".results")).to_contain_text(str(2**64 - 1))
    editor.press("Control+s")
    expect(editor.toast).to_contain_text("Saved as")
    editor.page.reload()
    expect(editor.field("Digits", "seed")).to_have_value(str(2**64 - 1))
    assert editor.graph["digits"]["inputs"]["seed"] == 2**64 - 1
    editor.button("Roll another seed").click()
    expect(editor.field("Digits", "seed")).not_to_have_value(str(2**64 - 1))
