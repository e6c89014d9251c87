"""
Every number of the product: what Mynth documents, by revision, and what we chose ourselves.

Each documented limit names its source in the comment: ``seed`` is the vendor's page on errors
and limits (revision 2026-04), ``docs`` the other pages of that time, ``apiref`` the generated
API reference, ``cli`` and ``sdk`` the official clients of revision 2026-08; ``r3`` the official
SDK, command line and skill pages of revision 2026-10.
Where a source is silent the comment says so; the number is then ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType

KIB = 1024
MIB = 1024 * KIB

SIZE_PRESETS = ("square", "portrait", "landscape", "portrait_tall", "landscape_wide")  # docs, sdk
SIZE_RATIOS = (
    *("1:1", "2:3", "3:2", "3:4", "4:3", "4:5"),
    *("5:4", "9:16", "16:9", "21:9", "2:1", "1:2"),
)  # docs, sdk
SIZE_4K_SUFFIX = "_4k"
SIZES = (
    *("auto", *SIZE_PRESETS, *SIZE_RATIOS),
    *(f"{ratio}{SIZE_4K_SUFFIX}" for ratio in SIZE_RATIOS),
)
AUTO_SIZE_BY_MYNTH = "auto_mynth"  # our words for `{"type": "auto", "prefer": …}` of 2026-04
AUTO_SIZE_BY_MODEL = "auto_native"


AUTO_MODEL = "auto"
AUTO_CEILING_USD = "0.20"  # r3: what is held per image of `auto`


@dataclass(frozen=True)
class RevisionLimits:
    """
    What one API revision accepts.

    Lengths of text are in characters (Unicode code points), sizes in bytes.
    """

    revision: str
    count_max: int
    prompt_max_chars: int
    negative_prompt_max_chars: int
    quality_min: int | None  # None: the revision has no output quality
    inputs_max: int | None
    input_url_max_chars: int | None
    token_lifetime_s: int
    enhancements: tuple[str, ...]
    input_roles: tuple[str, ...]
    sizes: tuple[str, ...]
    destination_max_chars: int | None  # None: the revision has no destinations
    falls_back_from_4k: bool  # a model without 4k makes its usual size instead
    takes_data_uris: bool = True  # as input images; silent before 2026-10
    auto_takes_4k: bool = True  # `auto` may pick a model for a 4k size
    auto_takes_inputs: bool = True  # `auto` looks at input images
    catalog_tells_modes: bool = False  # what each model takes
    auto_reserved_usd: str | None = None  # held per image of `auto`; None: silent

    count_min: int = 1
    quality_max: int = 100
    custom_webhooks_max: int = 5  # seed; later revisions silent, 2026-10 says 5 again
    metadata_max_bytes: int = 2 * KIB  # seed, cli; measured as UTF-8 bytes of compact JSON (ours)
    rating_levels_min: int = 2  # seed
    rating_levels_max: int = 7  # seed
    rating_value_min_chars: int = 1  # docs
    rating_value_max_chars: int = 24  # seed
    rating_description_min_chars: int = 1  # docs
    rating_description_max_chars: int = 150  # seed
    upload_files_max: int = 10  # seed
    upload_file_min_bytes: int = KIB  # docs
    upload_file_max_bytes: int = 10 * MIB  # seed
    upload_formats: tuple[str, ...] = ("image/jpeg", "image/png", "image/webp")  # seed
    list_page_max: int = 100  # 2026-08 skill pages, r3
    url_lifetime_s: float | None = None  # of images; silent before 2026-10


LIMITS_BY_REVISION: MappingProxyType[str, RevisionLimits] = MappingProxyType(
    {
        "2026-04": RevisionLimits(
            revision="2026-04",
            count_max=100,  # seed
            prompt_max_chars=2056,  # seed
            negative_prompt_max_chars=2056,  # seed
            quality_min=0,  # docs
            inputs_max=None,  # silent
            input_url_max_chars=None,  # silent
            token_lifetime_s=3600,  # skill pages until 2026-06
            enhancements=("magic", "native"),  # docs: prefer_magic, prefer_native
            input_roles=("reference", "context", "init"),  # docs
            sizes=(*SIZES, AUTO_SIZE_BY_MYNTH, AUTO_SIZE_BY_MODEL),  # docs
            destination_max_chars=None,  # sdk: came two weeks after the seed pages
            falls_back_from_4k=True,  # docs
        ),
        "2026-08": RevisionLimits(
            revision="2026-08",
            count_max=20,  # apiref
            prompt_max_chars=8192,  # apiref
            negative_prompt_max_chars=8192,  # apiref
            quality_min=1,  # cli, sdk
            inputs_max=20,  # apiref
            input_url_max_chars=2048,  # apiref
            token_lifetime_s=7200,  # skill pages since 2026-06
            enhancements=("magic",),  # sdk: magic_prompt
            input_roles=("auto", "person", "garment", "pose", "source", "reference"),  # sdk
            sizes=SIZES,  # sdk
            destination_max_chars=64,  # apiref
            falls_back_from_4k=False,  # silent; later versions fail the task
        ),
        "2026-10": RevisionLimits(
            revision="2026-10",
            count_max=20,  # r3
            prompt_max_chars=8192,  # r3
            negative_prompt_max_chars=8192,  # silent; as in 2026-08
            quality_min=None,  # r3: an unknown field
            inputs_max=20,  # r3
            input_url_max_chars=None,  # silent
            token_lifetime_s=3600,  # r3
            enhancements=("magic",),  # r3: magic_prompt
            input_roles=("auto", "source", "reference"),  # r3
            sizes=SIZES,  # r3
            destination_max_chars=64,  # silent; as in 2026-08
            falls_back_from_4k=False,  # r3: the task fails
            takes_data_uris=False,  # r3: only http(s) is fetched
            auto_takes_4k=False,  # r3
            auto_takes_inputs=False,  # r3: they are ignored, and the image is charged
            catalog_tells_modes=True,  # r3
            auto_reserved_usd=AUTO_CEILING_USD,
            url_lifetime_s=7 * 86_400.0,  # r3
        ),
    }
)

REVISIONS: tuple[str, ...] = tuple(LIMITS_BY_REVISION)
"""The API revisions this package speaks, oldest first."""

OUTPUT_FORMATS = ("png", "jpg", "webp")  # docs, sdk

IMAGE_HOSTS = ("cdn.mynth.io",)  # cli, skill pages: where the bytes of images are


MONEY_SCALE = 8  # final costs carry eight decimals (docs, cli)

# -- ours -------------------------------------------------------------------------------------

INTENT_TAG_KEY = "mynth_dagster"
"""The one metadata key we reserve in every request, to recognise our own tasks."""
INTENT_TAG_MAX_BYTES = 80

CONCURRENCY_DEFAULT = 128  # requests in flight; the knee of the throughput curve we measured
CONNECT_TIMEOUT_S = 10.0
REQUEST_TIMEOUT_S = 60.0  # total, from the first attempt to connect to the last byte read
SEND_BY_S = 30.0  # an intent not handed to the transport this long after its commit is given back

POLL_INTERVAL_MIN_S = 0.25
POLL_INTERVAL_MAX_S = 20.0
TASK_DEADLINE_S = 1800.0  # the official clients' newest waiting budget: 30 minutes
POLL_FAILURES_MAX = 20  # consecutive failed reads before a wait gives up (official SDK, newest)

ABSENT_AFTER_S = 900.0  # a walk sooner than this after a lost request proves nothing
ABSENT_AGAIN_AFTER_S = 120.0  # between the two walks that have to agree
WALK_PAGES = (100, 73)  # two sizes: entries of equal time must not fall between pages twice
LOST_AFTER_MISSES = 3  # reads by id that found no such task …
LOST_AFTER_S = 3600.0  # … over this time make it lost

LEDGER_OUTAGE_MAX_S = 120.0  # how long a run waits for a database that is away

COST_MAX_USD = 1_000  # of one request; more is taken for a mistake, and its cost for unknown

EQUAL_REFUSALS_MAX = 10  # the same refusal this often in a row stops the run
REFUSALS_MAX = 30  # so many refused rows, of whatever kind …
REFUSALS_WITHIN = 100  # … among the newest answers stop it, too
UNKNOWN_IN_A_ROW_MAX = 10  # as many POSTs of unknown outcome in a row stop the run

RETRY_AFTER_MAX_S = 300.0  # a longer Retry-After ends the run, resumable, instead of holding it
RETRY_DELAY_MIN_S = 0.5
RETRY_DELAY_MAX_S = 30.0
NOT_SENT_RETRIES_MAX = 8  # rounds of "nobody answers" (about 90 s together) before a run ends

AUTO_RESUBMIT_AFTER_S = 300.0  # from the last try to a run that the sensor asks for by itself …
AUTO_RESUBMIT_PAUSE_FACTOR = 4  # … and so many times longer after each: 5, 20 and 80 minutes
AUTO_RESUBMITS_MAX = 3  # such runs for one partition …
AUTO_RESUBMITS_WITHIN_S = 6 * 3600.0  # … within this time

AUTO_RESUBMIT_GUARD_SHARE = 0.20  # a re-run that would pay again more than this share …
AUTO_RESUBMIT_GUARD_ROWS = 100  # … and more than this many of a partition's paid rows asks first
CONFIRM_ABOVE_USD = Decimal("0.10")  # so does more than this, where models or defaults changed

PROMPT_ID_MAX_BYTES = 1024  # with model, batch and window it is a key: Postgres takes 2,704 bytes
FOLDER_NAME_MAX_BYTES = 255  # of file systems; a partition's key is part of one

ANSWER_MAX_BYTES = 4 * MIB  # a page of the list, a catalogue; a longer answer is none
CREATED_MAX_BYTES = MIB  # the answer to a paid call: never one of the large ones, that may wait
STATUS_MAX_BYTES = 64 * KIB
TASK_MAX_BYTES = 16 * MIB  # of 100 images, with what their destinations say
LARGE_ANSWER_BYTES = MIB  # a longer answer is read further and decoded …
LARGE_ANSWERS_MAX = 4  # … beside no more than so many at a time

EXCERPT_MAX_CHARS = 200
ROWS_NAMED_MAX = 5  # row ids named in one error before "and N more"

WEBHOOK_PORT = 8788
WEBHOOK_BODY_MAX_BYTES = MIB  # an event of 100 images and the longest prompt has about 100 KiB
WEBHOOK_HEAD_MAX_BYTES = 16 * KIB
WEBHOOK_HEADERS_MAX = 64
WEBHOOK_REQUEST_TIMEOUT_S = 10.0  # for a sender to send the whole of a request
WEBHOOK_COMMIT_TIMEOUT_S = 10.0  # 503 after that; senders wait 30 s (documented since 2026-09)
WEBHOOK_WAITING_MAX = 2000  # events that wait for their COMMIT; more are answered 503
WEBHOOK_TOKEN_MIN_CHARS = 16  # of the secret in a custom endpoint's URL
EVENTS_KEPT_S = 30 * 86_400.0  # worked events are then forgotten
EVENTS_BATCH = 500  # events worked at a time
UNVERIFIED_TRIES_MAX = (
    8  # looks at a task that only an unsigned event calls finished (an hour in all)
)
UNVERIFIED_DELAY_S = 15.0  # before the second look, doubled after each

WEBHOOK_GRACE_S = 60.0  # a task that is likely to be announced is not polled before this
WEBHOOKS_ON_FOR_S = 7 * 86_400.0  # events older than this tell nothing of the next one
CLOCK_SKEW_MAX_S = 60.0  # more is worth a word: signatures older than 300 s are refused
BACKLOG_AGE_MAX_S = 600.0  # events that nobody worked for so long are worth a word
UNANNOUNCED_MAX_S = 300.0  # deliveries have stopped if a task finishes so much after the last …
UNANNOUNCED_MAX = 3  # … or so many tasks of which none was announced

UPLOAD_LIFETIME_S = 12 * 3600.0
"""How long an uploaded URL is used again: both revisions are silent, 2026-10 keeps files a day."""
UPLOADS_AHEAD_MAX = 1_000  # files uploaded before the first row is sent; more follow by row batch
UPLOADS_AT_ONCE = 2  # requests, each of up to ten files of 10 MB
INPUT_FILES_AT_ONCE = 16  # read at a time
INPUT_FILES_REMEMBERED = 100_000  # facts kept of so many files while a table is read
INPUT_PIXELS_MAX = 178_956_970  # where Pillow refuses to decode, against decompression bombs

READ_BATCH_ROWS = 8192  # prompt rows checked, planned and written at a time …
READ_BATCH_BYTES = 64 * MIB  # … unless they are larger than this, carried columns included
ROW_MAX_BYTES = 256 * MIB  # of one row; it is written once for each of its images
KEPT_BACK_MAX_BYTES = 256 * MIB  # of rows that wait for a row group to be full, over open tables
SENSOR_BUDGET_S = 30.0  # no request starts later; Dagster drops a tick after 60
SENSOR_READ_TIMEOUT_S = 10.0  # of each request of a tick, the first and the last beside these 30
DRAIN_GRACE_S = 20.0  # how long a cancelled run waits for the answers in flight

SENSOR_INTERVAL_S = 30
SHARDS_MAX = 1000
THUMBNAILS_MAX = 24  # shown of one partition
THUMBNAIL_PX = 160  # longer side
THUMBNAIL_MAX_BYTES = 4 * KIB  # of one WebP file; quality is lowered until it fits
PICTURE_MAX_BYTES = 48 * MIB  # a larger picture is neither kept nor shown
PICTURE_MAX_PIXELS = 64_000_000  # the same, by its dimensions; 4K images have 8 to 17 million
THUMBNAIL_DOWNLOADS = 4  # at once
THUMBNAILS_BUDGET_S = 60.0  # for all of a run; what is not there by then is left out

DOWNLOAD_CONCURRENCY = 8  # pictures at once
DOWNLOAD_CONCURRENCY_MAX = 64
DOWNLOAD_CHUNK_BYTES = MIB  # held of one picture: at most two of these, and what is uploaded
UPLOAD_PART_BYTES = 5 * MIB  # to an object store; the least that S3 takes, copied by its client
DOWNLOAD_TIMEOUT_S = 120.0  # of one try, redirects included
DOWNLOAD_IDLE_S = 15.0  # without a byte
DOWNLOAD_PACE_AFTER_S = 10.0  # a body that is still coming then has to come …
DOWNLOAD_PACE_MIN_BYTES_PER_S = 16 * KIB  # … at this pace
DOWNLOAD_TRIES = 3  # of one picture in one run, where the failure may pass
REDIRECTS_MAX = 3

INLINE_MARKDOWN_MAX_CHARS = 999  # Dagster's UI shows longer markdown only in a window
GALLERY_MAX_CHARS = 160_000  # of one metadata entry; what does not fit is counted instead
TABLE_ROWS_MAX = 20  # of a table in one metadata entry
