"""The five-field cron line of the nightly cleanup."""

from __future__ import annotations

from celery.schedules import ParseException, crontab


def parse_cron(line: str) -> crontab:
    """``minute hour day month weekday`` as Celery's schedule.

    Raises:
        ValueError: the line is not valid. The message is one line.
    """
    fields = line.split()
    if len(fields) != 5:
        raise ValueError(f"it has {len(fields)} fields, not five")
    try:
        minute, hour, day, month, weekday = fields
        return crontab(minute=minute, hour=hour, day_of_month=day, month_of_year=month, day_of_week=weekday)
    except (ParseException, ValueError) as error:
        raise ValueError(str(error) or "a field cannot be read") from None
