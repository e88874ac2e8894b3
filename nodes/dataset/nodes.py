"""Nodes that make a data set of clips out of videos."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field

from engine.errors import InputError, MissingError, Problem
from engine.node import Context, FileContents, InputFile, ModelFile, Node
from engine.values import Files, Folder, Image, LanguageModel, Media, Table, Video
from nodes.dataset import extra, sources
from nodes.dataset.presets import SUMMARISE
from nodes.dataset.provenance import demo_note
from nodes.files.nodes import PREVIEW
from nodes.inputs import Prefix, Seed

VideoFiles = Annotated[str, FileContents("files", sources.watched)]
"""A folder, a pattern such as `raw/**/*.mp4`, a list (`.txt`), a table (`.parquet`), or one video."""
Multiline = Annotated[str, Field(max_length=10_000, json_schema_extra={"widget": "multiline"})]


class CuratedClips(NamedTuple):
    """A data set that isn't written yet."""

    clips: Table
    """A row for each clip, with its scores and, if it is dropped, the reasons."""
    videos: Table
    """A row for each video, with its problem if it has one."""


class LVDCurate(
    Node,
    version=10,
    category="dataset",
    uses="device",
    libraries=("av", "onnxruntime", "opencv-python-headless", "rapidocr", "scenedetect-headless"),
):
    """Find the clips in raw videos, score and caption them, and filter them, as for Stable Video Diffusion's Large
    Video Dataset (arXiv 2311.15127).

    Each video is decoded once. The results are kept: an interrupted run resumes after the last video, or the last five
    minutes or so of a long one, and other rules or captions decode nothing again. A file that can't be read affects no
    other. Files are told by their contents; what is skipped is listed.

    Motion, sharpness, brightness, text, duplicates and damage need nothing else. Captions, how well they fit and
    aesthetics come from models that you name; they are listed in what is saved. Those that ship with Kinograph
    (`sprite/clip`, `sprite/captioner`) are for trying it out: they know only drawn sprites.
    """

    videos: VideoFiles
    """The videos: a folder, a pattern such as `raw/**/*.mp4`, a `.txt` list, a `.parquet` table, or one file."""
    rules: Multiline = "no duplicates\nno damage"
    """What to drop, one rule per line: `worst 25% motion`, `text_area <= 0.07`, `no duplicates`, `no damage`, or
    `lvd-f` for all rules of the paper, which need `clip`, `aesthetics` and a captioner."""
    cuts: Literal["cascade", "transnet", "both"] = "cascade"
    """How shots are found: by detectors at three frame rates, by TransNetV2, which takes some fifty times as long, or
    by the detectors where TransNetV2 agrees."""
    shortest: Annotated[float, Field(ge=0.5, le=60)] = 1.0
    """The least seconds of a clip."""
    longest: Annotated[float, Field(ge=0, le=3600)] = 0.0
    """Seconds after which a shot is cut into equal parts; 0 leaves it whole."""
    at_key_frames: bool = False
    """Start clips at key frames, so that they can be saved without encoding them again. Where key frames are further
    apart than `longest`, clips are longer too."""
    find_text: bool = True
    """Look for text in the first, middle and last frame of each clip."""
    text_detector: Literal["ppocr", "craft"] = "ppocr"
    """What finds text: PP-OCR's detector, which is included, or CRAFT, which the paper used, on the models' device."""
    craft: ModelFile | None = None
    """CRAFT's weights (`craft_mlt_25k.pth`, or safetensors of them), which its authors publish."""
    clip: ModelFile | None = None
    """The CLIP model that rates how well captions fit, such as `hf:openai/clip-vit-large-patch14`; without one,
    similarities and aesthetics are left out."""
    aesthetics: ModelFile | None = None
    """LAION's aesthetic head for that CLIP model, or one of the same form."""
    image_captioner: ModelFile | None = None
    """The captioner (BLIP, GIT or the like) that describes the middle frame, such as
    `hf:Salesforce/blip-image-captioning-base`."""
    video_captioner: ModelFile | None = None
    """The captioner that describes the clip; a captioner for pictures sees its middle frame."""
    llm: LanguageModel | None = None
    """The language model that merges both descriptions into one."""
    summarise: Multiline = SUMMARISE
    """The language model's instructions."""
    processes: Annotated[int, Field(ge=0, le=256)] = 0
    """Videos decoded at a time, each in a process of its own; 0: one per core. It changes only the speed."""
    on_ray: bool = False
    """Let Ray's workers do the work: those of the cluster that RAY_ADDRESS names, or of this machine. An interrupted
    run then resumes after the last complete video."""
    seed: Seed = 0
    """Seed of the choice among the captions of a clip."""

    @classmethod
    def remarks_on(cls, given: Mapping[str, Any]) -> Iterator[Problem]:
        for name in ("clip", "aesthetics", "image_captioner", "video_captioner", "craft"):
            if isinstance(source := given.get(name), str) and (note := demo_note(source)):
                yield Problem(note, input=name, hint="name a real model to make a data set")

    @classmethod
    def check_inputs(cls, given: Mapping[str, Any]) -> None:
        from nodes.dataset.filter.rules import about, parse, without_models

        if 0 < given.get("longest", 0) < given.get("shortest", 0):
            raise InputError("longest is below shortest", input="longest", hint="raise it, or give 0 for no limit")
        rules = parse(given.get("rules", ""))
        if not given.get("find_text", True) and "text_area" in about(rules):
            hint = "turn find_text on, or leave the rule out"
            raise InputError("a rule judges text_area, which clips won't have", input="rules", hint=hint)
        missing = [*without_models(rules, given)]
        if given.get("aesthetics") and not given.get("clip", True):
            hint = "set clip, or leave aesthetics out"
            missing.append(Problem("an aesthetic head needs the CLIP model that it is for", input="clip", hint=hint))
        if given.get("find_text") and given.get("text_detector") == "craft" and not given.get("craft", True):
            hint = "give the path of craft_mlt_25k.pth, which its authors publish, or choose ppocr"
            missing.append(Problem("CRAFT's weights are not given", input="craft", hint=hint))
        if missing:
            raise MissingError.of(missing)

    def run(self, ctx: Context) -> CuratedClips:
        extra.require()
        from nodes.dataset.curate import CurationSettings, curate
        from nodes.dataset.describe.describer import Describer, DescribeSettings
        from nodes.dataset.filter.filtering import filtered
        from nodes.dataset.filter.judging import check
        from nodes.dataset.filter.rules import parse
        from nodes.dataset.scan.scanner import ScanSettings

        self.check_inputs({name: getattr(self, name) for name in self.spec.inputs})
        check(parse(self.rules))
        by_craft = self.find_text and self.text_detector == "craft"
        by_ppocr = self.find_text and not by_craft
        scan = ScanSettings(self.cuts, self.shortest, self.longest, self.at_key_frames, by_ppocr)
        models = DescribeSettings(
            self.clip or "",
            self.aesthetics or "",
            self.image_captioner or "",
            self.video_captioner or "",
            (by_craft and self.craft) or "",
            self.summarise,
        )
        processes = self.processes or (0 if self.on_ray else ctx.cores)
        describe = Describer(ctx, models, self.llm)
        settings = CurationSettings(scan, describe, processes, self.seed, self.on_ray)
        found = curate(ctx, Path(self.videos), settings)
        return CuratedClips(filtered(found.clips, self.rules), found.videos)


class LoadScores(Node, version=4, category="dataset", uses="io"):
    """Read the clips of a saved data set, including dropped ones, to filter them by other rules."""

    file: InputFile
    """The `scores.parquet` of the data set."""

    def run(self, ctx: Context) -> Table:
        extra.require()
        from nodes.dataset.table import read_clips

        return read_clips(Path(self.file))


class Filtered(NamedTuple):
    """The result of a filter."""

    kept: Any
    """What was kept: a table of clips, or a video of the frames."""
    table: Table
    """All clips, or all frames, with their scores, and why some were dropped."""
    sheet: Image
    """A contact sheet of what was dropped, with the reasons, and what was kept."""


class VideoFrameFilter(Node, version=1, category="dataset", libraries=("opencv-python-headless", "pillow")):
    """Drop the clips of a table, or the frames of a video, that break rules, and show which and why.

    Clips are judged by their existing scores: nothing is decoded. Frames have `sharpness`, `brightness`, `clipped`, and
    `motion` since the previous frame.
    """

    source: Table | Video
    """A table of clips, or a video."""
    rules: Multiline = "no duplicates"
    """What to drop, one rule per line: `worst 25% motion`, `text_area <= 0.07`, `no duplicates`; of clips, `no damage`
    too."""
    again: bool = True
    """Judge all clips again, including those that an earlier filter dropped; otherwise only those that it kept."""

    def run(self, ctx: Context) -> Filtered:
        extra.require()
        from nodes.dataset.filter.filtering import filtered, frames_of, kept, kept_frames
        from nodes.dataset.save.sheet import sheet

        if isinstance(self.source, Video):
            table = filtered(frames_of(self.source), self.rules)
            return Filtered(kept_frames(self.source, table), table, sheet(table))
        table = filtered(self.source, self.rules, again=self.again)
        return Filtered(kept(table), table, sheet(table))


class Chosen(NamedTuple):
    """The setting that the votes favour."""

    percent: float
    """How many of the clips to drop."""
    rule: str
    """The rule for a filter that does so."""
    ratings: str
    """All settings with their Elo ratings, the best first."""


class EloThreshold(Node, version=1, category="dataset", uses="io"):
    """Choose a filter's threshold from votes between results: the percentage with the highest Elo rating.

    The thresholds of LVD-F were found in this way: models were trained on what each percentage leaves, and people chose
    between pairs of their videos.
    """

    votes: Multiline
    """The votes, one per line, the winner first: `25 > 12.5`."""
    column: Annotated[str, Field(pattern=r"^\w+$")] = "motion"
    """The score to filter by."""

    def run(self, ctx: Context) -> Chosen:
        from nodes.dataset.filter.elo import parse, ratings

        rated = ratings(parse(self.votes))
        best = next(iter(rated))
        try:
            percent = float(best)
        except ValueError:
            percent = -1.0
        if not 0 <= percent <= 100:
            raise InputError(
                f"'{best}' won the votes, but is not a percentage", input="votes", hint="name settings from 0 to 100"
            )
        listed = "\n".join(f"{name}: {rating:.0f}" for name, rating in rated.items())
        return Chosen(percent, f"worst {percent:g}% {self.column}", listed)


class PreviewTable(Node, version=1, category="dataset", saves="table", temporary=True):
    """Show the first rows of a table."""

    table: Table
    """The table."""
    rows: Annotated[int, Field(ge=1, le=1000)] = 20
    """How many rows."""

    def run(self, ctx: Context) -> Files:
        extra.require()
        from nodes.dataset.save.listing import as_json

        return Files((Media(as_json(self.table, self.rows).encode(), "json", PREVIEW),))


class SaveTable(Node, version=1, category="dataset", saves="table"):
    """Save a table as CSV, without its pictures: scores for a spreadsheet, or the frames of a video."""

    table: Table
    """The table."""
    filename_prefix: Prefix = "table"
    """The start of the file's name; `folder/name` saves into a folder below the output folder."""

    def run(self, ctx: Context) -> Files:
        extra.require()
        from nodes.dataset.save.listing import as_csv

        return Files((Media(as_csv(self.table).encode(), "csv", self.filename_prefix),))


class SaveDataset(Node, version=6, category="dataset", saves="dataset", libraries=("av", "pillow")):
    """Save a data set as a folder: clips, a manifest that Hugging Face `datasets` opens, all scores, and a report.

    Manifest, report and README list the models that scores and captions are from, with their revisions and settings.
    Clips are silent.
    """

    clips: Table
    """The clips; those that a filter dropped are listed with the reasons, but not written."""
    videos: Table | None = None
    """The videos that they come from."""
    filename_prefix: Prefix = "dataset"
    """The start of the folder's name."""
    layout: Literal["files", "webdataset", "none"] = "files"
    """How clips are written: as MP4 files, in WebDataset shards, or not at all."""
    exact: bool = True
    """Cut clips exactly to the frame, encoding them again; otherwise they are copied from key frames on, which needs
    clips that were curated `at_key_frames`."""

    def run(self, ctx: Context) -> Folder:
        extra.require()
        from nodes.dataset.save.folder import check_sources, folder

        if self.layout != "none":
            check_sources(self.clips, ctx.may_read)
        return folder(self.filename_prefix, self.clips, self.videos, layout=self.layout, exact=self.exact)
