"""
API revision 2026-08.

Successes are wrapped in ``data``; error bodies are flat with codes in upper case; an image that
succeeded says ``success``; requests are flat, with snake case for the newer fields.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator

from mynth_dagster.limits import AUTO_MODEL, LIMITS_BY_REVISION
from mynth_dagster.simulator import completion, defaults
from mynth_dagster.simulator.accounts import Key
from mynth_dagster.simulator.completion import ModelPrice, PriceBook, Rendering, SimulatedImage
from mynth_dagster.simulator.defaults import format_cost, format_price
from mynth_dagster.simulator.destinations import StoredDestination
from mynth_dagster.simulator.revision import Payload, RequestBody
from mynth_dagster.simulator.scenario import Quirks, TaskType
from mynth_dagster.simulator.tasks import AnalysisRequest, GenerateRequest, SimulatedTask
from mynth_dagster.simulator.v2026_04 import (
    LEVELS_DEFAULT,
    Access,
    AutoSize,
    CustomWebhooks,
    InputSource,
    Levels,
    Metadata,
    Output,
    RatioSize,
    Revision202604,
    WebhookBody,
    check_choices,
    events_of,
    size_as,
)
from mynth_dagster.simulator.validation import (
    Body,
    ErrorCode,
    LenientBody,
    Refusal,
    Slug,
    StrictableBody,
    Text,
    Url,
    Whole,
    either,
    has_word,
    intent_tag_in,
    one_of,
    read_body,
)
from mynth_dagster.simulator.webhooks import WebhookSpec

_LIMITS = LIMITS_BY_REVISION["2026-08"]


class Revision202608(Revision202604):
    """The revision of the summer of 2026."""

    name = "2026-08"
    limits = _LIMITS
    rates_at_once = False
    routes = (Revision202604.routes - {"GET /tasks/:id/results"}) | {
        "POST /image/generate/estimate",
        "POST /image/alt",
        "POST /image/review",
        "GET /tasks",
        "GET /tasks/:id/result",
        "GET /models",
        "GET /me",
        "GET /balance",
        "POST /destinations",
        "GET /destinations",
        "GET /destinations/:id",
        "PUT /destinations/:id",
        "DELETE /destinations/:id",
        "POST /destinations/:id/test",
    }

    def read_generate(self, body: RequestBody, quirks: Quirks, *, strict: bool) -> GenerateRequest:
        asked = read_body(_GenerateBody, body, strict=strict)
        check_choices(asked.prompt, asked.output if "output" in body else None, quirks)
        size = asked.size if isinstance(asked.size, str) else asked.size.word
        rating = _Scale() if asked.rating is True else asked.rating or None
        return GenerateRequest(
            prompt=asked.prompt,
            negative_prompt=asked.negative_prompt or None,
            model=asked.model,
            size=size.removesuffix("_4k"),
            is_4k=size.endswith("_4k"),
            count=asked.count,
            format=asked.output.format,
            quality=asked.output.quality,
            n_inputs=len(asked.inputs),
            enhancement="magic" if asked.magic_prompt else "off",
            rating_levels=None if rating is None else rating.values,
            rates_custom=rating is not None and rating.mode == "custom",
            wants_token=asked.access.pat.enabled,
            destination=asked.destination or None,
            webhook_urls=tuple(target.url for target in asked.webhook.custom),
            silences_registered=not asked.webhook.dashboard,
            intent_tag=intent_tag_in(asked.metadata),
        )

    def read_analysis(
        self, task_type: TaskType, body: RequestBody, *, strict: bool
    ) -> AnalysisRequest:
        if task_type == "image.rate":
            is_custom = body.get("mode") == "custom"
            model = _CustomRateBody if is_custom else _RateBody
            rate: _RateBody = read_body(model, body, strict=strict)
            return AnalysisRequest(type=task_type, urls=(rate.url,), levels=rate.values)
        asked = read_body(
            _AltBody if task_type == "image.alt" else _ReviewBody, body, strict=strict
        )
        return AnalysisRequest(type=task_type, urls=(asked.url,))

    def read_webhook(self, body: RequestBody) -> WebhookSpec:
        asked = read_body(_WebhookBody, body)
        return WebhookSpec(asked.enabled, asked.url, asked.events)

    def wrap(self, data: object) -> object:
        return {"data": data}

    def error_body(
        self, error: ErrorCode, refusal: Refusal, status: int, quirks: Quirks
    ) -> Payload:
        key = "error" if quirks.error_body == "flat_error" else "message"
        payload = {"code": error.code.upper(), key: refusal.message, **refusal.extra}
        return {"error": payload} if quirks.error_body == "nested" else payload

    def created(self, task: SimulatedTask, token: str | None) -> Payload:
        payload: Payload = {
            "taskId": task.task_id,
            "estimatedCost": format_price(task.reserved),
        }
        if token is not None:
            payload["access"] = {"publicAccessToken": token}
        return payload

    def result(self, task: SimulatedTask, rendering: Rendering) -> Payload:
        """Four keys; a task without a result has null."""
        return {
            "id": task.task_id,
            "type": task.type,
            "status": task.status,
            "result": self._result(task, rendering),
        }

    def detail(self, task: SimulatedTask, rendering: Rendering) -> Payload:
        tells_errors = task.status == "failed" and not task.shows_images
        payload = super().detail(task, rendering)
        payload["errors"] = self._errors(task) if tells_errors else None
        payload.setdefault("result", None)
        return payload

    def task_page(self, tasks: Iterable[SimulatedTask]) -> list[Payload]:
        return [
            {
                "id": task.task_id,
                "type": task.type,
                "status": task.status,
                "cost": self._cost(task),
                **self._times(task),
            }
            for task in tasks
        ]

    def event(self, task: SimulatedTask, rendering: Rendering) -> Payload:
        """What a failed task lacks is absent."""
        payload = super().event(task, rendering)
        if rendering.quirks.event_tells_cost:
            payload["task"]["cost"] = self._cost(task)
        if task.status == "failed":
            payload["errors"] = self._errors(task)
        return payload

    def models(self, prices: PriceBook) -> list[Payload]:
        """The catalogue; ``auto`` only where the scenario lists it."""
        priced = [(model_id, m.label, prices[model_id]) for model_id, m in prices.models.items()]
        if prices.lists_auto:
            priced.insert(0, (AUTO_MODEL, "Auto", ModelPrice(prices.auto_ceiling, None, None)))
        return [
            {"id": it, "displayName": label, "pricing": pricing_of(price, "perImage", "perInput")}
            for it, label, price in priced
        ]

    def estimate(self, units: int, kind: str) -> Payload:
        return {"estimatedCost": format_price(units), "currency": "usd", "estimateKind": kind}

    def me(self, key: Key, now_us: int) -> Payload:
        preview = f"{key.secret[:6]}…{key.secret[-2:]}"
        api_key = {"id": key.key_id, "name": key.name, "keyPreview": preview}
        return {"userId": key.user_id, "auth": {"method": "api-key", "apiKey": api_key}}

    def balance(self, key: Key, now_us: int) -> Payload:
        """The account's money, and the key's limit if it has one."""
        payload: Payload = {
            "balance": format_price(key.account.balance),
            "reserved": format_price(key.account.reserved),
            "available": format_price(key.account.available),
            "currency": "usd",
        }
        if key.limit is not None:
            used = key.used(now_us)
            payload["apiKey"] = {
                "spendingLimit": format_price(key.limit),
                "spendingLimitPeriod": key.limit_period,
                "usedInPeriod": format_price(used),
                "remainingInPeriod": format_price(max(key.limit - used, 0)),
            }
        return payload

    def destination(self, destination: StoredDestination) -> Payload:
        config = {"path_template": destination.spec.path_template}
        if destination.spec.url_template is not None:
            config["url_template"] = destination.spec.url_template
        return {
            "id": destination.destination_id,
            "name": destination.spec.name,
            "provider": dict(destination.spec.provider),
            "config": config,
            **self._times(destination),
        }

    def _errors(self, task: SimulatedTask) -> list[Payload]:
        return [] if task.outcome.code is None else [self._error(task.outcome.code)]

    def _error(self, code: str) -> Payload:
        return {"code": self._code(code), "message": completion.message_of(code)}

    def _code(self, code: str) -> str:
        return code

    def _result(self, task: SimulatedTask, rendering: Rendering) -> Payload | None:
        request = task.request
        if isinstance(request, AnalysisRequest):
            return self._analysis(task, request) if task.status == "completed" else None
        if not task.shows_images or not isinstance(request, GenerateRequest):
            return None
        payload: Payload = {
            "model": task.outcome.model,
            "images": self._images(task, rendering),
        }
        if request.enhancement == "magic":
            payload["magic_prompt"] = {"positive": request.prompt + defaults.MAGIC_SUFFIX}
            if request.negative_prompt is not None:
                payload["magic_prompt"]["negative"] = request.negative_prompt
        return payload

    def _images(self, task: SimulatedTask, rendering: Rendering) -> list[Payload]:
        request = task.request
        assert isinstance(request, GenerateRequest)
        payloads: list[Payload] = []
        for image in completion.images_of(task, rendering.base_url):
            if image.error_code is not None:
                payloads.append({"status": "failed", "error": self._error(image.error_code)})
                continue
            payload = {"status": "success", **self._image(image, task, rendering)}
            if image.level is not None and rendering.is_unratable(request):
                error = {"code": self._code(defaults.RATING_FAILED)}
                payload["rating"] = {"status": "failed", "error": error}
            elif image.level is not None:
                payload["rating"] = {"status": "success", "level": image.level}
            payloads.append(payload)
        return payloads

    def _image(self, image: SimulatedImage, task: SimulatedTask, rendering: Rendering) -> Payload:
        format_image_cost = format_price if rendering.quirks.image_cost_trimmed else format_cost
        return {
            "id": image.image_id,
            "url": None if rendering.has_no_url(image.destination) else image.url,
            "mynth_url": image.url,
            "size": image.pixels,
            "cost": format_image_cost(image.cost),
            **self._delivery(image.destination, rendering),
        }

    def _delivery(self, destination: str | None, rendering: Rendering) -> Payload:
        if destination is None:
            return {}
        payload: Payload = {"status": "success", "name": destination}
        if destination in rendering.scenario.failing_destinations:
            code = self._code(defaults.DESTINATION_FAILED)
            error = {"code": code, "message": defaults.DESTINATION_TEXT}
            payload |= {"status": "failed", "error": error}
        return {"destination": payload}

    def _analysis(self, task: SimulatedTask, request: AnalysisRequest) -> Payload:
        url = request.urls[0]
        if request.type == "image.rate":
            _, level = next(completion.ratings_of(task))
            return {"url": url, "level": level}
        if request.type == "image.alt":
            return {"url": url, "alt": completion.alt_text_of(task, url)}
        return {
            "url": url,
            "score": completion.score_of(task, url),
            "summary": defaults.REVIEW_SUMMARY,
            "findings": [dict(defaults.REVIEW_FINDING)],
            "strengths": [dict(defaults.REVIEW_STRENGTH)],
        }


def pricing_of(price: ModelPrice, per_image: str, per_input: str) -> Payload:
    """What a model costs, under the names that a revision has for it."""
    by_size = {"base": format_price(price.base)}
    if price.four_k is not None:
        by_size["4k"] = format_price(price.four_k)
    payload: Payload = {per_image: by_size}
    if price.per_input is not None:
        payload[per_input] = format_price(price.per_input)
    return payload


# Request bodies.


class _Output(Output):
    quality: Whole = Field(default=defaults.QUALITY, ge=_LIMITS.quality_min, le=_LIMITS.quality_max)


class _Input(StrictableBody):
    type: Literal["image"]
    role: Annotated[str, one_of(_LIMITS.input_roles)] = Field(default="auto", alias="as")
    source: InputSource


class _Scale(LenientBody):
    mode: Literal["nsfw_sfw", "custom"] = "nsfw_sfw"
    levels: Any = None  # only looked at in custom mode

    @property
    def values(self) -> tuple[str, ...]:
        """The scale, mildest first."""
        return LEVELS_DEFAULT


class _CustomScale(_Scale):
    levels: Levels

    @property
    def values(self) -> tuple[str, ...]:
        return tuple(level.value for level in self.levels)


class _Webhooks(LenientBody):
    dashboard: Annotated[bool, one_of([False])] = True
    custom: CustomWebhooks = Field(default_factory=list)


def rating_as(scale: type[Body], custom_scale: type[Body]) -> PlainValidator:
    """``true``, or one of two objects; also in 2026-10."""
    either_scale = either(has_word("mode", "custom"), custom_scale, scale)
    return either(bool, Literal[True], Annotated[Any, either_scale])


_ImageUrl = Annotated[Url, Field(max_length=_LIMITS.input_url_max_chars)]


class _GenerateBody(StrictableBody):
    prompt: str = Field(max_length=_LIMITS.prompt_max_chars)
    negative_prompt: Text = Field(default="", max_length=_LIMITS.negative_prompt_max_chars)
    magic_prompt: Annotated[bool, one_of([True])] = False
    model: Text = AUTO_MODEL
    size: Annotated[str | AutoSize, size_as(AutoSize, RatioSize)] = "auto"
    count: Whole = Field(default=1, ge=_LIMITS.count_min, le=_LIMITS.count_max)
    output: _Output = Field(default_factory=_Output)
    inputs: list[Annotated[str | _Input, either(dict, _Input, _ImageUrl)]] = Field(
        default_factory=list, max_length=_LIMITS.inputs_max
    )
    rating: Annotated[bool | _Scale, rating_as(_Scale, _CustomScale)] = False
    webhook: _Webhooks = Field(default_factory=_Webhooks)
    access: Access = Field(default_factory=Access)
    destination: Slug = Field(default="", max_length=_LIMITS.destination_max_chars)
    metadata: Metadata = Field(default_factory=dict)


class _AltBody(StrictableBody):
    url: _ImageUrl


class _RateBody(_Scale, _AltBody):
    pass


class _CustomRateBody(_CustomScale, _RateBody):
    pass


class _ReviewBody(_AltBody):
    effort: Literal["low", "high"] = "high"


_TASK_TYPES = ("image.generate", "image.rate", "image.alt", "image.review")


class _WebhookBody(WebhookBody):
    events: Annotated[
        str | list[str],
        events_of(
            *("all", "task.completed", "task.failed"),
            *(f"task.{kind}.{end}" for kind in _TASK_TYPES for end in ("completed", "failed")),
        ),
    ]
