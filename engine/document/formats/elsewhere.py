"""Kinds of node that people know from ComfyUI: hints about those that Kinograph lacks, widgets of those that it has."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_NAMES = """
    BasicGuider BasicScheduler CFGGuider CLIPLoader CLIPSetLastLayer CLIPTextEncode CLIPTextEncodeFlux CLIPVisionEncode
    CLIPVisionLoader CheckpointLoader CheckpointLoaderSimple ConditioningAverage ConditioningCombine ConditioningConcat
    ConditioningZeroOut ControlNetApply ControlNetApplyAdvanced ControlNetLoader CreateVideo DiffControlNetLoader
    DualCLIPLoader EmptyImage EmptyLatentImage EmptySD3LatentImage FluxGuidance FreeU_V2 GetVideoComponents
    ImageBatch ImageCompositeMasked ImageCrop ImageFromBatch ImageInvert ImageOnlyCheckpointLoader ImagePadForOutpaint
    ImageScale ImageScaleBy ImageScaleToTotalPixels ImageUpscaleWithModel ImageToMask InpaintModelConditioning
    InvertMask KSampler KSamplerAdvanced KSamplerSelect LatentBlend LatentComposite LatentFromBatch LatentUpscale
    LatentUpscaleBy LoadAudio LoadImageMask LoadLatent LoadVideo LoraLoader LoraLoaderModelOnly MaskToImage
    ModelMergeSimple ModelSamplingDiscrete ModelSamplingFlux ModelSamplingSD3 PreviewAny PreviewImage RandomNoise
    RepeatLatentBatch SVD_img2vid_Conditioning SamplerCustom SamplerCustomAdvanced SaveAnimatedPNG SaveAnimatedWEBP
    SaveAudio SaveLatent SaveWEBM SetLatentNoiseMask SolidMask StyleModelApply StyleModelLoader TripleCLIPLoader
    UNETLoader UpscaleModelLoader VAEDecode VAEDecodeTiled VAEEncode VAEEncodeForInpaint VAEEncodeTiled VAELoader
    VHS_LoadVideo VHS_VideoCombine VideoLinearCFGGuidance WanImageToVideo unCLIPConditioning
"""
KNOWN = frozenset(_NAMES.split())
WIDGETS: Mapping[str, tuple[str, ...]] = {
    "CreateVideo": ("fps",),
    "EmptyImage": ("width", "height", "batch_size", "color"),
    "ImageScale": ("upscale_method", "width", "height", "crop"),
    "LoadImage": ("image",),
    "LoadVideo": ("file",),
    "PreviewImage": (),
    "SaveImage": ("filename_prefix",),
    "SaveVideo": ("filename_prefix", "format", "codec"),
}
"""The widgets, in order, of kinds that ComfyUI has too; Kinograph's may have further ones."""
ITSELF = "comfy-core"
"""The extension that files name for ComfyUI's own nodes."""
EXTENSION = "extension"
"""The key in a node's `_meta` for the extension that its kind comes from."""
_NAME = re.compile(r"[\w./-]{1,100}")


def elsewhere(kind: str, meta: Mapping[str, Any]) -> str | None:
    """A hint for an unknown kind of node, if it is known from ComfyUI or its file named its extension."""
    extension = meta.get(EXTENSION)
    if kind.startswith(("workflow>", "workflow/")):
        return "a group node of ComfyUI; make it a subgraph there"
    if kind in KNOWN or extension == ITSELF:
        return "a node of ComfyUI that Kinograph doesn't have"
    if isinstance(extension, str) and _NAME.fullmatch(extension):
        return f"a node of the extension {extension}, which Kinograph doesn't have"
    return None
