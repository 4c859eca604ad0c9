"""The arguments of the application: replicas and their resources, and every setting of `serve`."""

from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial
from typing import Annotated, Any, Self, cast, get_args, get_type_hints

from cyclopts import App, Parameter
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    create_model,
    model_validator,
)

from sie_server.catalog.catalog import parse, shipped
from sie_server.settings import Settings

# Settings of `serve` that are Ray's here, and where Ray has them.
_OF_RAY = {
    "host": "Ray's proxies listen: set http_options.host of the Serve config, or RAY_SERVE_DEFAULT_HTTP_HOST",
    "port": "Ray's proxies listen: set http_options.port of the Serve config, or `serve start --http-port`",
    "max_connections": "Ray's proxies accept the connections, without a limit on their number",
    "drain_notice_s": "Ray stops sending requests to a replica before it shuts it down",
}


def _list(value: Any) -> Any:
    """`serve run` gives every value as a text: the parts of a list are separated by commas, as in the environment."""
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


def _checked(check: Callable[[Any, Any], None], kind: Any, value: Any) -> Any:
    check(kind, value)
    return value


def _setting(hint: Any) -> Any:
    """The type of a setting, with the checks that its flag has."""
    kind, *metadata = get_args(hint)
    checks: list[Any] = []
    for parameter in metadata:
        assert isinstance(parameter, Parameter)
        if kind == tuple[str, ...]:
            checks.append(BeforeValidator(_list))
        validators = cast(tuple[Callable[[Any, Any], None], ...], parameter.validator)  # cyclopts makes a tuple of it
        checks += [AfterValidator(partial(_checked, check, kind)) for check in validators]
    return Annotated[(kind, *checks)] if checks else kind


class _OfReplicas(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    models: Annotated[tuple[str, ...], BeforeValidator(_list)] = ()
    replicas: PositiveInt | None = None
    min_replicas: PositiveInt | None = None
    max_replicas: PositiveInt | None = None
    target_queue_seconds: PositiveFloat = 0.5
    upscale_delay_s: NonNegativeFloat = 5.0
    downscale_delay_s: NonNegativeFloat = 300.0
    max_surge_percent: Annotated[int, Field(ge=1, le=100)] = 25
    num_cpus: NonNegativeFloat = 1
    num_gpus: NonNegativeFloat = 0
    owners: PositiveInt = 1
    spill_seconds: PositiveFloat = 2.0

    @model_validator(mode="before")
    @classmethod
    def _decided_by_ray(cls, given: Any) -> Any:
        for name in _OF_RAY.keys() & given.keys():
            raise ValueError(f"{name} is not a setting here. {_OF_RAY[name]}")
        return given

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.min_replicas is not None and self.max_replicas is None:
            raise ValueError("min_replicas needs max_replicas: together they turn autoscaling on")
        if self.max_replicas is not None:
            if self.replicas is not None:
                raise ValueError("replicas is a fixed number: give it, or min_replicas and max_replicas")
            if self.max_replicas < (self.min_replicas or 1):
                raise ValueError(f"max_replicas {self.max_replicas} is less than min_replicas {self.min_replicas or 1}")
        device = self.__dict__["device"]
        if device.startswith("cuda") and not self.num_gpus:
            raise ValueError(f"device {device} needs num_gpus: Ray assigns GPUs to the replicas that ask for them")
        return self


_HINTS = get_type_hints(Settings, include_extras=True)
_SETTINGS: dict[str, Any] = {
    each.name: (_setting(_HINTS[each.name]), Field(each.default, repr=each.repr))
    for each in fields(Settings)
    if each.name not in _OF_RAY
}


class Arguments(create_model("_Settings", __base__=_OfReplicas, **_SETTINGS)):  # type: ignore[misc] # pydantic makes it
    """Arguments of the application; unknown ones are refused by name.

    models: to serve and to load before a replica is ready, as the argument of `serve`: a hub id, a folder, or
        NAME=FOLDER. Those of `model` are loaded when the first request for them arrives.
    replicas: how many, 1 by default. min_replicas, max_replicas: their bounds, if the number follows the load.
    target_queue_seconds: the seconds of queued work per replica that autoscaling aims at. upscale_delay_s,
        downscale_delay_s: how long it has to see a reason for more replicas, or for fewer.
    max_surge_percent: replicas that an update starts before it stops old ones, as a share of all; at least one.
    num_cpus, num_gpus: what Ray reserves for a replica. A replica has as many device threads as whole CPUs, unless
        `workers` says otherwise, and uses a GPU only if one is reserved.
    owners: replicas that load a model. spill_seconds: queued work of each of them, in seconds, beyond which others
        load it too.
    The others are the settings of `serve`, by their names in its TOML file. What is not given is read from the
    environment of the replica, as `serve` reads it.
    """

    def settings(self) -> Settings:
        """The settings of a replica, on the machine that it runs on.

        Raises:
            ValueError: a variable of the environment has a wrong value, or there is no folder of that name.
        """
        given = {name: getattr(self, name) for name in _SETTINGS if name in self.model_fields_set}
        settings = replace(_of_environment(), **given)
        if not settings.workers and not self.num_gpus:
            settings = replace(settings, workers=max(int(self.num_cpus), 1))
        if settings.device == "auto" and not self.num_gpus:
            settings = replace(settings, device="cpu")
        known = shipped()
        preload = tuple(parse(model, known).id for model in self.models)
        return replace(settings, model=(*self.models, *settings.model), preload=(*preload, *settings.preload))


def _of_environment() -> Settings:
    environment = App(help_flags=[], version_flags=[], result_action="return_value")

    @environment.default
    def given(*, settings: Settings = Settings()) -> Settings:
        return settings

    settings: Settings = environment([], exit_on_error=False, print_error=False)
    return settings
