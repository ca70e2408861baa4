"""What `bundle doctor` says."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from bundler.cli.render.words import as_json, as_lines, human_size

if TYPE_CHECKING:
    from bundler.gateway.doctor import Diagnosis, Probe
    from bundler.gateway.space import Need


def doctor_text(diagnosis: Diagnosis) -> str:
    """Say what was found, a thing to look at on a line of its own."""
    lines = [f"aria2c     {diagnosis.aria2c or 'NONE'}: {diagnosis.aria2c_says}"]
    for probe in diagnosis.probes:
        lines += _endpoint_lines(probe)
    if diagnosis.refusal is not None:
        lines.append(f"manifest   CANNOT BE BUILT: {diagnosis.refusal}")
    lines += [f"space      {_space(need, known=diagnosis.locked)}" for need in diagnosis.needs]
    return as_lines([*lines, f"clock      {_clock(diagnosis.ahead)}"])


def _endpoint_lines(probe: Probe) -> list[str]:
    answered = "no answer" if probe.seconds is None else f"answers in {probe.seconds * 1000:,.0f} ms"
    purpose = "" if probe.serves else ", asked only what a revision is"
    told = f"told the token of {probe.endpoint.token_found_in}" if probe.endpoint.token else "told no token"
    return [
        f"endpoint   {probe.endpoint.url} ({probe.endpoint.kind}{purpose}): {answered}",
        f"           {'ok' if probe.useful else 'NO USE'}: {probe.says}",
        f"           {told}; {f'by the proxy {probe.proxy}' if probe.proxy else 'no proxy'}"
        + (f"; trusts {probe.endpoint.ca}" if probe.endpoint.ca else ""),
    ]


def _space(need: Need, *, known: bool) -> str:
    if not known:
        return f"{need.place}: {human_size(need.free)} free; a lock will tell how much is needed"
    lacks = " TOO LITTLE" if need.needed > need.free else ""
    return f"{need.place}: {human_size(need.free)} free, {need.purpose} needs {human_size(need.needed)}{lacks}"


def _clock(ahead: timedelta | None) -> str:
    if ahead is None:
        return "no endpoint tells the time"
    seconds = ahead.total_seconds()
    if abs(seconds) < 60:
        return "right"
    return f"{abs(seconds) / 60:,.0f} minutes {'ahead' if seconds > 0 else 'behind'}: LINKS AND CERTIFICATES MAY FAIL"


def doctor_json(diagnosis: Diagnosis) -> str:
    """Say what was found."""
    failure = diagnosis.failure()
    return as_json(
        {
            "could_start": failure is None,
            "reason": str(failure) if failure else None,
            "aria2c": {"path": str(diagnosis.aria2c) if diagnosis.aria2c else None, "says": diagnosis.aria2c_says},
            "endpoints": [_endpoint_values(probe) for probe in diagnosis.probes],
            "space": [
                {
                    "place": str(need.place), "free": need.free, "purpose": need.purpose,
                    "needed": need.needed if diagnosis.locked else None,
                }
                for need in diagnosis.needs
            ],
            "clock_ahead_seconds": round(diagnosis.ahead.total_seconds()) if diagnosis.ahead is not None else None,
        }
    )


def _endpoint_values(probe: Probe) -> dict[str, object]:
    endpoint = probe.endpoint
    return {
        "url": endpoint.url,
        "kind": endpoint.kind,
        "serves_bytes": probe.serves,
        "useful": probe.useful,
        "says": probe.says,
        "milliseconds": round(probe.seconds * 1000) if probe.seconds is not None else None,
        "token_of": endpoint.token_found_in or None,
        "proxy": probe.proxy or None,
        "ca": str(endpoint.ca) if endpoint.ca else None,
    }
