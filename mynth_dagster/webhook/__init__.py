"""
The webhook receiver: verify, keep, acknowledge; nothing is worked inside a request.

`create_app` is an ASGI app to mount, `serve` runs it on a port of its own.
"""

from mynth_dagster.extras import require_extra

require_extra("webhook", "the webhook receiver")

from mynth_dagster.webhook.app import WebhookSettings as WebhookSettings  # noqa: E402
from mynth_dagster.webhook.app import create_app as create_app  # noqa: E402
