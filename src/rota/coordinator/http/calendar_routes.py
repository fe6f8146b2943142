"""The routes of calendars, for the table of all routes."""

from __future__ import annotations

from typing import Final

from rota.coordinator.http.calendars import (
    CALENDARS_PATH,
    CalendarBody,
    CalendarJson,
    FireJson,
    NamedCalendarBody,
    add_calendar,
    calendar_history,
    get_calendar,
    list_calendars,
    pause_calendar,
    put_calendar,
    remove_calendar,
    resume_calendar,
    run_calendar,
)
from rota.coordinator.http.endpoint import Body, Documented, Endpoint
from rota.coordinator.http.render import TaskJson
from rota.core.errors import Conflict, NotFound, Overloaded, TooLarge, Unavailable

__all__ = ["CALENDARS"]

_ONE: Final = CALENDARS_PATH + "/{name}"

CALENDARS: Final = (
    Endpoint(
        method="GET",
        path=CALENDARS_PATH,
        summary="List the calendars",
        handler=list_calendars,
        answers=(Documented(200, "All of them, by name.", list[CalendarJson]),),
        errors=(Unavailable,),
        group="calendars",
    ),
    Endpoint(
        method="POST",
        path=CALENDARS_PATH,
        summary="Add a calendar: a task that is submitted at the fire times of a cron expression",
        handler=add_calendar,
        body=Body("What it is to say.", NamedCalendarBody),
        answers=(
            Documented(201, "It is new.", CalendarJson),
            Documented(200, "One of this name was there, and says the same.", CalendarJson),
        ),
        errors=(Conflict, TooLarge, Unavailable),
        group="calendars",
    ),
    Endpoint(
        method="GET",
        path=_ONE,
        summary="Show a calendar",
        handler=get_calendar,
        answers=(Documented(200, "The calendar.", CalendarJson),),
        errors=(NotFound, Unavailable),
        group="calendars",
    ),
    Endpoint(
        method="PUT",
        path=_ONE,
        summary="Add a calendar, or have one say something else from now on",
        handler=put_calendar,
        body=Body("What it is to say.", CalendarBody),
        answers=(
            Documented(200, "It was there before.", CalendarJson),
            Documented(201, "It is new.", CalendarJson),
        ),
        errors=(Conflict, TooLarge, Unavailable),
        group="calendars",
    ),
    Endpoint(
        method="DELETE",
        path=_ONE,
        summary="Remove a calendar; its tasks stay",
        handler=remove_calendar,
        answers=(Documented(200, "The calendar as it was.", CalendarJson),),
        errors=(NotFound, Unavailable),
        group="calendars",
    ),
    Endpoint(
        method="POST",
        path=_ONE + "/pause",
        summary="Let a calendar make nothing; what comes meanwhile is forgotten",
        handler=pause_calendar,
        answers=(Documented(200, "The calendar, paused.", CalendarJson),),
        errors=(NotFound, Unavailable),
        group="calendars",
    ),
    Endpoint(
        method="POST",
        path=_ONE + "/resume",
        summary="Undo a pause",
        handler=resume_calendar,
        answers=(Documented(200, "The calendar.", CalendarJson),),
        errors=(NotFound, Unavailable),
        group="calendars",
    ),
    Endpoint(
        method="POST",
        path=_ONE + "/run",
        summary="Make a task of a calendar now, whatever it says",
        handler=run_calendar,
        answers=(Documented(201, "The task.", TaskJson),),
        errors=(NotFound, Conflict, Overloaded, Unavailable),
        group="calendars",
    ),
    Endpoint(
        method="GET",
        path=_ONE + "/history",
        summary="Say what became of the latest fire times of a calendar, the latest first",
        handler=calendar_history,
        answers=(Documented(200, "Up to 100 lines.", list[FireJson]),),
        errors=(NotFound, Unavailable),
        group="calendars",
    ),
)
