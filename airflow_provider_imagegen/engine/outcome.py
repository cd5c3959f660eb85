"""Sum up calls: the manifest, and the error that ends the task; decisions, without any I/O.

One task may ask for many images in several calls, and each call may end in another way: landed, billed but not
landed, refused, or unknown. Two questions are answered here.

*What was paid?* Costs and token counts are added from what the gateway reported. What it did not report is unknown,
never zero, so a sum with an unknown part is itself unknown.

*Which error is raised?* Of several, an unknown outcome first, then what no retry can cure, then the first one. A task
that always raised the first error would hide that another call may have been billed, or would be retried in vain.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from airflow_provider_imagegen.engine.plan import fingerprint
from airflow_provider_imagegen.exceptions import (
    NOT_NOW,
    FewerImages,
    GenerationFailed,
    ImageGenError,
    ModerationBlocked,
    OutcomeUnknown,
    PartialDelivery,
    PermanentError,
    RateLimited,
    TaskStopped,
    TaskTimeout,
    UnknownTask,
)
from airflow_provider_imagegen.gateways.base import Gateway
from airflow_provider_imagegen.gateways.responses import is_moderation
from airflow_provider_imagegen.money import NOTHING, UNKNOWN, Cost, shares, shares_of_tokens
from airflow_provider_imagegen.schemas import (
    ImageRequest,
    ImageTask,
    LandedImage,
    Manifest,
    MissingImage,
    OpenTask,
    SlotWait,
    Submission,
)
from airflow_provider_imagegen.schemas.base import time_now

OnPartial = Literal["fail", "accept"]

FEWER_IMAGES = "fewer_images"
"""Code of images that a gateway did not make although it was asked for them."""

SURPLUS = 9
"""Images beyond those asked for that are taken: one that is landed by its task id alone may be one of ten."""

_EXACT_SIZE = re.compile(r"\d+x\d+")


@dataclass(frozen=True)
class Refused:
    """Images that came to nothing, and why."""

    index: int
    count: int
    error: ImageGenError

    @property
    def missing(self) -> tuple[MissingImage, ...]:
        """One entry for every image."""
        indices = range(self.index, self.index + self.count)
        return tuple(MissingImage.because_of(self.error, index) for index in indices)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one call."""

    images: tuple[LandedImage, ...] = ()
    billed: int = 0
    usage: Mapping[str, object] = field(default_factory=dict)
    cost: Cost = NOTHING
    errors: tuple[Refused, ...] = ()

    def paid_by_others(self) -> Outcome:
        """Return it with a bill of nothing: another task instance has it on theirs."""
        return Outcome(images=self.images, errors=self.errors)


def priced(images: Mapping[int, LandedImage], made: int, usage: Mapping[str, object], cost: Cost) -> list[LandedImage]:
    """Return the images of one response with their shares of what it took."""
    costs, counts = shares(cost.total, made), shares_of_tokens(usage, made)
    return [
        image.model_copy(update={"cost": costs[position], "usage": counts[position]})
        for position, image in images.items()
    ]


def total_cost(outcomes: Iterable[Outcome]) -> Cost:
    """Return the sum of what calls cost."""
    return sum((outcome.cost for outcome in outcomes), NOTHING)


def shortfall(first_index: int, count: int, made: int) -> tuple[Refused, ...]:
    """Return what a call falls short of that made fewer images than it was asked for."""
    if made >= count:
        return ()
    fewer = GenerationFailed("the gateway made fewer images than asked", code=FEWER_IMAGES)
    return (Refused(first_index + made, count - made, fewer),)


def without_surplus(task: ImageTask, count: int) -> ImageTask:
    """Return a task without images far beyond what was asked for: thousands would fill the bucket and the bill."""
    return task.model_copy(update={"outputs": task.outputs[: count + SURPLUS]})


def most_severe(errors: Iterable[ImageGenError]) -> ImageGenError:
    """Return the error to stop with: an unknown outcome first, then what no retry cures, then the first."""

    # An unknown outcome hides a possible bill, and must not be covered by a sibling's error; what is permanent must
    # not be hidden by what a retry could cure.
    def mildness(error: ImageGenError) -> int:
        return 0 if isinstance(error, OutcomeUnknown) else 1 if isinstance(error, PermanentError) else 2

    return min(errors, key=mildness)


def place_in_line(errors: Sequence[ImageGenError], waited: SlotWait | None, *, is_held_up: bool) -> SlotWait | None:
    """Return the place of a request among those that wait for a slot; ``None`` if it need not, or is lost anyway.

    :param waited: The place that it had; it keeps it when it is refused again.
    :param is_held_up: Whether calls were not tried, because those before them hold all slots.
    """
    refusals = [error for error in errors if isinstance(error, NOT_NOW)]
    if any(isinstance(error, PermanentError) for error in errors) or not (refusals or is_held_up):
        return None
    now = time.time()
    asked = max((error.retry_after or 0.0 for error in refusals if isinstance(error, RateLimited)), default=0.0)
    known = waited or SlotWait(since=now)
    refused = any(not isinstance(error, TaskStopped) for error in refusals)
    return known.model_copy(update={"refusals": known.refusals + refused, "not_before": now + asked})


def total_usage(outcomes: Iterable[Outcome]) -> dict[str, int]:
    """Return the sum of the token counts."""
    total: Counter[str] = Counter()
    for outcome in outcomes:
        total.update({name: count for name, count in outcome.usage.items() if type(count) is int})
    return dict(total)


def tally(submission: Submission, tasks: Sequence[ImageTask]) -> str:
    """Return in words how the tasks ended."""
    counts = Counter(task.state for task in tasks)
    words = [f"{count} {state}" for state, count in counts.items()]
    if submission.landed:
        words.append(f"{len(submission.landed)} landed already")
    return ", ".join(words) or "nothing open"


def differences(request: ImageRequest, image: LandedImage) -> dict[str, str]:
    """Return in what an image is not what was asked for: the parameter, and what came instead."""
    came: dict[str, str] = {}
    if request.size and _EXACT_SIZE.fullmatch(request.size) and request.size != f"{image.width}x{image.height}":
        came["size"] = f"{image.width}x{image.height}"
    kind = image.key.rpartition(".")[2].replace("jpg", "jpeg")
    if request.output_format and request.output_format.replace("jpg", "jpeg") != kind:
        came["output_format"] = kind
    return came


def submission_of(
    request: ImageRequest,
    gateway: Gateway,
    results: Sequence[OpenTask | Outcome],
    submitted_at: float,
    deadline: float,
) -> Submission:
    """Sum up the submits of a request: open tasks, or outcomes of calls that are over already."""
    closed = [result for result in results if isinstance(result, Outcome)]
    cost = total_cost(closed)
    return Submission(
        submitted_at=submitted_at,
        deadline=deadline,
        open=tuple(result for result in results if isinstance(result, OpenTask)),
        landed=tuple(image for outcome in closed for image in outcome.images),
        failures=tuple(missing for outcome in closed for error in outcome.errors for missing in error.missing),
        billed=sum(outcome.billed for outcome in closed),
        usage=total_usage(closed),
        cost=cost.total,
        cost_at_least=cost.known,
        fingerprint=fingerprint(request, gateway),
    )


def manifest_of(
    request: ImageRequest, gateway: Gateway, submission: Submission, outcomes: Sequence[Outcome], uri: str
) -> Manifest:
    """Sum up what became of a request."""
    images = [*submission.landed, *(image for outcome in outcomes for image in outcome.images)]
    missing = [missing for outcome in outcomes for error in outcome.errors for missing in error.missing]
    failures = sorted([*submission.failures, *missing], key=lambda entry: entry.index)
    cost = _cost_of(submission) + total_cost(outcomes)
    # A sum that left out what may have been billed would look like the whole bill.
    if any(failure.billed == "unknown" for failure in failures):
        cost += UNKNOWN
    return Manifest(
        gateway=gateway.name,
        model=request.model,
        requested=request.n,
        delivered=len(images),
        billed=submission.billed + sum(outcome.billed for outcome in outcomes),
        reused=sum(image.reused for image in images),
        images=tuple(sorted(images, key=lambda image: image.index)),
        failures=tuple(failures),
        usage=dict(Counter(submission.usage) + Counter(total_usage(outcomes))),
        fingerprint=submission.fingerprint or fingerprint(request, gateway),
        created_at=time_now(),
        elapsed=round(time.time() - submission.submitted_at, 3),
        manifest_uri=uri if images else "",
        cost=cost.total,
        cost_at_least=cost.known,
        currency=gateway.settings.currency,
    )


def _cost_of(submission: Submission) -> Cost:
    """Return what submits cost; an older release has noted how many were billed, and no more."""
    return Cost(submission.cost_at_least, submission.cost is not None or not submission.billed)


def error_for(
    submission: Submission,
    manifest: Manifest,
    errors: Sequence[ImageGenError],
    on_partial: OnPartial,
    *,
    is_stopped: bool,
) -> ImageGenError | None:
    """Return the error that a manifest with missing images is reported by, with it; ``None`` if it is good enough.

    :param is_stopped: Whether the worker was told to stop, so that nothing says that a retry would get no more.
    """
    if manifest.images and manifest.delivered >= manifest.requested:
        return None
    known = [*errors, *(missing.as_error(manifest.gateway) for missing in submission.failures)]
    worst = _worst(known, manifest)
    # What a stop has cut short is nothing that a user has accepted.
    is_cut_short = is_stopped and not isinstance(worst, PermanentError)
    if manifest.images and on_partial == "accept" and not is_cut_short:
        return None
    error = with_billed(worst, manifest.billed, manifest.failures)
    error.result = manifest
    return error


def _worst(errors: Sequence[ImageGenError], manifest: Manifest) -> ImageGenError:
    worst = most_severe(errors) if errors else None
    if worst is not None and (not manifest.images or isinstance(worst, PermanentError)):
        return worst
    reasons = "; ".join(f"image {missing.index}: {missing.message}" for missing in manifest.failures)
    if not manifest.images:
        return GenerationFailed(f"no image landed ({reasons})", gateway=manifest.gateway)
    is_short_answer = all(missing.code == FEWER_IMAGES for missing in manifest.failures)
    # The gateway made fewer than asked, and would again: unlike what failed on its way to S3, no retry gets more.
    kind = FewerImages if is_short_answer else PartialDelivery
    summary = f"{manifest.delivered} of {manifest.requested} images landed ({reasons})"
    return kind(summary, gateway=manifest.gateway)


def with_billed(error: ImageGenError, billed: int, missing: Iterable[MissingImage]) -> ImageGenError:
    """Return an error that speaks for several calls, with the bill of all of them."""
    bills = {error.billed, *(entry.billed for entry in missing)}
    if billed or "yes" in bills:
        error.billed = "yes"
    elif "unknown" in bills:
        error.billed = "unknown"
    return error


def task_error(task: ImageTask, gateway: str, last_fault: ImageGenError | None = None) -> ImageGenError | None:
    """Return what is wrong with a task at the end of waiting, or ``None`` if it succeeded."""
    error = _end_of(task, last_fault)
    if error is not None:
        error.gateway, error.task_id, error.trace_id = gateway, task.task_id, task.trace_id
    return error


def _end_of(task: ImageTask, last_fault: ImageGenError | None) -> ImageGenError | None:
    if task.state == "succeeded":
        return None
    if task.failure is not None:
        # The same prompt is refused every time it is submitted, so that Airflow must not retry it.
        kind = ModerationBlocked if is_moderation(task.failure.code) else GenerationFailed
        return kind(f"the gateway gave up: {task.failure.message}", code=task.failure.code)
    if task.state in {"unseen", "lost"}:
        return UnknownTask("the gateway shows no such task")
    # The gateway may have finished it: the message must not claim that it was still generating.
    if last_fault is not None:
        return TaskTimeout(
            f"the deadline passed and the last lookup failed: {last_fault.message}",
            advice="A retry attaches to the task and looks again.",
        )
    return TaskTimeout("the deadline passed and the gateway was still generating")
