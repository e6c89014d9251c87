"""
The models of each revision and what each can do, as the official client lists them.

A fact table, transcribed. Before 2026-10 the live catalogue tells prices and no capabilities;
models that are newer than this list are not in it, and nothing is known of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Model:
    """
    One image model: its id, its label, and its capability words in one revision.

    ``is_known`` is False for a model that is listed somewhere without its capabilities.
    """

    model_id: str
    label: str
    capabilities: frozenset[str]
    is_known: bool = True

    def can(self, capability: str) -> bool:
        """Whether the model has a capability, such as ``inputs`` or ``4k``."""
        return capability in self.capabilities


_WORDS = {
    "inputs": "inputs",
    "negative": "negative_prompt",
    "4k": "4k",
    "native": "native_enhance_prompt",
    "magic": "mynth_magic_prompt",
    "size": "native_auto_size",
}

# id | label | capabilities in 2026-04 | in 2026-08 | in 2026-10
# "-" means not there, "?" there with capabilities that no source tells
_TABLE = """
alibaba/qwen-image-2.0 | Qwen Image 2.0 | inputs native | inputs native | inputs
alibaba/qwen-image-2.0-pro | Qwen Image 2.0 Pro | inputs native | inputs native | inputs
alibaba/qwen-image-3.0 | Qwen Image 3.0 | - | inputs native | inputs
alibaba/qwen-image-3.0-pro | Qwen Image 3.0 Pro | - | inputs native | inputs
bytedance/seedream-5.0-lite | Seedream 5.0 Lite | inputs | inputs | inputs
bytedance/seedream-pro | Seedream Pro | - | inputs | inputs
bytedance/seedream-v5-flash | Seedream 5.0 Flash | - | - | inputs
black-forest-labs/flux.1-dev | FLUX.1 Dev | magic | none | none
black-forest-labs/flux-1-schnell | FLUX.1 Schnell | magic | none | none
tongyi-mai/z-image | Z Image | - | inputs | inputs
tongyi-mai/z-image-turbo | Z Image Turbo | magic | none | none
black-forest-labs/flux.2-dev | FLUX.2 Dev | magic | inputs | inputs
black-forest-labs/flux.2-pro | FLUX.2 Pro | inputs | inputs | inputs
black-forest-labs/flux.2-flex | FLUX.2 Flex | inputs | inputs | inputs
black-forest-labs/flux.2-max | FLUX.2 Max | inputs | inputs | inputs
black-forest-labs/flux.2-klein-4b | FLUX.2 Klein 4B | inputs | inputs | inputs
bria/fibo-edit-1.5 | FIBO Edit 1.5 | - | - | inputs
bria/fibo-generate-1.5 | FIBO Generate 1.5 | - | - | none
circlestone-labs/anima | Anima | - | - | inputs
goofy-ai/prefect-pony-xl-lora | Prefect Pony XL LoRA | - | - | none
black-forest-labs/flux-virtual-try-on | FLUX Virtual Try-On | - | inputs | -
ideogram/remove-background | Ideogram Remove Background | - | inputs | -
john6666/bismuth-illustrious-mix | Bismuth Illustrious Mix | magic negative | negative | negative
maxfeifei8/one-obsession | One obsession | - | negative | negative
klingai/kling-image-3.0 | Kling IMAGE 3.0 | - | inputs | inputs
klingai/kling-image-o3 | Kling IMAGE O3 | - | inputs 4k | inputs 4k
krea/krea-2-turbo | Krea 2 Turbo | - | inputs | inputs
krea/krea-2-medium | Krea 2 Medium | - | inputs | inputs
krea/krea-2-large | Krea 2 Large | - | inputs | inputs
luma/uni-1 | Luma UNI-1 | - | inputs | inputs
luma/uni-1-max | Luma UNI-1 Max | - | inputs | inputs
meta/muse-image | Muse Image | - | - | inputs
microsoft/mai-image-2.6 | MAI Image 2.6 | - | - | inputs
microsoft/mai-image-2.6-flash | MAI Image 2.6 Flash | - | - | inputs
minimax/h3 | MiniMax H3 | - | - | inputs
purplesmartai/pony-diffusion-v6-xl | Pony Diffusion V6 XL | negative | negative | negative
recraft/recraft-v4 | Recraft V4 | none | none | none
recraft/recraft-v4.1-flash | Recraft V4.1 Flash | - | - | none
recraft/recraft-v4-pro | Recraft V4 Pro | none | none | none
reve/reve | Reve | - | inputs | inputs
reve/reve-remix | Reve Remix | - | inputs | inputs
sourceful/riverflow-2.0-pro | Riverflow 2.0 Pro | - | inputs 4k native | inputs 4k
google/gemini-3.1-flash-lite-image | Nano Banana 2 Lite | - | inputs native | inputs
google/gemini-3.1-flash-image | Nano Banana 2 | inputs 4k native size | inputs 4k native | inputs 4k
google/gemini-3-pro-image-preview | Nano Banana Pro | 4k native | inputs 4k native | inputs 4k
imagineart/imagineart-1.5-pro | ImagineArt 1.5 Pro | - | 4k | 4k
imagineart/imagineart-2.0 | ImagineArt 2.0 | - | inputs | inputs
openai/gpt-image-2 | GPT Image 2 | - | inputs | inputs
openai/gpt-image-2.5-flare | GPT Image 2.5 Flare | - | - | inputs
openai/gpt-image-2.5-sunburst | GPT Image 2.5 Sunburst | - | - | inputs
prunaai/p-image-try-on | P-Image Try-On | - | inputs | -
wan/wan2.6-image | Wan 2.6 Image | none | none | none
wan/wan2.7-image | Wan 2.7 Image | - | inputs | inputs
wan/wan2.7-image-pro | Wan 2.7 Image Pro | - | inputs 4k | inputs 4k
xai/grok-imagine-image | Grok Imagine Image | size | inputs | inputs
xai/grok-imagine-image-2.0 | Grok Imagine Image 2.0 | - | - | inputs
xai/grok-imagine-image-quality | Grok Imagine Image Quality | - | inputs | inputs
black-forest-labs/flux-3 | FLUX.3 | - | - | inputs 4k
ideogram/ideogram-4.5 | Ideogram 4.5 | - | - | inputs
alibaba/qwen-image-2.1-pro | Qwen Image 2.1 Pro | - | - | ?
"""


def _read(column: int) -> MappingProxyType[str, Model]:
    models: dict[str, Model] = {}
    for line in _TABLE.strip().splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if cells[column] != "-":
            told = cells[column].split()
            words = frozenset(_WORDS[word] for word in told if word not in ("none", "?"))
            models[cells[0]] = Model(cells[0], cells[1], words, is_known=told != ["?"])
    return MappingProxyType(models)


MODELS_BY_REVISION: MappingProxyType[str, MappingProxyType[str, Model]] = MappingProxyType(
    {"2026-04": _read(2), "2026-08": _read(3), "2026-10": _read(4)}
)
"""Every model of a revision by id; ``auto`` is not a model, and is not listed."""

INPUTS = "inputs"
FOUR_K = "4k"


def is_known_to_lack(model_id: str, capability: str, revision: str) -> bool:
    """Whether the revision lists the model, and lists it without the capability."""
    model = MODELS_BY_REVISION[revision].get(model_id)
    return model is not None and model.is_known and not model.can(capability)
