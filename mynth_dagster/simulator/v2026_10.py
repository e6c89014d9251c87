"""
API revision 2026-10.

Snake case throughout; successes are wrapped in ``data``; errors are nested with codes in lower
case; an image has a format and no cost. A task of an earlier revision is told the same way.
Requests have nothing unknown anywhere, and every field that is wrong is told.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from base64 import b64decode, b64encode
from contextlib import suppress
from types import MappingProxyType
from typing import Annotated, Any, Literal

import orjson
from pydantic import AfterValidator, ConfigDict, Field

from mynth_dagster.capabilities import INPUTS, Model
from mynth_dagster.limits import AUTO_MODEL, LIMITS_BY_REVISION, OUTPUT_FORMATS, SIZE_RATIOS
from mynth_dagster.simulator import completion, defaults
from mynth_dagster.simulator.accounts import Key
from mynth_dagster.simulator.completion import PriceBook, Rendering, SimulatedImage
from mynth_dagster.simulator.defaults import format_price, units_of
from mynth_dagster.simulator.destinations import StoredDestination
from mynth_dagster.simulator.revision import Payload, RequestBody, format_time
from mynth_dagster.simulator.rng import random_whole
from mynth_dagster.simulator.scenario import (
    STANDARD_PREFIX,
    Quirks,
    TaskType,
    is_standard_secret,
)
from mynth_dagster.simulator.tasks import (
    AnalysisRequest,
    EditRequest,
    GenerateRequest,
    SimulatedTask,
)
from mynth_dagster.simulator.v2026_04 import (
    LEVELS_BOUNDS,
    LEVELS_DEFAULT,
    Metadata,
    RatingLevelBody,
    check_choices,
    size_as,
)
from mynth_dagster.simulator.v2026_08 import Revision202608, pricing_of, rating_as
from mynth_dagster.simulator.validation import (
    MEDIA_TYPE,
    NOT_FOUND,
    RATE_LIMITED,
    SCOPE,
    SERVER,
    UNAUTHORIZED,
    VALIDATION,
    Body,
    ErrorCode,
    Issue,
    Refusal,
    Slug,
    Text,
    WebUrl,
    Whole,
    either,
    intent_tag_in,
    one_of,
    read_body,
)
from mynth_dagster.simulator.webhooks import Webhook, WebhookDelivery, WebhookSpec

_LIMITS = LIMITS_BY_REVISION["2026-10"]
_INTERNAL = ErrorCode("internal_server_error", 500)
_USUAL_CODES = {
    **{error.status: error.code for error in (UNAUTHORIZED, SCOPE, NOT_FOUND)},
    **{error.status: error.code for error in (MEDIA_TYPE, RATE_LIMITED)},
    402: "insufficient_balance",
    503: "unavailable",
}
"""What a fault is called that has a status and no code of its own."""

_BEST_SCORE = 4


class Revision202610(Revision202608):
    """The newest revision."""

    name = "2026-10"
    limits = _LIMITS
    renamed_errors = MappingProxyType({SERVER: _INTERNAL})
    scopes = frozenset({"generate", "manage"})
    upload_lifetime_s = 86_400.0
    refuses_unknown_destinations = True
    routes = frozenset(
        route.replace("/webhook", "/webhooks") for route in Revision202608.routes
    ) | {
        "POST /image/upscale",
        "POST /image/remove-background",
    }

    def read_generate(self, body: RequestBody, quirks: Quirks, *, strict: bool) -> GenerateRequest:
        """Model ``auto`` ignores inputs and size, so a request for it has none."""
        asked = read_body(_GenerateBody, body)
        check_choices(asked.prompt, None, quirks)
        is_auto = asked.model == AUTO_MODEL
        size = asked.size if isinstance(asked.size, str) else asked.size.word
        rating = _Scale() if asked.rating is True else asked.rating or None
        return GenerateRequest(
            prompt=asked.prompt,
            negative_prompt=asked.negative_prompt if "negative_prompt" in body else None,
            model=asked.model,
            size="auto" if is_auto else size.removesuffix("_4k"),
            is_4k=size.endswith("_4k") and not is_auto,
            count=asked.count,
            n_inputs=0 if is_auto else len(asked.inputs),
            enhancement="magic" if asked.magic_prompt else "off",
            rating_levels=None if rating is None else rating.values,
            rates_custom=rating is not None and rating.mode == "custom",
            **asked.options(),
        )

    def read_analysis(
        self, task_type: TaskType, body: RequestBody, *, strict: bool
    ) -> AnalysisRequest:
        if task_type == "image.rate":
            is_custom = body.get("mode") == "custom"
            rate: _RateBody = read_body(_CustomRateBody if is_custom else _RateBody, body)
            return AnalysisRequest(type=task_type, urls=(rate.url,), levels=rate.values)
        if task_type == "image.alt":
            return AnalysisRequest(type=task_type, urls=(read_body(_AltBody, body).url,))
        review = read_body(_ReviewBody, body)
        return AnalysisRequest(type=task_type, urls=(review.url,), effort=review.effort)

    def read_edit(self, task_type: TaskType, body: RequestBody) -> EditRequest:
        if task_type == "image.remove_background":
            removal = read_body(_RemoveBackgroundBody, body)
            return EditRequest(type=task_type, urls=(removal.url,), **removal.options())
        upscale = read_body(_UpscaleBody, body)
        factor = int(upscale.size[0]) if isinstance(upscale.size, str) else upscale.size.factor
        return EditRequest(
            type=task_type,
            urls=(upscale.url,),
            factor=factor,
            effort=upscale.effort,
            **upscale.options(),
        )

    def read_webhook(self, body: RequestBody) -> WebhookSpec:
        asked = read_body(_WebhookBody, body)
        return WebhookSpec(
            asked.enabled,
            asked.url,
            asked.events,
            None if asked.api_key_ids is None else tuple(asked.api_key_ids),
            asked.include_session_tasks,
        )

    def error_body(
        self, error: ErrorCode, refusal: Refusal, status: int, quirks: Quirks
    ) -> Payload:
        """A validation error has an issue for each field, or one for the whole body."""
        code = _USUAL_CODES.get(status, error.code) if error.code == _INTERNAL.code else error.code
        payload: Payload = {"code": code.lower(), "message": refusal.message, **refusal.extra}
        if error is VALIDATION:
            issues = refusal.issues or [Issue((), refusal.message)]
            payload["issues"] = [
                {"path": list(issue.path), "message": issue.message} for issue in issues
            ]
        return {"error": payload}

    def created(self, task: SimulatedTask, token: str | None) -> Payload:
        payload = {"task_id": task.task_id, "estimated_cost": format_price(task.reserved)}
        return payload if token is None else {**payload, "public_access_token": token}

    def detail(self, task: SimulatedTask, rendering: Rendering) -> Payload:
        return {
            "id": task.task_id,
            "type": task.type,
            "status": task.status,
            "request": self._request_echo(task, rendering.quirks),
            "result": self._result(task, rendering),
            "errors": self._errors(task) if task.status == "failed" else None,
            "cost": self._cost(task),
            "user_id": task.key.user_id,
            "api_key_id": task.key.key_id,
            **self._times(task),
        }

    def event(self, task: SimulatedTask, rendering: Rendering) -> Payload:
        """The full task under the id of the event, which no repetition changes."""
        return {
            "id": task.event_id,
            "type": task.event,
            "timestamp": format_time(task.updated_us),
            "data": self.detail(task, rendering),
        }

    def models(self, prices: PriceBook) -> list[Payload]:
        """All entries, images first; ``auto`` only where the scenario lists it."""
        models = [_image_model(model, prices) for model in prices.models.values()]
        if prices.lists_auto:
            per_image = {"base": format_price(prices.auto_ceiling)}
            auto = {"id": AUTO_MODEL, "display_name": "Auto", "type": "image"}
            pricing = {"per_image": per_image}
            models.insert(0, {**auto, "modes": {"txt->img": {}}, "pricing": pricing})
        return [*models, *(_video_model(*entry) for entry in _VIDEO_MODELS)]

    def estimate(self, units: int, kind: str) -> Payload:
        return {"estimated_cost": format_price(units), "currency": "usd", "estimate_kind": kind}

    def me(self, key: Key, now_us: int) -> Payload:
        """The account, and the key in use with its scopes and its limit."""
        spending: Payload = {"mode": "unlimited"}
        if key.limit is not None:
            used = key.used(now_us)
            spending = {
                "mode": "limited",
                "limit": format_price(key.limit),
                "period": key.limit_period,
                "used": format_price(used),
                "remaining": format_price(max(key.limit - used, 0)),
            }
        api_key = {
            "id": key.key_id,
            "name": key.name,
            "key_preview": f"{key.secret[:7]}...{key.secret[-3:]}",
            "scopes": list(key.scopes),
            "spending": spending,
        }
        return {"user_id": key.user_id, "auth": {"method": "api-key", "api_key": api_key}}

    def balance(self, key: Key, now_us: int) -> Payload:
        """The account's money; `me` tells the limits of keys."""
        payload = super().balance(key, now_us)
        payload.pop("apiKey", None)
        return payload

    def webhook(self, webhook: Webhook, *, is_new: bool) -> Payload:
        """Secret and time are shown by the creation only."""
        spec = webhook.spec
        payload: Payload = {
            "id": webhook.webhook_id,
            "enabled": spec.enabled,
            "url": spec.url,
            "events": spec.events,
            "api_key_ids": None if spec.api_key_ids is None else list(spec.api_key_ids),
            "include_session_tasks": spec.include_session_tasks,
        }
        if is_new:
            payload["secret"] = webhook.secret
            payload["created_at"] = format_time(webhook.created_us)
        return payload

    def delivery_headers(
        self, delivery: WebhookDelivery, secret: str | None, at_s: int, quirks: Quirks
    ) -> dict[str, str]:
        """Those of Standard Webhooks."""
        headers = {
            "Content-Type": "application/json",
            "webhook-id": delivery.event_id,
            "webhook-timestamp": str(at_s),
        }
        if secret is not None:
            signature = sign_standard(delivery.event_id, at_s, delivery.body, _new_kind_of(secret))
            headers["webhook-signature"] = signature
        return headers

    def new_secret(self, quirks: Quirks, seed: int, number: int) -> str:
        """``whsec_`` and 24 bytes in base64."""
        parts = (random_whole(seed, "webhook secret", number, i) for i in range(3))
        key = b"".join(part.to_bytes(8, "big") for part in parts)
        return STANDARD_PREFIX + b64encode(key).decode()

    def _times(self, record: SimulatedTask | Webhook | StoredDestination) -> Payload:
        return {
            "created_at": format_time(record.created_us),
            "updated_at": format_time(record.updated_us),
        }

    def _errors(self, task: SimulatedTask) -> list[Payload]:
        return [self._error(task.outcome.code or defaults.PROVIDER_ERROR)]

    def _code(self, code: str) -> str:
        return code.lower()

    def _request_echo(self, task: SimulatedTask, quirks: Quirks) -> object:
        request = orjson.loads(task.body)
        if quirks.request_echo == "with_defaults" and isinstance(task.request, GenerateRequest):
            request = {"model": "auto", "size": "auto", "count": 1, **request}
        webhook = request.get("webhook")
        if isinstance(webhook, dict) and "custom" in webhook:
            custom = [{**entry, "url": _host_of(entry["url"])} for entry in webhook["custom"]]
            request["webhook"] = {**webhook, "custom": custom}
        return request

    def _result(self, task: SimulatedTask, rendering: Rendering) -> Payload | None:
        if task.status != "completed":
            return None
        if isinstance(task.request, EditRequest):
            image = next(completion.images_of(task, rendering.base_url))
            return {"image": self._image(image, task, rendering)}
        return super()._result(task, rendering)

    def _image(self, image: SimulatedImage, task: SimulatedTask, rendering: Rendering) -> Payload:
        payload = super()._image(image, task, rendering)
        del payload["cost"]
        payload["format"] = image.format
        name = image.destination
        if name is not None and not rendering.has_no_url(name):
            with suppress(KeyError):  # of a revision that did not know whose destinations there are
                url = rendering.destinations.url_of(task, name, image.image_id, image.format)
                payload["url"] = url
        return payload

    def _delivery(self, destination: str | None, rendering: Rendering) -> Payload:
        payload = super()._delivery(destination, rendering)
        error = payload.get("destination", {}).get("error")
        if error is not None:
            error["provider_response"] = defaults.PROVIDER_RESPONSE
        return payload

    def _analysis(self, task: SimulatedTask, request: AnalysisRequest) -> Payload:
        payload = super()._analysis(task, request)
        del payload["url"]
        if payload.get("score") == _BEST_SCORE:
            payload["findings"] = []
        return payload


def sign_standard(event_id: str, at_s: int, body: bytes, secret: str) -> str:
    """The signature of Standard Webhooks: HMAC-SHA256 over id, time and raw body."""
    key = b64decode(secret.removeprefix(STANDARD_PREFIX))
    message = f"{event_id}.{at_s}.".encode() + body
    return "v1," + b64encode(hmac.digest(key, message, "sha256")).decode()


def _new_kind_of(secret: str) -> str:
    # Registered webhooks got new secrets with this revision: one of the earlier kind is replaced
    # by one that is made of it.
    if is_standard_secret(secret):
        return secret
    if secret == defaults.WEBHOOK_SECRET:
        return defaults.STANDARD_WEBHOOK_SECRET
    return STANDARD_PREFIX + b64encode(hashlib.sha256(secret.encode()).digest()).decode()


def _host_of(url: str) -> str:
    """``scheme://host`` of a URL whose path may hold a secret."""
    match = re.match(r"(\w+://)(?:[^/?#]*@)?([^/?#]*)", url)
    return "" if match is None else match[1] + match[2]


# The catalogue. Modes and 4k prices of image models follow from the table of capabilities. Which
# inputs a model takes, and how many, is invented, as are most prices.


_FRAMES = ("first_frame", "last_frame")
_VIDEO_MODELS = (  # listed, though this simulator makes no videos
    ("bytedance/seedance-2.0-mini", "Seedance 2.0 Mini", _FRAMES),
    ("google/gemini-omni-flash-1.1", "Gemini Omni Flash 1.1", _FRAMES),
    ("prunaai/p-video", "P-Video", _FRAMES[:1]),
    ("xai/grok-imagine-video-1.5", "Grok Imagine Video 1.5", _FRAMES[:1]),
)


def _image_model(model: Model, prices: PriceBook) -> Payload:
    modes: Payload = {"txt->img": {}}
    if model.can(INPUTS):
        modes["img->img"] = {"inputs": _inputs_of(model.model_id)}
    return {
        "id": model.model_id,
        "display_name": model.label,
        "type": "image",
        "modes": modes,
        "pricing": pricing_of(prices[model.model_id], "per_image", "per_input")
        if model.is_known
        else None,
    }


def _inputs_of(model_id: str) -> Payload:
    split = defaults.SPLIT_INPUTS_MAX.get(model_id)
    if split is None:
        most = defaults.INPUTS_MAX
        return {"rules": [{"type": "image", "min": 1, "max": most}], "max_total": most}
    kinds = zip(("source", "reference"), split, strict=True)
    return {"rules": [{"type": "image", "kind": kind, "max": most} for kind, most in kinds]}


def _video_model(model_id: str, label: str, kinds: tuple[str, ...]) -> Payload:
    rules = [{"type": "image", "kind": kind, "max": 1} for kind in kinds]
    inputs = {"rules": rules, "max_total": len(rules)}
    pricing: Payload | None = None
    if model_id in defaults.VIDEO_PRICES_USD:
        tiers, audio = defaults.VIDEO_PRICES_USD[model_id]
        per_second = {tier: format_price(units_of(usd)) for tier, usd in tiers.items()}
        pricing = {"per_second": per_second}
        if audio is not None:
            pricing["audio"] = {"per_second": format_price(units_of(audio))}
    return {
        "id": model_id,
        "display_name": label,
        "type": "video",
        "modes": {"txt->vid": {}, "img->vid": {"inputs": inputs}},
        "pricing": pricing,
    }


# Request bodies.


class _AutoSize(Body):
    type: Literal["auto", "aspect_ratio"]

    @property
    def word(self) -> str:
        """The same size as a word."""
        return "auto"


class _RatioSize(_AutoSize):
    aspect_ratio: Annotated[str, one_of(SIZE_RATIOS)]
    scale: Literal["base", "4k"] = "base"

    @property
    def word(self) -> str:
        return self.aspect_ratio + ("_4k" if self.scale == "4k" else "")


class _Source(Body):
    type: Literal["url"]
    url: WebUrl


class _Input(Body):
    type: Literal["image"]
    role: Annotated[str, one_of(_LIMITS.input_roles)] = Field(default="auto", alias="as")
    source: _Source


class _Level(RatingLevelBody):
    model_config = ConfigDict(extra="forbid")


class _Scale(Body):
    mode: Literal["nsfw_sfw", "custom"] = "nsfw_sfw"

    @property
    def values(self) -> tuple[str, ...]:
        """The scale, mildest first."""
        return LEVELS_DEFAULT


class _CustomScale(_Scale):
    levels: Annotated[list[_Level], LEVELS_BOUNDS]

    @property
    def values(self) -> tuple[str, ...]:
        return tuple(level.value for level in self.levels)


class _Target(Body):
    url: WebUrl


class _Webhooks(Body):
    registered: bool = True
    custom: list[_Target] = Field(default_factory=list, max_length=_LIMITS.custom_webhooks_max)


class _Output(Body):
    format: Annotated[str, one_of(OUTPUT_FORMATS)] = ""


class _TransparentOutput(_Output):
    format: Annotated[str, one_of(["png", "webp"])] = ""


class _ImageBody(Body):
    """The options that every request for an image has, whatever it asks for."""

    output: _Output = Field(default_factory=_Output)
    webhook: _Webhooks = Field(default_factory=_Webhooks)
    generate_public_access_token: bool = False
    metadata: Metadata = Field(default_factory=dict)
    destination: Slug = Field(default="", max_length=_LIMITS.destination_max_chars)

    def options(self) -> dict[str, Any]:
        """The same in the words of a `TaskRequest`."""
        return {
            "format": self.output.format or None,
            "wants_token": self.generate_public_access_token,
            "destination": self.destination or None,
            "webhook_urls": tuple(target.url for target in self.webhook.custom),
            "silences_registered": not self.webhook.registered,
            "intent_tag": intent_tag_in(self.metadata),
        }


class _GenerateBody(_ImageBody):
    prompt: str = Field(max_length=_LIMITS.prompt_max_chars)
    negative_prompt: str = Field(default="", max_length=_LIMITS.negative_prompt_max_chars)
    magic_prompt: bool = False
    model: Text = AUTO_MODEL
    size: Annotated[str | _AutoSize, size_as(_AutoSize, _RatioSize)] = "auto"
    count: Whole = Field(default=1, ge=_LIMITS.count_min, le=_LIMITS.count_max)
    inputs: list[Annotated[str | _Input, either(dict, _Input, WebUrl)]] = Field(
        default_factory=list, max_length=_LIMITS.inputs_max
    )
    rating: Annotated[bool | _Scale, rating_as(_Scale, _CustomScale)] = False


class _AltBody(Body):
    url: WebUrl


class _RateBody(_Scale, _AltBody):
    pass


class _CustomRateBody(_CustomScale, _RateBody):
    pass


class _ReviewBody(_AltBody):
    effort: Literal["low", "high"] = "high"


class _Factor(Body):
    type: Literal["scale"]
    factor: Literal[2, 4]


class _UpscaleBody(_ImageBody):
    url: WebUrl
    size: Annotated[str | _Factor, either(dict, _Factor, Literal["2x", "4x"])]
    effort: Literal["low", "high"]


class _RemoveBackgroundBody(_ImageBody):
    url: WebUrl
    output: _TransparentOutput = Field(default_factory=_TransparentOutput)


def _check_events(events: list[str]) -> list[str]:
    if "all" in events and len(events) > 1:
        raise ValueError("must be all alone, or names without it")
    return events


_TASK_TYPES = (
    *("image.generate", "image.rate", "image.alt", "image.review"),
    *("image.remove_background", "image.upscale", "video.generate"),
)
_EVENTS = (
    *("all", "task.completed", "task.failed"),
    *(f"task.{kind}.{end}" for kind in _TASK_TYPES for end in ("completed", "failed")),
)


class _WebhookBody(Body):
    url: WebUrl
    events: Annotated[
        list[Annotated[str, one_of(_EVENTS)]], Field(min_length=1), AfterValidator(_check_events)
    ]
    enabled: bool = True
    api_key_ids: list[str] | None = None
    include_session_tasks: bool = False
