"""
The models of each revision and what each can do, as the official client lists them.

A fact table, transcribed. The live catalogue tells prices and no capabilities; models that are
newer than this list are not in it, and nothing is known of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Model:
    """One image model: its id, its label, and its capability words in one revision."""

    model_id: str
    label: str
    capabilities: frozenset[str]

    def can(self, capability: str) -> bool:
        """Whether the model has a capability, such as ``inputs`` or ``4k``."""
        return capability in self.capabilities


_WORDS = {
    "inputs": "inputs",
    "negative": "negative_prompt",
    "4k": "4k",
    "enhance": "native_enhance_prompt",
    "magic": "mynth_magic_prompt",
    "autosize": "native_auto_size",
}

# id | label | capabilities in 2026-04 | capabilities in 2026-08; "-" means not yet there
_TABLE = """
alibaba/qwen-image-2.0 | Qwen Image 2.0 | inputs enhance | inputs enhance
alibaba/qwen-image-2.0-pro | Qwen Image 2.0 Pro | inputs enhance | inputs enhance
alibaba/qwen-image-3.0 | Qwen Image 3.0 | - | inputs enhance
alibaba/qwen-image-3.0-pro | Qwen Image 3.0 Pro | - | inputs enhance
bytedance/seedream-5.0-lite | Seedream 5.0 Lite | inputs | inputs
bytedance/seedream-pro | Seedream Pro | - | inputs
black-forest-labs/flux.1-dev | FLUX.1 Dev | magic | none
black-forest-labs/flux-1-schnell | FLUX.1 Schnell | magic | none
tongyi-mai/z-image | Z Image | - | inputs
tongyi-mai/z-image-turbo | Z Image Turbo | magic | none
black-forest-labs/flux.2-dev | FLUX.2 Dev | magic | inputs
black-forest-labs/flux.2-pro | FLUX.2 Pro | inputs | inputs
black-forest-labs/flux.2-flex | FLUX.2 Flex | inputs | inputs
black-forest-labs/flux.2-max | FLUX.2 Max | inputs | inputs
black-forest-labs/flux.2-klein-4b | FLUX.2 Klein 4B | inputs | inputs
black-forest-labs/flux-virtual-try-on | FLUX Virtual Try-On | - | inputs
ideogram/remove-background | Ideogram Remove Background | - | inputs
john6666/bismuth-illustrious-mix | Bismuth Illustrious Mix | magic negative | negative
maxfeifei8/one-obsession | One obsession | - | negative
klingai/kling-image-3.0 | Kling IMAGE 3.0 | - | inputs
klingai/kling-image-o3 | Kling IMAGE O3 | - | inputs 4k
krea/krea-2-turbo | Krea 2 Turbo | - | inputs
krea/krea-2-medium | Krea 2 Medium | - | inputs
krea/krea-2-large | Krea 2 Large | - | inputs
luma/uni-1 | Luma UNI-1 | - | inputs
luma/uni-1-max | Luma UNI-1 Max | - | inputs
purplesmartai/pony-diffusion-v6-xl | Pony Diffusion V6 XL | negative | negative
recraft/recraft-v4 | Recraft V4 | none | none
recraft/recraft-v4-pro | Recraft V4 Pro | none | none
reve/reve | Reve | - | inputs
reve/reve-remix | Reve Remix | - | inputs
sourceful/riverflow-2.0-pro | Riverflow 2.0 Pro | - | inputs 4k enhance
google/gemini-3.1-flash-lite-image | Nano Banana 2 Lite | - | inputs enhance
google/gemini-3.1-flash-image | Nano Banana 2 | inputs 4k enhance autosize | inputs 4k enhance
google/gemini-3-pro-image-preview | Nano Banana Pro | 4k enhance | inputs 4k enhance
imagineart/imagineart-1.5-pro | ImagineArt 1.5 Pro | - | 4k
imagineart/imagineart-2.0 | ImagineArt 2.0 | - | inputs
openai/gpt-image-2 | GPT Image 2 | - | inputs
prunaai/p-image-try-on | P-Image Try-On | - | inputs
wan/wan2.6-image | Wan 2.6 Image | none | none
wan/wan2.7-image | Wan 2.7 Image | - | inputs
wan/wan2.7-image-pro | Wan 2.7 Image Pro | - | inputs 4k
xai/grok-imagine-image | Grok Imagine Image | autosize | inputs
xai/grok-imagine-image-quality | Grok Imagine Image Quality | - | inputs
"""


def _read(column: int) -> MappingProxyType[str, Model]:
    models: dict[str, Model] = {}
    for line in _TABLE.strip().splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if cells[column] != "-":
            words = frozenset(_WORDS[word] for word in cells[column].split() if word != "none")
            models[cells[0]] = Model(cells[0], cells[1], words)
    return MappingProxyType(models)


MODELS_BY_REVISION: MappingProxyType[str, MappingProxyType[str, Model]] = MappingProxyType(
    {"2026-04": _read(2), "2026-08": _read(3)}
)
"""Every model of a revision by id; ``auto`` is not a model but a wish, and is not listed."""

INPUTS = "inputs"
FOUR_K = "4k"


def is_known_to_lack(model_id: str, capability: str, revision: str) -> bool:
    """Whether the revision lists the model, and lists it without the capability."""
    model = MODELS_BY_REVISION[revision].get(model_id)
    return model is not None and not model.can(capability)
