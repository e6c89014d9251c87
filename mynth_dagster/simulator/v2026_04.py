"""
API revision 2026-04.

No envelope; error bodies are nested with codes in lower case; an image that succeeded says
``succeeded``; costs are split inside the result; a failed task tells no reason.
"""

from __future__ import annotations

import hashlib
import hmac
from types import MappingProxyType
from typing import Annotated, Any, Literal

import orjson
from pydantic import Field, PlainValidator

from mynth_dagster.limits import AUTO_MODEL, LIMITS_BY_REVISION, OUTPUT_FORMATS, SIZE_RATIOS, SIZES
from mynth_dagster.simulator import completion, defaults
from mynth_dagster.simulator.completion import Rendering
from mynth_dagster.simulator.defaults import format_cost
from mynth_dagster.simulator.destinations import StoredDestination
from mynth_dagster.simulator.revision import Payload, RequestBody, Revision, format_time
from mynth_dagster.simulator.rng import random_whole
from mynth_dagster.simulator.scenario import Quirks, TaskType
from mynth_dagster.simulator.tasks import (
    AnalysisRequest,
    Enhancement,
    GenerateRequest,
    SimulatedTask,
)
from mynth_dagster.simulator.validation import (
    INVALID_JSON,
    MEDIA_TYPE,
    TOKEN_EXPIRED,
    UNAUTHORIZED,
    VALIDATION,
    Body,
    ErrorCode,
    LenientBody,
    Refusal,
    StrictableBody,
    Text,
    Url,
    Whole,
    at_most_bytes,
    either,
    has_word,
    intent_tag_in,
    invalid,
    one_of,
    read_body,
)
from mynth_dagster.simulator.webhooks import Webhook, WebhookDelivery, WebhookSpec

_LIMITS = LIMITS_BY_REVISION["2026-04"]
LEVELS_DEFAULT = ("sfw", "nsfw")
"""Values of the rating scale that needs no words of the caller."""


class Revision202604(Revision):
    """The oldest revision that the simulator speaks."""

    name = "2026-04"
    limits = _LIMITS
    renamed_errors = MappingProxyType(
        {INVALID_JSON: VALIDATION, MEDIA_TYPE: VALIDATION, TOKEN_EXPIRED: UNAUTHORIZED}
    )
    rates_at_once = True
    routes = frozenset(
        {
            "POST /image/generate",
            "POST /image/upload",
            "POST /image/rate",
            "GET /tasks/:id",
            "GET /tasks/:id/status",
            "GET /tasks/:id/results",
            "POST /webhook",
            "PUT /webhook/:id",
            "DELETE /webhook/:id",
        }
    )

    def read_generate(self, body: RequestBody, quirks: Quirks, *, strict: bool) -> GenerateRequest:
        asked = read_body(_GenerateBody, body, strict=strict)
        prompt = (
            asked.prompt if isinstance(asked.prompt, _Prompt) else _Prompt(positive=asked.prompt)
        )
        size = asked.size if isinstance(asked.size, str) else asked.size.word
        check_choices(prompt.positive, asked.output if "output" in body else None, quirks)
        levels = tuple(level.value for level in asked.content_rating.levels)
        return GenerateRequest(
            prompt=prompt.positive,
            negative_prompt=prompt.negative if "negative" in prompt.model_fields_set else None,
            model=asked.model,
            size=size.removesuffix("_4k"),
            auto_size_by=asked.size.prefer if isinstance(asked.size, _AutoSize) else "mynth",
            is_4k=size.endswith("_4k"),
            count=asked.count,
            format=asked.output.format,
            quality=asked.output.quality,
            n_inputs=len(asked.inputs),
            enhancement=_ENHANCEMENTS[prompt.enhance],
            rating_levels=(levels or LEVELS_DEFAULT) if asked.content_rating.enabled else None,
            rates_custom=bool(levels) and asked.content_rating.enabled,
            wants_token=asked.access.pat.enabled,
            webhook_urls=tuple(target.url for target in asked.webhook.custom),
            silences_registered=not asked.webhook.enabled,
            intent_tag=intent_tag_in(asked.metadata),
        )

    def read_analysis(
        self, task_type: TaskType, body: RequestBody, *, strict: bool
    ) -> AnalysisRequest:
        asked = read_body(_RateBody, body, strict=strict)
        levels = tuple(level.value for level in asked.levels) or LEVELS_DEFAULT
        return AnalysisRequest(type=task_type, urls=tuple(asked.urls), levels=levels)

    def read_webhook(self, body: RequestBody) -> WebhookSpec:
        asked = read_body(WebhookBody, body)
        return WebhookSpec(asked.enabled, asked.url, asked.events)

    def wrap(self, data: object) -> object:
        return data

    def error_body(
        self, error: ErrorCode, refusal: Refusal, status: int, quirks: Quirks
    ) -> Payload:
        key = "error" if quirks.error_body == "flat_error" else "message"
        payload: Payload = {"code": error.code.lower(), key: refusal.message, **refusal.extra}
        if quirks.error_body != "nested":
            return payload
        if refusal.issues and refusal.issues[0].path:
            payload["field"] = refusal.issues[0].path[0]
        return {"error": payload}

    def created(self, task: SimulatedTask, token: str | None) -> Payload:
        payload: Payload = {"taskId": task.task_id}
        if isinstance(task.request, AnalysisRequest):
            return payload | self._ratings(task)
        if token is not None:
            payload["access"] = {"publicAccessToken": token}
        return payload

    def result(self, task: SimulatedTask, rendering: Rendering) -> Payload:
        if isinstance(task.request, AnalysisRequest):
            return self._ratings(task)
        result = self._result(task, rendering)
        return {"images": [] if result is None else result["images"]}

    def detail(self, task: SimulatedTask, rendering: Rendering) -> Payload:
        """The full task; ``result`` is absent while pending and after a failure without images."""
        payload = {
            "id": task.task_id,
            "type": task.type,
            "status": task.status,
            "userId": task.key.user_id,
            "apiKeyId": task.key.key_id,
            "cost": self._cost(task),
            "request": self._request_echo(task, rendering.quirks),
            **self._times(task),
        }
        result = self._result(task, rendering)
        return payload if result is None else {**payload, "result": result}

    def event(self, task: SimulatedTask, rendering: Rendering) -> Payload:
        """A webhook's body; of a failed task it tells neither result nor reason."""
        payload: Payload = {
            "event": task.event,
            "task": {"id": task.task_id},
            "request": self._request_echo(task, rendering.quirks),
        }
        if task.status == "completed":
            payload["result"] = self._result(task, rendering)
        return payload

    def webhook(self, webhook: Webhook, *, is_new: bool) -> Payload:
        payload: Payload = {
            "id": webhook.webhook_id,
            "userId": webhook.user_id,
            "enabled": webhook.spec.enabled,
            "url": webhook.spec.url,
            "events": webhook.spec.events,
            **self._times(webhook),
        }
        return payload | {"secret": webhook.secret} if is_new else payload

    def delivery_headers(
        self, delivery: WebhookDelivery, secret: str | None, at_s: int, quirks: Quirks
    ) -> dict[str, str]:
        headers = {"Content-Type": "application/json"}
        if quirks.webhook_delivery_header:
            headers["X-Mynth-Delivery"] = delivery.delivery_id
        if secret is not None or quirks.custom_event_header:
            headers["X-Mynth-Event"] = delivery.event
        if secret is not None:
            message = b"%d." % at_s + delivery.body  # the key is the whole secret
            digest = hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()
            headers["X-Mynth-Signature"] = f"t={at_s},v1={digest}"
        return headers

    def new_secret(self, quirks: Quirks, seed: int, number: int) -> str:
        return f"{quirks.webhook_secret_prefix}{random_whole(seed, 'webhook secret', number):016x}"

    def _cost(self, task: SimulatedTask) -> str | None:
        return None if task.cost is None or task.status == "failed" else format_cost(task.cost)

    def _times(self, record: SimulatedTask | Webhook | StoredDestination) -> Payload:
        return {
            "createdAt": format_time(record.created_us),
            "updatedAt": format_time(record.updated_us),
        }

    def _request_echo(self, task: SimulatedTask, quirks: Quirks) -> object:
        request = task.request
        if quirks.request_echo == "as_submitted" or not isinstance(request, GenerateRequest):
            return orjson.Fragment(task.body)
        quality = request.quality or defaults.QUALITY
        output = {"format": task.outcome.format, "quality": quality}
        filled_in = {"model": "auto", "size": "auto", "count": 1, "output": output}
        return {**filled_in, **orjson.loads(task.body)}

    def _result(self, task: SimulatedTask, rendering: Rendering) -> Payload | None:
        request = task.request
        if isinstance(request, AnalysisRequest):
            return self._ratings(task) if task.status == "completed" else None
        if not task.shows_images or not isinstance(request, GenerateRequest):
            return None
        cost = format_cost(task.cost or 0)
        payload: Payload = {
            "model": task.outcome.model,
            "images": self._images(task, rendering),
            "cost": {"images": cost, "total": cost},
        }
        if request.size == "auto":
            payload["size_auto"] = {"source": request.auto_size_by, "value": task.outcome.pixels}
        if request.enhancement != "off":
            payload["prompt_enhance"] = {
                "source": "mynth" if request.enhancement == "magic" else "native",
                "positive": request.prompt + defaults.MAGIC_SUFFIX,
            }
        return payload

    def _images(self, task: SimulatedTask, rendering: Rendering) -> list[Payload]:
        request = task.request
        assert isinstance(request, GenerateRequest)
        payloads: list[Payload] = []
        for image in completion.images_of(task, rendering.base_url):
            if image.error_code is not None:
                message = completion.message_of(image.error_code)
                payloads.append({"status": "failed", "error": message})
                continue
            width, height = defaults.read_pixels(image.pixels)
            as_object = {"width": width, "height": height}
            payload: Payload = {
                "status": "succeeded",
                "id": image.image_id,
                "url": image.url,
                "cost": format_cost(image.cost),
                "size": as_object if rendering.quirks.image_size_as_object else image.pixels,
            }
            if image.level is not None:
                mode = "custom" if request.rates_custom else "default"
                payload["content_rating"] = {"mode": mode, "level": image.level}
            payloads.append(payload)
        return payloads

    def _ratings(self, task: SimulatedTask) -> Payload:
        assert isinstance(task.request, AnalysisRequest)
        if task.outcome.code is not None:
            code, urls = task.outcome.code.lower(), task.request.urls
            return {"results": [{"url": url, "error_code": code} for url in urls]}
        rated = completion.ratings_of(task)
        return {"results": [{"url": url, "rating": level} for url, level in rated]}


# Request bodies. Those without an underscore are the same in 2026-08.


Metadata = Annotated[dict[str, Any], at_most_bytes(_LIMITS.metadata_max_bytes)]
_PromptText = Annotated[str, Field(max_length=_LIMITS.prompt_max_chars)]
_ENHANCEMENTS: dict[bool | str, Enhancement] = {
    False: "off",
    "prefer_magic": "magic",
    "prefer_native": "native",
}


def events_of(*names: str) -> PlainValidator:
    """Events that a webhook may want: ``all``, or an array of some names."""
    listed = Annotated[list[Annotated[str, one_of(names)]], Field(min_length=1)]
    return either(list, listed, Literal["all"])


class AutoSize(LenientBody):
    """A size that the model or Mynth chooses."""

    type: Literal["auto", "aspect_ratio"]

    @property
    def word(self) -> str:
        """The same size as a word."""
        return "auto"


class RatioSize(AutoSize):
    """A size by its ratio."""

    aspect_ratio: Annotated[str, one_of(SIZE_RATIOS)] = Field(alias="aspectRatio")
    scale: Literal["base", "4k"] = "base"

    @property
    def word(self) -> str:
        return self.aspect_ratio + ("_4k" if self.scale == "4k" else "")


def size_as(auto: type[Body], ratio: type[Body]) -> PlainValidator:
    """A size as a word, or as one of two objects."""
    either_object = either(has_word("type", "aspect_ratio"), ratio, auto)
    return either(dict, Annotated[Any, either_object], Annotated[str, one_of(SIZES)])


class Output(LenientBody):
    """File format and quality."""

    format: Annotated[str, one_of(OUTPUT_FORMATS)] = "webp"
    quality: Whole = Field(default=defaults.QUALITY, ge=_LIMITS.quality_min, le=_LIMITS.quality_max)


class InputSource(LenientBody):
    """Where an input image is."""

    type: Literal["url"]
    url: Url


LEVELS_BOUNDS = Field(min_length=_LIMITS.rating_levels_min, max_length=_LIMITS.rating_levels_max)


class RatingLevelBody(LenientBody):
    """One value of a rating scale of the caller's own."""

    description: str = Field(
        min_length=_LIMITS.rating_description_min_chars,
        max_length=_LIMITS.rating_description_max_chars,
    )
    value: str = Field(
        min_length=_LIMITS.rating_value_min_chars, max_length=_LIMITS.rating_value_max_chars
    )


Levels = Annotated[list[RatingLevelBody], LEVELS_BOUNDS]


class CustomWebhook(LenientBody):
    """An endpoint that a request names."""

    url: Url


CustomWebhooks = Annotated[list[CustomWebhook], Field(max_length=_LIMITS.custom_webhooks_max)]


class _AccessToken(LenientBody):
    enabled: bool = True


class Access(LenientBody):
    """Whether a public access token is issued."""

    pat: _AccessToken = Field(default_factory=_AccessToken)


class WebhookBody(LenientBody):
    """A registered webhook."""

    events: Annotated[
        str | list[str],
        events_of(
            *("all", "task.completed", "task.failed"),
            *("task.image.generate.completed", "task.image.generate.failed"),
        ),
    ]
    enabled: bool
    url: Url


def check_choices(prompt: str, output: Output | None, quirks: Quirks) -> None:
    """
    Check what quirks leave open about a prompt and an output that was given.

    Raises:
        Refusal: The prompt is empty, or half of the output is missing, and must not be.
    """
    if not prompt and not quirks.accepts_empty_prompt:
        raise invalid("prompt", "must not be empty")
    if output is not None and quirks.output_needs_both and len(output.model_fields_set) < 2:
        raise invalid("output", "needs both format and quality")


class _AutoSize(AutoSize):
    prefer: Literal["mynth", "native"] = "mynth"


class _RatioSize(RatioSize):
    scale: Annotated[Literal["base", "4k"], one_of(["4k"])] = "base"  # what is not 4k is left out


class _Prompt(StrictableBody):
    positive: _PromptText
    negative: str = Field(default="", max_length=_LIMITS.negative_prompt_max_chars)
    enhance: Annotated[
        bool | str, either(bool, Literal[False], Literal["prefer_magic", "prefer_native"])
    ] = False


class _Input(StrictableBody):
    type: Literal["image"]
    role: Annotated[str, one_of(_LIMITS.input_roles)]
    source: InputSource


class _ContentRating(LenientBody):
    enabled: bool = False
    levels: Levels = Field(default_factory=list)


class _Webhooks(LenientBody):
    enabled: bool = True
    custom: CustomWebhooks = Field(default_factory=list)


class _GenerateBody(StrictableBody):
    prompt: Annotated[str | _Prompt, either(dict, _Prompt, _PromptText)]
    model: Text = AUTO_MODEL
    size: Annotated[str | AutoSize, size_as(_AutoSize, _RatioSize)] = "auto"
    count: Whole = Field(default=1, ge=_LIMITS.count_min, le=_LIMITS.count_max)
    output: Output = Field(default_factory=Output)
    inputs: list[Annotated[str | _Input, either(dict, _Input, Url)]] = Field(default_factory=list)
    content_rating: _ContentRating = Field(default_factory=_ContentRating)
    webhook: _Webhooks = Field(default_factory=_Webhooks)
    access: Access = Field(default_factory=Access)
    metadata: Metadata = Field(default_factory=dict)


class _RateBody(StrictableBody):
    urls: list[Url] = Field(min_length=1, max_length=10)
    levels: Levels = Field(default_factory=list)
